"""A memcached of one test's own."""

import os
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedRWPair
from pathlib import Path
from urllib.parse import unquote

from tests.servers.server import Server, ServerError, find_program


class Memcached(Server):
    """A memcached on a free loopback port or a Unix socket.

    What it is asked here goes over a plain socket, past every client library.

    Args:
        arguments: More of memcached's own arguments: `Memcached("-m", "8", "-I", "2m")`.
        unix_socket: Listen on this path and on no port.
    """

    # It has nothing to lose, and takes up to a second over SIGTERM.
    stop_signal = signal.SIGKILL

    def __init__(self, *arguments: str, unix_socket: Path | str | None = None) -> None:
        super().__init__()
        self.arguments = arguments
        self.unix_socket = unix_socket and Path(unix_socket)

    @property
    def address(self) -> str:
        """What stands in `LOCATION`: `127.0.0.1:port` or `unix:/path`."""
        return f"unix:{self.unix_socket}" if self.unix_socket else super().address

    def command(self) -> list[str]:
        # memcached lays its socket down after it has changed its user.
        user = ["-u", "root" if self.unix_socket else "nobody"] if os.geteuid() == 0 else []
        place = (
            ["-s", str(self.unix_socket)]
            if self.unix_socket
            else ["-l", self.host, "-p", str(self.port), "-U", "0"]
        )
        return [find_program("memcached"), *user, *place, *self.arguments]

    def answers(self) -> bool:
        try:
            with self._conversation() as stream:
                return _ask(stream, b"version").startswith(b"VERSION")
        except OSError:
            return False

    def stats(self) -> dict[str, str]:
        with self._conversation() as stream:
            return dict(line.split()[1:3] for line in _lines(stream, b"stats"))

    def keys(self) -> list[str]:
        """Every key that the server holds, in no order."""
        for _ in range(100):
            with self._conversation() as stream:
                # "all" passes over items that are just being read.
                lines = list(_lines(stream, b"lru_crawler metadump hash"))
            if not any(line.startswith("BUSY") for line in lines):
                return [unquote(line.split()[0].removeprefix("key=")) for line in lines]
            time.sleep(0.02)
        raise ServerError("memcached's crawler was busy for two seconds")

    def get_raw(self, key: str | bytes) -> bytes | None:
        with self._conversation() as stream:
            header = _ask(stream, b"get " + _bytes(key))
            if header == b"END":
                return None
            _expect(header, b"VALUE")
            return stream.read(int(header.split()[3]))

    def set_raw(self, key: str | bytes, value: bytes, flags: int = 0, expire: int = 0) -> None:
        """Store a value; `expire` is in seconds, 0 for never."""
        with self._conversation() as stream:
            header = b"set %s %d %d %d\r\n" % (_bytes(key), flags, expire, len(value))
            _expect(_ask(stream, header + value), b"STORED")

    def fill(self, sizes: range = range(300, 60_000)) -> None:
        """Store values until none of these sizes finds room; with `-M` nothing makes way."""
        # Memory that was given to values of one size stays with them: each fills its own.
        with self._conversation() as stream:
            size, number = float(sizes.start), 0
            while size < sizes.stop:
                value = b"x" * int(size)
                answer = b"STORED"
                while answer == b"STORED":
                    number += 1
                    header = b"set filling-%d 0 0 %d\r\n" % (number, len(value))
                    answer = _ask(stream, header + value)
                _expect(answer, b"SERVER_ERROR out of memory")
                size *= 1.1

    def flush(self) -> None:
        with self._conversation() as stream:
            _expect(_ask(stream, b"flush_all"), b"OK")

    def connect(self) -> socket.socket:
        """A new connection to the server, blocking for at most 10 seconds."""
        if not self.unix_socket:
            return socket.create_connection((self.host, self.port), timeout=10)
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(10)
        try:
            connection.connect(str(self.unix_socket))
        except OSError:
            connection.close()
            raise
        return connection

    @contextmanager
    def _conversation(self) -> Iterator[BufferedRWPair]:
        with self.connect() as connection, connection.makefile("rwb") as stream:
            yield stream


def _bytes(key: str | bytes) -> bytes:
    return key.encode() if isinstance(key, str) else key


def _ask(stream: BufferedRWPair, request: bytes) -> bytes:
    stream.write(request + b"\r\n")
    stream.flush()
    return stream.readline().rstrip(b"\r\n")


def _lines(stream: BufferedRWPair, request: bytes) -> Iterator[str]:
    """The answer's lines up to END, or the one line that an error is."""
    line = _ask(stream, request)
    while line != b"END":
        if not line or line.startswith((b"ERROR", b"CLIENT_ERROR", b"SERVER_ERROR")):
            raise ServerError(f"memcached answered {line!r} to {request!r}")
        yield line.decode()
        if line.startswith(b"BUSY"):
            return
        line = stream.readline().rstrip(b"\r\n")


def _expect(answer: bytes, beginning: bytes) -> None:
    if not answer.startswith(beginning):
        raise ServerError(f"memcached answered {answer!r} where {beginning!r} was expected")
