"""The test project under gunicorn, and visitors who ask it for pages."""

import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from pathlib import Path

from tests.servers.server import Server, find_program

ROOT = Path(__file__).resolve().parent.parent.parent
WORKERS, THREADS = 2, 4
VISITORS = 8
LONGEST = 10.0
"""Seconds that a visitor waits for anything; then the test fails."""

# Root without these must obey the permissions of files, as everybody else does.
PRIVILEGES = "-dac_override,-dac_read_search"


@dataclass(frozen=True)
class Answer:
    """What a visitor gets.

    Attributes:
        status: 200, unless something failed.
        body: The page.
        counts: What the process that answered has counted until then, and its `process` id.
    """

    status: int
    body: bytes
    counts: dict[str, int]


class Gunicorn(Server):
    """The test project, with the settings that are made for ill stores, on a free loopback port.

    Args:
        environment: Variables of its environment; none of the tests' own that decide about the
            cache is handed on.
        obeys_permissions: Even as root, read and write no file that its mode forbids.
    """

    def __init__(self, environment: Mapping[str, str], *, obeys_permissions: bool = False) -> None:
        super().__init__()
        self.environment = dict(environment)
        self.obeys_permissions = obeys_permissions

    def command(self) -> list[str]:
        environment = {
            "DJANGO_SETTINGS_MODULE": "tests.faults.site_settings",
            "HOME": str(self.directory),  # where gunicorn lays down a socket of its own
            "PYTHONPATH": str(ROOT),
            **self.environment,
        }
        unset = ("DEBUG", "DJANGO_JINJA_BCCACHE", "SECRET_KEY", "BYTECODE_CACHE")
        command = [find_program("env")]
        command += [word for name in unset for word in ("-u", name)]
        command += [f"{name}={value}" for name, value in environment.items()]
        if self.obeys_permissions and os.geteuid() == 0:
            command += [find_program("setpriv")]
            command += [f"--bounding-set={PRIVILEGES}", f"--inh-caps={PRIVILEGES}"]
        command += [sys.executable, "-m", "gunicorn", "--bind", self.address]
        command += ["--workers", str(WORKERS), "--threads", str(THREADS)]
        command += ["--keep-alive", "60", "--graceful-timeout", "2", "--log-level", "warning"]
        return [*command, "testproject.wsgi"]

    def answers(self) -> bool:
        try:
            with self.connection() as ask:
                return ask("/ready/").status == 200
        except (OSError, HTTPException):
            return False

    def log(self) -> list[str]:
        """The lines of everything that was written to the standard output and error."""
        return (self.directory / "server.log").read_text(errors="replace").splitlines()

    @contextmanager
    def connection(self) -> Iterator[Callable[[str], Answer]]:
        """Asks for one page after the other on one connection."""
        connection = HTTPConnection(self.host, self.port, timeout=LONGEST)

        def ask(path: str) -> Answer:
            connection.request("GET", path)
            response = connection.getresponse()
            body = response.read()
            return Answer(response.status, body, json.loads(response.getheader("X-Counts", "{}")))

        try:
            yield ask
        finally:
            connection.close()

    def get(self, paths: Sequence[str], *, per_connection: int = 5) -> list[Answer]:
        """Ask for pages, several at the same time; return the answers in the same order."""

        def visit(few: Sequence[str]) -> list[Answer]:
            with self.connection() as ask:
                return [ask(path) for path in few]

        # A new connection now and then, for each goes to one process.
        steps = range(0, len(paths), per_connection)
        with ThreadPoolExecutor(VISITORS) as visitors:
            pieces = visitors.map(visit, [paths[at : at + per_connection] for at in steps])
            return [answer for piece in pieces for answer in piece]
