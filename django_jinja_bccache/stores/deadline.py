"""Sockets that obey one deadline for a whole operation.

A time-out of a client counts from each ``recv`` anew: a server that sends one byte now and
then holds its caller for as long as it likes. Here the clock starts with the operation.
"""

from __future__ import annotations

import socket
import ssl
import time
from typing import Any

_RECEIVED_AT_ONCE = 65_536


class Deadline:
    """The moment by which the operation under way must be over.

    Attributes:
        end: That moment, on the clock of ``time.monotonic()``; set anew for each operation.
    """

    __slots__ = ("end",)

    def __init__(self) -> None:
        self.end = 0.0

    def remaining(self, limit: float | None) -> float:
        """Return the seconds left, ``limit`` at most.

        Raises:
            TimeoutError: None are left.
        """
        left = self.end - time.monotonic()
        if left <= 0:
            raise TimeoutError("no answer before the deadline")
        return left if limit is None else min(left, limit)


class DeadlineSocket:
    """A connected or connecting socket whose every wait ends at the deadline."""

    __slots__ = ("_deadline", "_limit", "raw")

    def __init__(self, raw: socket.socket, deadline: Deadline, limit: float | None = None) -> None:
        self.raw = raw
        self._deadline = deadline
        self._limit = limit

    def settimeout(self, limit: float | None) -> None:
        """Keep the client's own time-out, in seconds, beside the deadline."""
        self._limit = limit

    def connect(self, address: Any) -> None:
        self.raw.settimeout(self._deadline.remaining(self._limit))
        self.raw.connect(address)

    def sendall(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:  # with TLS, the time-out of the socket's own sendall is for each record
            self.raw.settimeout(self._deadline.remaining(self._limit))
            rest = rest[self.raw.send(rest) :]

    def recv(self, size: int, flags: int = 0) -> bytes:
        """Return what is there, be it more than was asked for: pymemcache asks for 4 KB."""
        self.raw.settimeout(self._deadline.remaining(self._limit))
        return self.raw.recv(max(size, _RECEIVED_AT_ONCE), flags)

    def recv_into(self, buffer: bytearray) -> int:
        self.raw.settimeout(self._deadline.remaining(self._limit))
        return self.raw.recv_into(buffer)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.raw, name)


class SocketModule:
    """Stands in for the ``socket`` module in a client that accepts one.

    Args:
        module: The module that makes the sockets, such as ``gevent.socket``.

    Attributes:
        deadline: What every socket made here obeys.
    """

    def __init__(self, module: Any = socket) -> None:
        self.deadline = Deadline()
        self._module = module

    def __getattr__(self, name: str) -> Any:
        return getattr(self._module, name)

    def socket(self, *args: Any) -> DeadlineSocket:
        return DeadlineSocket(self._module.socket(*args), self.deadline)


class TLSContext:
    """Stands in for an ``ssl.SSLContext`` whose sockets come from a ``SocketModule``."""

    def __init__(self, context: ssl.SSLContext, deadline: Deadline) -> None:
        self._context = context
        self._deadline = deadline

    def wrap_socket(self, sock: DeadlineSocket, **kwargs: Any) -> DeadlineSocket:
        return DeadlineSocket(self._context.wrap_socket(sock.raw, **kwargs), self._deadline)
