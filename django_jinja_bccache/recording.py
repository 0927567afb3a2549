"""What caches tell during a request: each template that was loaded, and how."""

from __future__ import annotations

import threading
from collections import Counter, defaultdict
from dataclasses import dataclass, field

from django_jinja_bccache.bccache import StoreBytecodeCache
from django_jinja_bccache.statistics import KEPT, UNSHAREABLE, Event

_MILLISECONDS = 1000


@dataclass
class Load:
    """One template that a request loaded.

    Attributes:
        template: Its name.
        origin: Where its code came from: ``pack``, ``store``, one of two tiers (``local``,
            ``shared``), or ``compiled``.
        reason: Why it was compiled, else the empty string.
        size: Bytes read or written, None if unknown.
        fetching: Milliseconds that the store took.
        round_trips: How often the store was asked.
        loading: Milliseconds that it took beside that to find it, or to know that it is not there.
        compiling: Milliseconds that it took to compile, None if unknown or not compiled.
        storing: Milliseconds that it took to store, None if it was not stored.
        refusal: Why it was compiled and not stored, else the empty string.
    """

    template: str
    origin: str
    reason: str = ""
    size: int | None = None
    fetching: float = 0.0
    round_trips: int = 0
    loading: float = 0.0
    compiling: float | None = None
    storing: float | None = None
    refusal: str = ""


@dataclass
class Heard:
    """What one cache told during a request.

    Attributes:
        loads: The templates, in the order in which they were loaded.
        troubles: What failed or was refused, and how often.
    """

    loads: list[Load] = field(default_factory=list)
    troubles: Counter[str] = field(default_factory=Counter)


class Recording:
    """What all caches told during a request. Its threads may share it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        #: By the cache's ``id``.
        self.heard: defaultdict[int, Heard] = defaultdict(Heard)
        self._compiling: dict[tuple[int, int, str], Load] = {}

    def add(self, cache: StoreBytecodeCache, event: Event) -> None:
        """Take down what a cache tells.

        Args:
            cache: The cache.
            event: What happened, just now and in this thread.
        """
        this = threading.get_ident(), id(cache), event.key
        with self._lock:
            heard = self.heard[id(cache)]
            if event.kind in {"error", "rejected"}:
                heard.troubles[printable(event.reason)] += 1
            if event.kind in {"hit", "miss"}:
                load = Load(
                    "(made by hand)" if event.template is None else printable(event.template),
                    event.origin if event.kind == "hit" else "compiled",
                    event.reason,
                    event.size or None,
                    event.fetching * _MILLISECONDS,
                    event.round_trips,
                    max(event.seconds - event.fetching, 0.0) * _MILLISECONDS,
                )
                heard.loads.append(load)
                if event.kind == "miss":
                    self._compiling[this] = load
            elif event.kind == "compiled" and this in self._compiling:
                self._compiling[this].compiling = event.seconds * _MILLISECONDS
            elif event.kind != "rejected" and this in self._compiling:
                _complete(self._compiling.pop(this), event)


def _complete(load: Load, event: Event) -> None:
    if event.kind == "store":
        load.size, load.storing = event.size, event.seconds * _MILLISECONDS
    elif event.kind == UNSHAREABLE:
        load.reason, load.refusal = KEPT, "not to be shared"
    elif event.kind == "oversize":
        load.size, load.refusal = event.size, "too large"
    else:
        load.refusal = "failed"


def printable(text: str) -> str:
    """Return a text that a page can be encoded with."""
    # A name may hold half of a surrogate pair, which no page can be encoded with.
    return text.encode("utf-8", "backslashreplace").decode()
