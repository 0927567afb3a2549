"""Visitors who ask for one page after the other, and note what they get."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException, RemoteDisconnected
from typing import TYPE_CHECKING

from testproject.load.releases import MARK, Releases, without_marks

if TYPE_CHECKING:
    from collections.abc import Callable

VISITORS = 8
PER_CONNECTION = 20
LONGEST = 30.0
"""Seconds that a visitor waits for a page; then it has failed."""


@dataclass
class Seen:
    """What all visitors have got.

    Attributes:
        seconds: By what was going on: how long each request took.
        failures: What went wrong, in words.
        stale: Pages that showed a release they were not to show, in words.
        reopened: Connections that the server had closed between two requests, as it may.
        compiles: By process: the templates that it has compiled.
    """

    seconds: dict[str, list[float]] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    stale: list[str] = field(default_factory=list)
    reopened: int = 0
    compiles: Counter[int] = field(default_factory=Counter)


class Visitors:
    """As many threads as there are visitors, until the block ends.

    Args:
        releases: What they visit.
        pages: The paths, with the page that each is to be.
        rate: Requests in a second, of all visitors together.
        going_on: Says what is going on.
    """

    def __init__(
        self,
        releases: Releases,
        pages: dict[str, bytes],
        rate: float,
        going_on: Callable[[], str],
    ) -> None:
        self.seen = Seen()
        self._releases = releases
        self._pages = pages
        self._pause = VISITORS / rate
        self._going_on = going_on
        self._enough = threading.Event()
        self._lock = threading.Lock()
        self._threads = [
            threading.Thread(target=self._visit, args=(number,)) for number in range(VISITORS)
        ]

    def __enter__(self) -> Visitors:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._enough.set()
        for thread in self._threads:
            thread.join()

    def _visit(self, number: int) -> None:
        order = random.Random(number)
        paths: list[str] = []
        due = time.monotonic() + self._pause * number / VISITORS
        while not self._enough.wait(max(0.0, due - time.monotonic())):
            server = self._releases.server
            connection = HTTPConnection(server.host, server.port, timeout=LONGEST)
            try:
                for request in range(PER_CONNECTION):
                    if not paths:
                        paths = order.sample(list(self._pages), k=len(self._pages))
                    self._ask(connection, paths.pop(), is_first=not request)
                    # Who was late goes on at once, but does not catch up.
                    due = max(due + self._pause, time.monotonic())
                    if self._enough.wait(max(0.0, due - time.monotonic())):
                        break
            finally:
                connection.close()

    def _ask(self, connection: HTTPConnection, path: str, *, is_first: bool) -> None:
        release = self._releases.current  # or a later one, if it is just being deployed
        state, began = self._going_on(), time.perf_counter()
        try:
            try:
                connection.request("GET", path)
                response = connection.getresponse()
            except (RemoteDisconnected, ConnectionError):
                if is_first:
                    raise
                # Between two requests a server may close, and any client then asks again.
                with self._lock:
                    self.seen.reopened += 1
                connection.close()
                connection.request("GET", path)
                response = connection.getresponse()
            body = response.read()
        except (OSError, HTTPException) as error:
            connection.close()
            with self._lock:
                self.seen.failures.append(f"{path}: {error!r} ({state})")
            return
        took = time.perf_counter() - began
        state = state if self._going_on() == state else "changing"
        shown = {int(mark) for mark in MARK.findall(body)}
        served = int(response.getheader("X-Release", "0"))
        with self._lock:
            self.seen.seconds.setdefault(state, []).append(took)
            process = int(response.getheader("X-Process", "0"))
            compiled = int(response.getheader("X-Compiled", "0"))
            self.seen.compiles[process] = max(self.seen.compiles[process], compiled)
            if response.status != 200 or without_marks(body) != self._pages[path]:
                self.seen.failures.append(f"{path}: status {response.status} ({state})")
            elif served < release or shown - {served}:
                self.seen.stale.append(
                    f"{path} shows {sorted(shown)} from {served}, when {release} was deployed"
                )
