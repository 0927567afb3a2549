"""What a cache did: counters that cost next to nothing, and events for those who listen."""

from __future__ import annotations

import logging
import os
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import NamedTuple
from weakref import WeakSet

logger = logging.getLogger("django_jinja_bccache")

#: Kind of an event: nobody may store this code, because an extension needed a filter's output.
UNSHAREABLE = "unshareable"
#: Reason of the miss before that.
KEPT = "kept from storing"
#: Reasons of a miss that mean: a value was there, and was refused.
REJECTED = frozenset({"corrupt", "version", "signature"})


class CacheStatistics(NamedTuple):
    """What a cache has done in this process since it was created.

    Attributes:
        hits: Templates loaded from the cache.
        misses: Templates that had to be compiled.
        errors: Failed operations of the store.
        rejected: Stored values that were refused: not authentic, damaged or of another format.
        oversize: Entries that were too large for the store.
        stores: Entries written.
        size: The size of the store in bytes, for all its users together; None if it does not
            say.
        max_size: The limit of the store in bytes; None if it has none or does not say.
        miss_reasons: The number of misses for each reason: ``absent``, ``corrupt``,
            ``version``, ``signature``, ``store down``, or ``kept from storing`` for bytecode
            that is absent because it cannot be stored.
    """

    hits: int = 0
    misses: int = 0
    errors: int = 0
    rejected: int = 0
    oversize: int = 0
    stores: int = 0
    size: int | None = None
    max_size: int | None = None
    miss_reasons: Mapping[str, int] = {}

    @property
    def hit_ratio(self) -> float:
        """The share of hits in all loads, from 0.0 to 1.0; 0.0 before the first load."""
        loads = self.hits + self.misses
        return self.hits / loads if loads else 0.0


class CacheEntry(NamedTuple):
    """One entry as the store holds it.

    Attributes:
        key: The entry key: the environment's fingerprint, and a digest of the template's name
            and source.
        template: The template's name as its loader knows it; None for an entry made by hand.
        checksum: The SHA-256 of the template's source, in hexadecimal digits.
        bytecode: The code object, as ``marshal.dumps()`` returns it.
        created_at: When the entry was stored, in UTC.
        accessed_at: When it was last read, in UTC; None if the store does not know.
    """

    key: str
    template: str | None
    checksum: str
    bytecode: bytes
    created_at: datetime
    accessed_at: datetime | None

    def __repr__(self) -> str:
        fields = self._asdict()
        del fields["bytecode"]  # thousands of bytes that nobody can read
        return f"CacheEntry({', '.join(f'{name}={value!r}' for name, value in fields.items())})"


class Event(NamedTuple):
    """One outcome, as listeners get it.

    Attributes:
        kind: ``hit``, ``miss``, ``compiled``, ``store``, ``error`` or ``oversize``;
            ``unshareable`` if the bytecode cannot be stored, because an extension needs a
            filter's output; ``rejected`` if a pack, or one of several entries, was refused.
        template: The template's name; None for a bucket made by hand.
        key: The entry key.
        reason: Why it was a miss, an error or rejected; otherwise the empty string.
        size: The number of bytes read or written.
        seconds: How long it took.
        origin: Where a hit was found: ``pack``; or for an entry ``store`` or, with two tiers,
            ``local`` or ``shared``.
        fetching: How many of the seconds were spent waiting for the store, for a hit or a miss.
        round_trips: How often the store was asked for it.
    """

    kind: str
    template: str | None
    key: str
    reason: str = ""
    size: int = 0
    seconds: float = 0.0
    origin: str = ""
    fetching: float = 0.0
    round_trips: int = 0


Listener = Callable[[Event], None]


_recorders: WeakSet[Recorder] = WeakSet()


class Recorder:
    """Counts outcomes and tells listeners. Safe to share between threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        _recorders.add(self)
        self._kinds: Counter[str] = Counter()
        self._reasons: Counter[str] = Counter()
        self.listeners: list[Listener] = []

    def record(
        self,
        kind: str,
        template: str | None,
        key: str,
        *,
        reason: str = "",
        size: int = 0,
        seconds: float = 0.0,
        origin: str = "",
        fetching: float = 0.0,
        round_trips: int = 0,
    ) -> None:
        """Count one outcome and tell every listener; the parameters are those of ``Event``."""
        with self._lock:
            self._kinds[kind] += 1
            if kind == "miss":
                self._reasons[reason] += 1
            elif kind == UNSHAREABLE and self._reasons["absent"]:
                # It was a miss a moment ago, and will be one in each process.
                self._reasons["absent"] -= 1
                self._reasons[KEPT] += 1
        if self.listeners:
            event = Event(
                kind, template, key, reason, size, seconds, origin, fetching, round_trips
            )
            for listener in self.listeners:
                try:
                    listener(event)
                except Exception:  # a page is worth more than what listens
                    logger.exception("A listener of a bytecode cache failed")

    def count(self, kind: str) -> int:
        """Return how many outcomes of a kind there were."""
        return self._kinds[kind]

    def snapshot(self, size: int | None, max_size: int | None) -> CacheStatistics:
        """Return the counts of this moment."""
        with self._lock:
            kinds, reasons = self._kinds.copy(), dict(+self._reasons)
        return CacheStatistics(
            hits=kinds["hit"],
            misses=kinds["miss"],
            errors=kinds["error"],
            rejected=kinds["rejected"]
            + sum(count for reason, count in reasons.items() if reason in REJECTED),
            oversize=kinds["oversize"],
            stores=kinds["store"],
            size=size,
            max_size=max_size,
            miss_reasons=reasons,
        )

    def forget_lock(self) -> None:
        """Replace the lock, which another thread may have held when this process forked."""
        self._lock = threading.Lock()


def _forget_locks_after_fork() -> None:
    # A thread that does not exist in the child may have held one.
    for recorder in list(_recorders):
        recorder.forget_lock()


os.register_at_fork(after_in_child=_forget_locks_after_fork)
