"""The connections inside the proxy: what each direction holds, delays and spoils."""

import re
import socket
import struct
import time
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.servers.proxy import Proxy


class Link:
    """One client's connection and the one to the server that belongs to it."""

    def __init__(
        self, proxy: "Proxy", client: socket.socket, server: socket.socket | None
    ) -> None:
        self.proxy = proxy
        self.client = client
        self.server = server
        self.unanswered = False
        self.up = Direction(self, client, server)
        self.down = Direction(self, server, client)
        for sock in self._sockets():
            sock.setblocking(False)
            if sock.family == socket.AF_INET:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def swallow(self) -> None:
        """Cut the server off, and from now on read what the client says without a word."""
        if self.server:
            self.server.close()
            self.server = None
        self.up = Direction(self, self.client, None)
        self.down = Direction(self, None, self.client)

    def close(self) -> None:
        for sock in self._sockets():
            sock.close()
        self.proxy.links.discard(self)

    def abort(self) -> None:
        abort(self.client)
        self.close()

    def _sockets(self) -> list[socket.socket]:
        return [sock for sock in (self.client, self.server) if sock]


class Direction:
    """One way through a link: what came from the source and when it is due at the target."""

    def __init__(
        self, link: Link, source: socket.socket | None, target: socket.socket | None
    ) -> None:
        self.link = link
        self.proxy = link.proxy
        self.source: Any = source
        self.target: Any = target
        self.reads = source is not None
        self.queue: deque[tuple[float, bytes]] = deque()
        """What waits to be sent, with its time; empty bytes stand for the end."""
        self.last_due = 0.0
        self.values = Values()
        self.answer: list[bytes] = []
        """The pieces of the answer that came last."""

    def receive(self) -> None:
        try:
            data = self.source.recv(65_536)
        except ConnectionError:
            self.link.abort()
            return
        if not data:
            self._end()
        elif self is self.link.up:
            self.proxy.bytes_up += len(data)
            self.link.unanswered = True
            if self.target:
                self._schedule(data)
        else:
            self._receive_answer(data)

    def send(self) -> None:
        try:
            # What has become due goes out together, so that a slow step does not add up.
            while self.queue and self.queue[0][0] <= time.perf_counter():
                due, data = self.queue.popleft()
                if not data:
                    self._forward_end()
                    return
                sent = self.target.send(data)
                if sent < len(data):
                    self.queue.appendleft((due, data[sent:]))
        except BlockingIOError:
            self.queue.appendleft((due, data))
        except ConnectionError:
            self.link.abort()

    def _receive_answer(self, data: bytes) -> None:
        # Counted before it goes on, so that the counts are right once the client has it.
        self.proxy.bytes_down += len(data)
        is_another = self.link.unanswered
        if is_another:
            self.link.unanswered = False
            self.proxy.round_trips += 1
        # Read in every mode, to know where a value begins when the mode changes.
        data = self.values.read(data, garble=self.proxy.mode == "garble")
        previous = self._note(data, is_another=is_another)
        if self.proxy.mode == "cut":
            self._schedule(data[: max(1, len(data) // 2)])
            self._end()
        elif self.proxy.mode == "trickle":
            for byte in data:
                self._schedule(bytes([byte]), after_last=self.proxy.trickle_interval)
        elif self.proxy.mode == "swap":
            wrong = (self.proxy.wrong_answer or previous) if is_another else b""
            if wrong:
                self._schedule(wrong)
        else:
            self._schedule(data)

    def _note(self, data: bytes, *, is_another: bool) -> bytes:
        """Note a piece of an answer; of another one's first piece, return the answer before."""
        if not is_another:
            self.answer.append(data)
            return b""
        previous = b"".join(self.proxy.last_answer) if self.proxy.mode == "swap" else b""
        self.answer = self.proxy.last_answer = [data]
        return previous or data

    def _schedule(self, data: bytes, after_last: float = 0.0) -> None:
        due = time.perf_counter() + self.proxy.delay
        self.last_due = max(due, self.last_due + after_last)
        self.queue.append((self.last_due, data))

    def _end(self) -> None:
        self.reads = False
        if self.target:
            self._schedule(b"")
        else:
            self.link.close()

    def _forward_end(self) -> None:
        """Hand on that the source has closed: a client's half-close, or all of it."""
        if self is self.link.down:
            self.link.close()
            return
        try:
            self.target.shutdown(socket.SHUT_WR)
        except OSError:
            self.link.close()


class Values:
    """Finds the values in a stream of memcached's or Redis's answers, and can garble them."""

    HEADER = re.compile(rb"(?:VALUE \S+ \d+ |VA |\$)(\d+)\b")
    FLIPPED = bytes(byte ^ 0xFF for byte in range(256))

    def __init__(self) -> None:
        self.line = b""
        self.size = 0
        self.position = 0

    def read(self, data: bytes, *, garble: bool) -> bytes:
        result = bytearray(data)
        at = 0
        while at < len(data):
            if self.position < self.size:
                end = min(len(data), at + self.size - self.position)
                middle = self.size // 2 if self.size >= 32 else self.size
                begin = min(end, at + max(0, middle - self.position))
                if garble:
                    result[begin:end] = data[begin:end].translate(self.FLIPPED)
                self.position += end - at
            else:
                newline = data.find(b"\n", at)
                end = newline + 1 or len(data)
                self.line = (self.line + data[at:end])[:2000]
                if newline >= 0:
                    header = self.HEADER.match(self.line)
                    self.size, self.position = (int(header[1]) if header else 0), 0
                    self.line = b""
            at = end
        return bytes(result)


def connect(address: str) -> socket.socket:
    if address.startswith("unix:"):
        sock = socket.socket(socket.AF_UNIX)
        try:
            sock.connect(address.removeprefix("unix:"))
        except OSError:
            sock.close()
            raise
        return sock
    host, port = address.rsplit(":", 1)
    return socket.create_connection((host, int(port)), timeout=5)


def abort(sock: socket.socket) -> None:
    """Close with a TCP reset instead of a proper end."""
    with suppress(OSError):  # closed already
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()
