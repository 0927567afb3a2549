"""A TCP proxy that counts, delays and misbehaves on request."""

import select
import socket
import threading
import time
from collections import deque
from collections.abc import Callable

from tests.servers.links import Link, abort, connect
from tests.servers.server import free_port

MODES = (
    "pass",
    "refuse",
    "reset",
    "black_hole",
    "hang_connect",
    "trickle",
    "cut",
    "garble",
    "swap",
)


class Proxy:
    """Stands between a client and a server, on a loopback port of its own.

    One thread does it all; it and every socket end with `close`, or with the block that the
    proxy is the context manager of. `mode` may change at any time:

    - `pass`: everything goes through, `delay` seconds later in each direction.
    - `refuse`: nothing listens, and open connections are closed: the server is stopped.
    - `reset`: new and open connections are answered with a TCP reset.
    - `black_hole`: new connections are accepted; they and the open ones swallow everything and
      never answer. A connection that was open meanwhile stays dead in later modes.
    - `hang_connect`: new connections hang in `connect`; open ones go on.
    - `trickle`: answers come at one byte each `trickle_interval` seconds.
    - `cut`: the connection closes in the middle of the first piece of an answer.
    - `garble`: in memcached's and Redis's answers, values of 32 bytes and more come back with
      every bit of their second half flipped. Lengths and the protocol's own lines stay.
    - `swap`: each request gets the answer to the request before it, whoever asked that one, or
      `wrong_answer` if there is one.

    Args:
        upstream: `127.0.0.1:port` or `unix:/path`, as in a server's `address`.
        delay: Seconds that each direction takes.
        mode: The mode to begin with.
    """

    trickle_interval = 0.3

    def __init__(self, upstream: str, *, delay: float = 0.0, mode: str = "pass") -> None:
        self.upstream = upstream
        self.delay = delay
        self.host = "127.0.0.1"
        self.port = free_port()
        self.links: set[Link] = set()
        self.wrong_answer = b""
        """What every request is answered in the mode `swap`; if empty, the answer before."""
        self.last_answer: list[bytes] = []
        """The pieces of the answer that came last, on whatever connection."""
        self._listener: socket.socket | None = None
        self._fillers: list[socket.socket] = []
        self._tasks: deque[Callable[[], None]] = deque()
        self._closing = False
        self._mode = ""
        self.reset_counts()
        self._set_mode(mode)
        self._wake_receiver, self._wake_sender = socket.socketpair()
        self._thread = threading.Thread(target=self._run, name=repr(self), daemon=True)
        self._thread.start()

    @property
    def address(self) -> str:
        return f"{self.host}:{self.port}"

    @property
    def mode(self) -> str:
        return self._mode

    @mode.setter
    def mode(self, mode: str) -> None:
        """Change the mode; it holds when the assignment returns."""
        self._in_thread(lambda: self._set_mode(mode))

    @property
    def open_connections(self) -> int:
        """Clients' connections open now."""
        return len(self.links)

    def reset_counts(self) -> None:
        """Begin counting anew, from zero."""
        self.connections = 0
        """Connections accepted."""
        self.round_trips = 0
        """Requests, in however many pieces, that had an answer."""
        self.bytes_up = 0
        """Bytes received from clients."""
        self.bytes_down = 0
        """Bytes received from the server."""

    def close(self) -> None:
        if self._thread.is_alive():
            self._closing = True
            self._wake_sender.send(b"!")
            self._thread.join(10)
        self._wake_sender.close()
        self._wake_receiver.close()

    def __enter__(self) -> "Proxy":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Proxy {self.address} -> {self.upstream}>"

    def _in_thread(self, task: Callable[[], None]) -> None:
        done = threading.Event()
        errors: list[Exception] = []

        def perform() -> None:
            try:
                task()
            except Exception as error:
                errors.append(error)
            done.set()

        self._tasks.append(perform)
        self._wake_sender.send(b"!")
        if not done.wait(10):
            raise RuntimeError(f"{self!r} does not answer any more")
        if errors:
            raise errors[0]

    # The methods below run in the proxy's thread (the first _set_mode before there is one).

    def _run(self) -> None:
        try:
            while not self._closing:
                self._step()
        finally:
            self._stop_listening()
            for link in list(self.links):
                link.close()

    def _step(self) -> None:
        readable: dict[socket.socket, Callable[[], None]] = {self._wake_receiver: self._wake}
        if self._listener and self._mode != "hang_connect":
            readable[self._listener] = self._accept
        writable: dict[socket.socket, Callable[[], None]] = {}
        wake_at: float | None = None
        now = time.perf_counter()
        for direction in [way for link in self.links for way in (link.up, link.down)]:
            if direction.reads:
                readable[direction.source] = direction.receive
            if direction.queue:
                due = direction.queue[0][0]
                if due <= now:
                    writable[direction.target] = direction.send
                else:
                    wake_at = min(due, wake_at or due)
        # select, because it alone takes a time-out in microseconds.
        timeout = None if wake_at is None else max(0.0, wake_at - now)
        read, written, _ = select.select(readable, writable, [], timeout)
        for ready, act in [
            *((sock, writable[sock]) for sock in written),
            *((sock, readable[sock]) for sock in read),
        ]:
            if ready.fileno() >= 0:  # an act before this one may have closed it
                act()

    def _wake(self) -> None:
        self._wake_receiver.recv(4096)
        while self._tasks:
            self._tasks.popleft()()

    def _accept(self) -> None:
        client, _ = self._listener.accept()
        self.connections += 1
        if self._mode == "reset":
            abort(client)
            return
        server = None
        if self._mode != "black_hole":
            try:
                server = connect(self.upstream)
            except OSError:
                abort(client)
                return
        self.links.add(Link(self, client, server))

    def _set_mode(self, mode: str) -> None:
        if mode not in MODES:
            raise ValueError(f"mode is {mode!r}; it must be one of {', '.join(MODES)}")
        if mode == self._mode:
            return
        if mode in {"refuse", "hang_connect"} or self._mode in {"", "refuse", "hang_connect"}:
            self._stop_listening()
            if mode == "hang_connect":
                self._listener = self._listen(backlog=0)
                self._fill_backlog()
            elif mode != "refuse":
                self._listener = self._listen(backlog=128)
        self._mode = mode
        for link in list(self.links):
            if mode == "refuse":
                link.close()
            elif mode == "reset":
                link.abort()
            elif mode == "black_hole":
                link.swallow()

    def _listen(self, backlog: int) -> socket.socket:
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((self.host, self.port))
        listener.listen(backlog)
        return listener

    def _fill_backlog(self) -> None:
        """Connect until the kernel takes no more: from then on it drops every SYN."""
        for _ in range(16):
            filler = socket.socket()
            self._fillers.append(filler)
            filler.setblocking(False)
            filler.connect_ex((self.host, self.port))
            _, connected, _ = select.select([], [filler], [], 0.05)
            if not connected:
                return
        raise RuntimeError("the kernel goes on accepting connections beyond the backlog")

    def _stop_listening(self) -> None:
        for sock in (self._listener, *self._fillers):
            if sock:
                sock.close()
        self._listener = None
        self._fillers = []
