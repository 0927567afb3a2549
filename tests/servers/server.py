"""What every test server shares: a port that stays its own, a directory, start and stop."""

import os
import pwd
import random
import shutil
import signal
import socket
import subprocess
import tempfile
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, ClassVar

from mirakuru import Executor
from mirakuru.exceptions import ExecutorError


class ServerError(Exception):
    """A test server is not installed, or did not start."""


def free_port() -> int:
    """A loopback port below the range from which the kernel takes ports for connections.

    So nobody gets it by chance while a test has its server stopped.
    """
    for port in random.sample(range(20_000, 32_000), k=100):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise ServerError("no free port between 20000 and 32000 was found in 100 attempts")


def find_program(name: str, *folders: Path) -> str:
    """The path of a program, or an error that says how to get it."""
    for candidate in (*(folder / name for folder in folders), shutil.which(name)):
        if candidate and os.access(candidate, os.X_OK):
            return str(candidate)
    raise ServerError(f"{name} is not installed; run the tests with: sh tests/run.sh")


class _Process(Executor):
    """mirakuru's executor, ready when the server itself says so."""

    def __init__(self, server: "Server", **options: Any) -> None:
        super().__init__(server.command(), **options)
        self._server = server
        self._creator = os.getpid()

    def pre_start_check(self) -> bool:
        return self._server.answers()

    after_start_check = pre_start_check

    @property
    def _popen_kwargs(self) -> dict[str, Any]:
        # Python 3.12 warns of a preexec_fn where threads run, and the tests' warnings are errors.
        options = super()._popen_kwargs
        options.pop("preexec_fn", None)
        return options | {"start_new_session": True}

    def __del__(self) -> None:
        # A forked child of a test must not end its parent's server.
        if os.getpid() == self._creator:
            super().__del__()


class Server(ABC):
    """A server process that keeps its address and its directory from `start` to `start`.

    As a context manager it starts on entry and is closed on exit.
    """

    run_as: ClassVar[str] = ""
    """The user to run as when the tests run as root; empty for root."""
    stop_signal: ClassVar[signal.Signals] = signal.SIGTERM

    def __init__(self) -> None:
        self.host = "127.0.0.1"
        self.port = free_port()
        self._directory: Path | None = None
        self._process: _Process | None = None

    @abstractmethod
    def command(self) -> list[str]:
        """The program with its arguments."""

    @abstractmethod
    def answers(self) -> bool:
        """Whether the server can be used now."""

    @property
    def address(self) -> str:
        return f"{self.host}:{self.port}"

    @property
    def directory(self) -> Path:
        """The server's own directory: only its user can look into it, and `close` removes it."""
        if self._directory is None:
            self._directory = Path(tempfile.mkdtemp(prefix="bccache-test-"))
            if self.user:
                shutil.chown(self._directory, self.user)
        return self._directory

    @property
    def user(self) -> str | None:
        return self.run_as or None if os.geteuid() == 0 else None

    @property
    def pid(self) -> int | None:
        return self._process.process.pid if self._process and self._process.process else None

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.running()

    def start(self) -> "Server":
        """Start, unless it is running, and wait until it answers."""
        if self.running:
            return self
        log = self.directory / "server.log"
        with log.open("w") as output:
            self._process = _Process(
                self,
                timeout=30,
                sleep=0.01,
                stop_signal=self.stop_signal,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                popen_kwargs={**self._user_and_groups(), "cwd": self.directory},
            )
            try:
                self._process.start()
            except ExecutorError as error:
                raise ServerError(f"{error}\n{log.read_text(errors='replace')}") from error
        return self

    def stop(self) -> None:
        """End the server as its administrator would; nothing happens if it isn't running."""
        if self._process:
            self._process.stop()
            self._process = None

    def kill(self) -> None:
        """End the server at once, with SIGKILL."""
        if self._process:
            self._process.kill()
            self._process = None

    def restart(self) -> None:
        """Stop and start on the same address."""
        self.stop()
        self.start()

    def close(self) -> None:
        """Stop, and remove what the server has left on the disk."""
        self.stop()
        if self._directory:
            shutil.rmtree(self._directory)
            self._directory = None

    def _user_and_groups(self) -> dict[str, Any]:
        if not self.user:
            return {}
        try:
            entry = pwd.getpwnam(self.user)
        except KeyError:
            raise ServerError(f"there is no user {self.user}; run: sh tests/run.sh") from None
        return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}

    def __enter__(self):
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.address}>"
