"""A PostgreSQL of one test's own."""

import secrets
import signal
import subprocess
from pathlib import Path
from typing import Any

import psycopg

from tests.servers.server import Server, ServerError, find_program


class PostgreSQL(Server):
    """A PostgreSQL on a free loopback port, with a Unix socket in its own directory.

    Nothing of it is safe against a power cut. On the port it wants the password, which is made
    anew for every server: a port of the loopback interface is open to every user of the machine.
    """

    run_as = "postgres"  # the server refuses to run as root
    stop_signal = signal.SIGINT  # the "fast" shutdown, which does not wait for clients

    def __init__(self) -> None:
        super().__init__()
        self.password = secrets.token_hex(16)

    @property
    def database(self) -> dict[str, Any]:
        """An entry of Django's `DATABASES`."""
        return {
            "ENGINE": "django.db.backends.postgresql",
            "NAME": "postgres",
            "HOST": self.host,
            "PORT": str(self.port),
            "USER": "postgres",
            "PASSWORD": self.password,
        }

    def command(self) -> list[str]:
        settings = {
            "listen_addresses": self.host,
            "port": str(self.port),
            "unix_socket_directories": str(self.directory),
            "fsync": "off",
            "synchronous_commit": "off",
            "full_page_writes": "off",
        }
        command = [_program("postgres"), "-D", str(self.directory / "data")]
        for name, value in settings.items():
            command += ["-c", f"{name}={value}"]
        return command

    def answers(self) -> bool:
        try:
            self.connection().close()
        except psycopg.OperationalError:
            return False
        return True

    def connection(self, **options: Any) -> psycopg.Connection:
        return psycopg.connect(
            host=self.host,
            port=self.port,
            user="postgres",
            password=self.password,
            dbname="postgres",
            **{"connect_timeout": 10, **options},
        )

    def start(self) -> "PostgreSQL":
        if not (self.directory / "data").exists():
            self._initialise()
        super().start()
        return self

    def _initialise(self) -> None:
        password_file = self.directory / "password"
        password_file.write_text(self.password)
        if self.user:
            password_file.chmod(0o644)  # the directory above it is the server's alone
        finished = subprocess.run(
            [
                _program("initdb"),
                *("-D", str(self.directory / "data"), "-U", "postgres"),
                *("--auth-host=scram-sha-256", "--auth-local=trust"),
                *("--pwfile", str(password_file)),
                *("-E", "UTF8", "--locale=C", "--no-sync", "--no-instructions"),
            ],
            check=False,
            cwd=self.directory,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            **self._user_and_groups(),
        )
        if finished.returncode:
            raise ServerError(f"initdb failed:\n{finished.stdout}")


def _program(name: str) -> str:
    """One of PostgreSQL's programs; Debian keeps those of the server off the PATH."""
    folders = Path("/usr/lib/postgresql").glob("*/bin")
    return find_program(name, *sorted(folders, key=_version, reverse=True))


def _version(folder: Path) -> float:
    try:
        return float(folder.parent.name)
    except ValueError:
        return 0.0
