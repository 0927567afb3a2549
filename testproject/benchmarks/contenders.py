"""Who is measured: kinds of caches, on stores, at distances."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

LOOPBACK, NEAR, SHAPED = "loopback", "0.8 ms", "0.8 ms, 1 Gbit/s"
DISTANCES = (LOOPBACK, NEAR, SHAPED)

NONE = "no cache"
FLOOR = "floor"
PAUSED_FLOOR = "floor, collector paused"
MODULES = "jinja2 ModuleLoader"
BARE_MODULES = "jinja2 ModuleLoader without .pyc"
JINJA2_FILES = "jinja2 FileSystemBytecodeCache"
JINJA2_MEMCACHED = "jinja2 MemcachedBytecodeCache"
DJANGO_JINJA = "django-jinja BytecodeCache"
OURS = "ours"

PRELOADED, RELEASE, CHECKED, SINGLE = (
    "release, preload()",
    "release",
    "source-checked",
    "source-checked, packs=False",
)


class Place(NamedTuple):
    """A store, and how far away it is."""

    store: str = ""
    distance: str = ""


NOWHERE = Place()


@dataclass(frozen=True)
class Contender:
    """One row of the tables.

    Attributes:
        kind: Whose cache it is, of which kind.
        mode: How ours is used; the empty string for the others.
        place: Where the bytecode is.
        quick: Whether it takes part in a quick run.
        page: Whether its first and later page are measured.
        new_host: Whether the local one of two tiers is empty each time.
    """

    kind: str
    mode: str = ""
    place: Place = NOWHERE
    quick: bool = True
    page: bool = False
    new_host: bool = False

    @property
    def who(self) -> str:
        return f"{self.kind}: {self.mode}" if self.mode else self.kind

    @property
    def where(self) -> str:
        return ", ".join(part for part in self.place if part)

    @property
    def key(self) -> str:
        return f"{self.who} @ {self.where}" if self.where else self.who

    @property
    def is_networked(self) -> bool:
        return bool(self.place.distance)


def _ours(mode: str, store: str, distance: str = "", **options: bool) -> Contender:
    return Contender(OURS, mode, Place(store, distance), **options)


TIERED, NEW_HOST = "files before memcached", "empty files before memcached"

ALL: tuple[Contender, ...] = (
    Contender(FLOOR, page=True),
    Contender(PAUSED_FLOOR),
    Contender(NONE, page=True),
    Contender(MODULES, place=Place("files"), page=True),
    Contender(BARE_MODULES, place=Place("files")),
    Contender(JINJA2_FILES, place=Place("files"), page=True),
    *(
        Contender(kind, "", Place("memcached", distance), distance == NEAR, distance == NEAR)
        for kind in (JINJA2_MEMCACHED, DJANGO_JINJA)
        for distance in DISTANCES
        if distance != SHAPED or kind == JINJA2_MEMCACHED
    ),
    *(
        _ours(mode, "memcached", distance, quick=distance == NEAR, page=page and distance == NEAR)
        for mode, page in ((PRELOADED, False), (RELEASE, True), (CHECKED, True), (SINGLE, True))
        for distance in DISTANCES
        if distance != SHAPED or mode in {PRELOADED, CHECKED}
    ),
    _ours(PRELOADED, "redis", LOOPBACK, quick=False),
    _ours(PRELOADED, "redis", NEAR),
    _ours(RELEASE, "redis", NEAR, quick=False, page=True),
    _ours(CHECKED, "redis", NEAR, quick=False, page=True),
    _ours(PRELOADED, "files"),
    _ours(RELEASE, "files", quick=False, page=True),
    _ours(CHECKED, "files", page=True),
    _ours(PRELOADED, "sqlite"),
    _ours(RELEASE, "sqlite", quick=False, page=True),
    _ours(CHECKED, "sqlite", quick=False, page=True),
    _ours(PRELOADED, TIERED, NEAR, quick=False),
    _ours(CHECKED, TIERED, NEAR, quick=False),
    _ours(PRELOADED, NEW_HOST, NEAR, quick=False, new_host=True),
)


def chosen(*, quick: bool, only: str) -> list[Contender]:
    """Return the contenders of a run: those of a quick one, and whose key contains ``only``."""
    return [
        contender
        for contender in ALL
        if (contender.quick or not quick) and only.lower() in contender.key.lower()
    ]
