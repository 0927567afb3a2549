"""What a cache did: counters that cost next to nothing, and events for those who listen."""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

logger = logging.getLogger("django_jinja_bccache")

#: The reason of a miss: nobody may store this code, because an extension needed a filter's output.
KEPT = "kept from storing"
#: Reasons of a miss that mean: a value was there, and was refused.
REJECTED = frozenset({"corrupt", "version", "signature"})


@dataclass(frozen=True, slots=True)
class CacheStatistics:
    """What a cache did in this process since it was made.

    Attributes:
        hits: Loads served from the cache.
        misses: Loads that were compiled instead.
        errors: Operations that the store failed.
        rejected: Stored values that were refused: not authentic, damaged or of another
            format.
        oversize: Entries that the store found too large.
        stores: Entries written.
        size: Bytes that the store holds now, for all its users together; None if it
            does not tell.
        max_size: Bytes that the store holds at most; None if it has no limit or does not
            tell it.
        miss_reasons: How many misses of which reason: ``absent``, ``corrupt``,
            ``version``, ``signature``, ``store down``, or ``kept from storing`` for code that
            is absent because it must not be stored.
    """

    hits: int = 0
    misses: int = 0
    errors: int = 0
    rejected: int = 0
    oversize: int = 0
    stores: int = 0
    size: int | None = None
    max_size: int | None = None
    miss_reasons: dict[str, int] = field(default_factory=dict)

    @property
    def hit_ratio(self) -> float:
        """Hits among all loads, from 0.0 to 1.0; 0.0 before the first load."""
        loads = self.hits + self.misses
        return self.hits / loads if loads else 0.0


@dataclass(frozen=True, slots=True)
class CacheEntry:
    """One entry as the store holds it.

    Attributes:
        key: The entry key: fingerprint of the environment, digest of name and source.
        template: The template's name as its loader knows it, None if not recorded.
        checksum: The checksum of the template's source.
        bytecode: The marshalled code object.
        created_at: When the entry was stored.
        accessed_at: When it was last read, None where the store does not know.
    """

    key: str
    template: str | None
    checksum: str
    bytecode: bytes = field(repr=False)  # thousands of bytes that nobody can read
    created_at: datetime
    accessed_at: datetime | None


@dataclass(frozen=True, slots=True)
class Event:
    """One outcome, as listeners get it.

    Attributes:
        kind: ``hit``, ``miss``, ``compiled``, ``store``, ``error``, ``oversize``, or ``kept`` for
            code that must not be stored because an extension needed a filter's output, or
            ``rejected`` for a pack that is not to be used, or an entry where another
            one serves.
        template: The template's name, None for a bucket made by hand.
        key: The entry key.
        reason: Why it was a miss, an error or rejected, else the empty string.
        size: Bytes read or written.
        seconds: How long it took.
        origin: Where a hit was found: ``pack``, or ``store`` for an entry of its own, of which
            a cache with two tiers says ``local`` or ``shared``.
        fetching: How many of the seconds the store took, for a hit or a miss.
        round_trips: How often the store was asked meanwhile.
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


class Recorder:
    """Counts outcomes and tells listeners. Safe to share between threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
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
            elif kind == "kept" and self._reasons["absent"]:
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
