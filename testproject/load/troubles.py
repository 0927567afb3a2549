"""What happens to the store and to the site while visitors come."""

from __future__ import annotations

import threading
import time
from collections import Counter
from contextlib import contextmanager
from itertools import cycle
from typing import TYPE_CHECKING

from testproject.load.releases import LoadError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from testproject.load.releases import Releases
    from tests.servers import Memcached, Proxy

ILL, WELL = 3.0, 4.0
"""Seconds that each fault lasts, and then none does."""
MODES = ("refuse", "black_hole", "trickle", "reset", "cut", "garble", "hang_connect", "swap")
SECONDS_OF_A_ROUND = 60.0
"""In so many seconds, two releases are deployed and four times something is cleared, at least."""


class Troubles:
    """Faults of the store, releases and clears, until the time is over.

    Releases are deployed in the first half, but for its first third; the processes that serve in
    the second half stay until the end. So the memory of the first processes and of the last can
    be compared at the same age, and that of the last with what they have in the end.

    Args:
        releases: The site.
        memcached: Its store.
        way: What stands between both.
        seconds: How long all of it lasts.
    """

    def __init__(
        self, releases: Releases, memcached: Memcached, way: Proxy, seconds: float
    ) -> None:
        self._releases = releases
        self._memcached = memcached
        self._way = way
        self._seconds = seconds
        self._fault = ""
        self._command = ""
        self._store_is_up = threading.Lock()
        self._over = threading.Event()
        self._settled = threading.Event()
        self.counts: Counter[str] = Counter()
        """How often each has happened."""
        self.errors: list[Exception] = []
        self.memory: dict[str, int] = {}
        """By what was measured: the workers' bytes."""
        self.course: list[tuple[float, int]] = []
        """The same for the last processes all the time, by seconds since the beginning."""

    def going_on(self) -> str:
        """`well`, `fault`, `command`, or `both`."""
        if self._fault:
            return "both" if self._command else "fault"
        return "command" if self._command else "well"

    def run(self) -> None:
        """Let it all happen; return at the end."""
        began = time.monotonic()
        threads = [
            threading.Thread(target=self._guarded, args=(each, began))
            for each in (self._faults, self._commands, self._measure)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _guarded(self, work: Callable[[float], None], began: float) -> None:
        try:
            work(began)
        except Exception as error:  # noqa: BLE001 - the main thread tells of it
            self.errors.append(error)
            self._over.set()
            self._settled.set()

    def _faults(self, began: float) -> None:
        kinds = cycle([*MODES, "slow", "restarted"])
        while self._sleep(WELL) and time.monotonic() + ILL + WELL < began + self._seconds:
            kind = next(kinds)
            self.counts[f"fault: {kind.replace('_', ' ')}"] += 1
            self._fault = kind
            if kind == "restarted":
                with self._store_is_up:
                    self._memcached.kill()
                    self._sleep(1.0)
                    self._memcached.start()
            elif kind == "slow":
                self._way.delay = 0.3
                self._sleep(ILL)
                self._way.delay = 0.0
            else:
                self._way.mode = kind
                self._sleep(ILL)
                if kind in {"black_hole", "trickle"}:  # and the connections that it has spoilt
                    self._way.mode = "refuse"
                self._way.mode = "pass"
            self._sleep(1.0)  # until processes have found it out
            self._fault = ""

    def _commands(self, began: float) -> None:
        first = [self._clear_stale, self._release, self._clear, self._release]
        second = [self._clear_stale, self._publish, self._clear, self._warm]
        rounds = max(1, int(self._seconds / SECONDS_OF_A_ROUND))
        self._spread(first * rounds, began + self._seconds / 6, began + self._seconds / 2)
        self._settled.set()
        self._spread(second * rounds, time.monotonic(), began + self._seconds)

    def _spread(self, work: Sequence[Callable[[], None]], begin: float, end: float) -> None:
        """Do one after the other, each in the middle of its part of the time."""
        for number, each in enumerate(work):
            at = begin + (end - begin) * (number + 0.5) / len(work)
            if not self._sleep(at - time.monotonic()):
                return
            with self._store_is_up, self._commanding():
                each()

    def _release(self) -> None:
        self.counts["releases deployed"] += 1
        self._releases.publish()
        self._releases.deploy()

    def _publish(self) -> None:
        self.counts["releases warmed only"] += 1
        self._releases.publish()

    def _warm(self) -> None:
        self.counts["releases warmed again"] += 1
        self._releases.manage("warm_bytecode")

    def _clear(self) -> None:
        self.counts["clear_bytecode"] += 1
        self._releases.manage("clear_bytecode", "--noinput")

    def _clear_stale(self) -> None:
        self.counts["clear_bytecode --stale"] += 1
        self._releases.manage("clear_bytecode", "--stale", "--noinput")

    @contextmanager
    def _commanding(self) -> Iterator[None]:
        self._command = "running"
        try:
            yield
        finally:
            self._sleep(0.5)  # until processes have settled
            self._command = ""

    def _measure(self, began: float) -> None:
        age = self._seconds / 6
        self._sleep(began + age - time.monotonic())
        self.memory["first"] = self._releases.memory()
        self._settled.wait(self._seconds)
        last = set(self._releases.workers())
        young = time.monotonic() + age
        while self._sleep(self._seconds / 60) and time.monotonic() < began + self._seconds:
            memory = self._releases.memory()
            self.course.append((round(time.monotonic() - began, 1), memory))
            if time.monotonic() < young:
                self.memory["young"] = memory
            self.memory["end"] = memory
        if last != set(self._releases.workers()):
            raise LoadError("a process has ended that nobody ended")

    def _sleep(self, seconds: float) -> bool:
        """Wait; return whether all goes on."""
        return not self._over.wait(max(0.0, seconds))
