"""Releases of the test project: copies of its templates, each of which shows its release."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.servers.gunicorn import Gunicorn

ROOT = Path(__file__).resolve().parents[2]
TEMPLATES = ROOT / "testproject" / "catalogue" / "jinja2"
WORKERS, THREADS = 2, 8
LONGEST = 60.0
"""Seconds after which a deployment counts as failed."""

MARK = re.compile(rb"\[release (\d+)\]")
# A block that is required holds nothing by its definition.
BLOCK = re.compile(r"(\{%-?\s*block\s+\w+(?:\s+scoped)?\s*-?%\})")

# Each page as a process without a cache answers it.
RENDER = """
import json, sys
import django
django.setup()
from django.test import Client
client = Client(HTTP_HOST=sys.argv[1])
answers = [(path, client.get(path)) for path in json.load(sys.stdin)]
assert all(answer.status_code == 200 for _, answer in answers)
print(json.dumps({path: answer.content.decode() for path, answer in answers}))
"""


class LoadError(Exception):
    """A command failed, or the server did not do as it was told."""


def marked(source: str, release: str) -> str:
    """A template that shows its release wherever it shows anything."""
    mark = f"[release {release}]"
    if "{% extends" in source:
        return BLOCK.sub(rf"\1{mark}", source)
    return mark + source


def without_marks(page: bytes) -> bytes:
    return MARK.sub(b"", page)


class Releases:
    """All releases, below one directory, and the server of the current one.

    Args:
        directory: Where to put them.
        pages_store: memcached's address as the server knows it.
        store: And as commands know it.
        cached: Whether the server uses the cache at all.
    """

    def __init__(
        self, directory: Path, pages_store: str, store: str, *, cached: bool = True
    ) -> None:
        self.directory = directory
        self.last = 0
        self.current = 0
        """The release of every process that serves pages."""
        self.environment = {
            "DJANGO_SETTINGS_MODULE": "testproject.load.settings",
            "LOAD_RELEASES": str(directory),
            "PYTHONPATH": str(ROOT),
        }
        self.commands = {**self.environment, "BYTECODE_CACHE": f"memcached://{store}"}
        served = {**self.environment, "BYTECODE_CACHE": f"memcached://{pages_store}"}
        # Else each thread fills an arena of its own in time, which looks like growth.
        served["MALLOC_ARENA_MAX"] = "1"
        if not cached:
            served["DJANGO_JINJA_BCCACHE"] = "off"
        self.server = LoadedGunicorn(served)

    def publish(self) -> int:
        """Write another release and warm the store for it."""
        release = str(self.last + 1)
        for file in TEMPLATES.rglob("*.*"):
            copy = self.directory / release / file.relative_to(TEMPLATES)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_text(marked(file.read_text(), release))
        self.last += 1
        self.manage("warm_bytecode", release=self.last)
        return self.last

    def deploy(self) -> None:
        """Have the server replace its processes by those of the last release, at its leisure."""
        current = self.directory / "current"
        current.with_suffix(".new").write_text(str(self.last))
        current.with_suffix(".new").replace(current)
        if self.server.running:
            old = self.workers()
            os.kill(self.master, signal.SIGHUP)
            end = time.monotonic() + LONGEST
            while set(old) & set(self.workers()) or len(self.workers()) < WORKERS:
                if time.monotonic() > end:
                    raise LoadError("gunicorn goes on with its old processes")
                time.sleep(0.05)
        else:
            self.server.start()
        self.current = self.last

    def manage(self, *arguments: str, release: int | None = None) -> str:
        """Run a command of `manage.py` for a release, the current one unless told."""
        return self._run("-m", "django", *arguments, LOAD_RELEASE=str(release or self.current))

    def plain_pages(self, paths: list[str]) -> dict[str, bytes]:
        """What Jinja2 alone makes of the pages, without marks."""
        pages = json.loads(
            self._run(
                "-c",
                RENDER,
                self.server.address,
                typed=json.dumps(paths),
                LOAD_RELEASE=str(self.last),
                DJANGO_JINJA_BCCACHE="off",
            )
        )
        return {path: without_marks(page.encode()) for path, page in pages.items()}

    @property
    def master(self) -> int:
        if self.server.pid is None:
            raise LoadError("gunicorn is not running")
        return self.server.pid

    def workers(self) -> list[int]:
        """The process ids of gunicorn's workers."""
        listed = Path(f"/proc/{self.master}/task/{self.master}/children").read_text()
        return [int(process) for process in listed.split()]

    def memory(self) -> int:
        """Bytes that all workers together have in memory."""
        pages = [int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in self.workers()]
        return sum(pages) * os.sysconf("SC_PAGE_SIZE")

    def _run(self, *arguments: str, typed: str = "", **environment: str) -> str:
        done = subprocess.run(
            [sys.executable, *arguments],
            env={**os.environ, **self.commands, **environment},
            cwd=ROOT,
            input=typed,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise LoadError(f"{' '.join(arguments)[:80]} failed:\n{done.stdout}{done.stderr}")
        return done.stdout


class LoadedGunicorn(Gunicorn):
    """gunicorn as a site would run it, with the keep-alive and the time to end of its defaults."""

    def command(self) -> list[str]:
        *command, application = super().command()
        command += ["--workers", str(WORKERS), "--threads", str(THREADS)]
        return [*command, "--graceful-timeout", "30", "--log-level", "error", application]
