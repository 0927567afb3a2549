"""What a cache holds for an engine: reports out, nothing printed or changed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime

from django_jinja_bccache.archive import Archive, batches, moment
from django_jinja_bccache.discovery import CachedEngine, Listing, Source, read_source
from django_jinja_bccache.exceptions import NotSupported
from django_jinja_bccache.fingerprint import FINGERPRINT_SIZE
from django_jinja_bccache.newest import why_nothing_is_found
from django_jinja_bccache.notes import newest_of
from django_jinja_bccache.packs import INDEX, scope_prefix_of
from django_jinja_bccache.publishes import (
    Publish,
    lost_packs,
    publishes_among,
    read_publishes,
)
from django_jinja_bccache.stores.base import StoredItem


@dataclass(frozen=True, slots=True)
class Coverage:
    """How much of an engine's present templates a publish holds.

    Attributes:
        release: The name of its release, the empty string for none.
        created: When it was published.
        serves: Whether this process's environment, with its release, is served from it.
        stored: How many templates are in it as they are now.
        stale: How many are in it as they once were.
        missing: How many are not in it.
        packs: How many packs it has.
        lost: How many of those the store does not hold, or not authentic.
    """

    release: str
    created: datetime
    serves: bool
    stored: int
    stale: int
    missing: int
    packs: int
    lost: int


@dataclass(frozen=True, slots=True)
class Inventory:
    """What a cache holds, whatever it is of.

    Attributes:
        entries: How many entries there are.
        entry_bytes: How many bytes they take.
        packs: How many packs there are.
        pack_bytes: How many bytes they take.
        refused: How many of the entries are not authentic, damaged or of another format.
        oldest: When the oldest entry was stored, None if there is none.
        newest: When the newest was.
        last_access: When one was read last, None where the store does not know.
    """

    entries: int
    entry_bytes: int
    packs: int
    pack_bytes: int
    refused: int
    oldest: datetime | None = None
    newest: datetime | None = None
    last_access: datetime | None = None


@dataclass
class InspectReport:
    """What a cache holds for one engine.

    Attributes:
        engine: The engine's NAME.
        cache: The cache, as it names itself.
        templates: How many templates the engine has; files that are not text are none.
        stored: Names of those that are stored as they are now.
        stale: Names of those of which the store holds another source's code, or another
            environment's. Empty where the store cannot list its keys.
        missing: Names of those that are not stored.
        broken: Names of those whose value is there and refused, and of those that cannot be read.
        published: What is published for the engine, the newest first.
        inventory: What the cache holds; None where the store cannot list its keys.
        size: Bytes that the store holds for all its users together, None if it does not tell.
        max_size: Bytes that it holds at most, None if it has no limit or does not tell it.
        remark: Why none of the templates is found, the empty string if one is, or nobody knows.
    """

    engine: str
    cache: str
    templates: int = 0
    stored: list[str] = field(default_factory=list)
    stale: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    published: list[Coverage] = field(default_factory=list)
    inventory: Inventory | None = None
    size: int | None = None
    max_size: int | None = None
    remark: str = ""


def inspect(engine: CachedEngine) -> InspectReport:
    """Tell what an engine's cache holds.

    Args:
        engine: The engine.

    Raises:
        StoreError: The store failed.
    """
    report = InspectReport(engine.name, repr(engine.cache))
    listing = engine.list_templates()
    sources = _sources(engine, listing, report)
    keys = {name: engine.entry_key(source) for name, source in sources.items()}
    with Archive(engine.cache.storage) as archive:
        listed = _listed(archive)
        taken = _StockTaking(archive, keys.values(), listed or [])
        held, names = taken.held, taken.names
        # What is left to other engines counts if this one's templates have brought it here.
        for name in listing.left_to_others:
            if keys.get(name) not in held:
                keys.pop(name, None)
        report.templates = len(keys) + len(report.broken)
        not_held = archive.stored_keys(key for key in keys.values() if key not in held)
        refused = {archive.entry_key(stored_key) for stored_key in archive.present(not_held)}
        for name, key in keys.items():
            if key in held:
                report.stored.append(name)
            elif key in refused:
                report.broken.append(name)
            elif sources[name].name in names:
                report.stale.append(name)
            else:
                report.missing.append(name)
        report.published = _published(archive, engine, keys, listed)
        report.inventory = None if listed is None else taken.inventory()
        with suppress(NotSupported):
            report.size, report.max_size = archive.usage()
        report.remark = _remark(archive, engine, report)
    report.broken.sort()
    return report


def _remark(archive: Archive, engine: CachedEngine, report: InspectReport) -> str:
    if not engine.cache.enabled:
        return "Pages do not use it: it is switched off in the process environment."
    scope = engine.cache.published.scope(engine.environment)
    newest = None if report.stored else newest_of(archive, scope)
    if newest is None or newest.fingerprint == scope.fingerprint:
        return ""
    return why_nothing_is_found(scope, newest, archive.signing_keys)


def _sources(engine: CachedEngine, listing: Listing, report: InspectReport) -> dict[str, Source]:
    """Return the sources of an engine's templates, by the templates' names."""
    sources = {}
    for name in (*listing.names, *listing.left_to_others):
        try:
            source = read_source(engine.environment, name)
        except UnicodeDecodeError:  # an image, or whatever else lies among templates
            continue
        except Exception:  # noqa: BLE001 - a loader may raise anything
            if name not in listing.left_to_others:
                report.broken.append(name)
        else:
            if source is not None:
                sources[name] = source
    return sources


def _listed(archive: Archive) -> list[StoredItem] | None:
    try:
        return list(archive.items())
    except NotSupported:
        return None


class _StockTaking:
    """One look at every entry that is listed, and at those that are wanted.

    Args:
        archive: The cache's archive.
        wanted: Entry keys to look for, listed or not.
        listed: What the store has listed.

    Attributes:
        held: The entry keys of those that are authentic.
        names: The names of the templates that these are code of.
    """

    def __init__(
        self, archive: Archive, wanted: Iterable[str], listed: Sequence[StoredItem]
    ) -> None:
        keyed = [(archive.entry_key(item.key), item) for item in listed]
        self._packs = [(key, item) for key, item in keyed if scope_prefix_of(key)]
        # While signing keys rotate, one entry may lie under several of them.
        self._items = [item for key, item in keyed if not scope_prefix_of(key)]
        self._entries = {key for key, _ in keyed if not scope_prefix_of(key)}
        self._created: list[int] = []
        self.held: set[str] = set()
        self.names: set[str | None] = set()
        for batch in batches(list(dict.fromkeys([*wanted, *self._entries]))):
            for key, held in archive.read(batch).items():
                self.held.add(key)
                if key in self._entries:
                    self._created.append(held.unsealed.created)
                    self.names.add(held.label.template)

    def inventory(self) -> Inventory:
        """Return the sums."""
        created, entries = self._created, self._items
        accessed = [item.accessed_at for item in entries if item.accessed_at is not None]
        return Inventory(
            entries=len(entries),
            entry_bytes=sum(item.size for item in entries),
            packs=sum(not key.endswith(INDEX) for key, _ in self._packs),
            pack_bytes=sum(item.size for _, item in self._packs),
            refused=len(self._entries) - len(created),
            oldest=moment(min(created)) if created else None,
            newest=moment(max(created)) if created else None,
            last_access=moment(max(accessed)) if accessed else None,
        )


def _published(
    archive: Archive,
    engine: CachedEngine,
    keys: Mapping[str, str],
    listed: Sequence[StoredItem] | None,
) -> list[Coverage]:
    own = engine.cache.published.scope(engine.environment)
    is_used = engine.cache.enabled and engine.cache.packs
    if listed is None:
        publishes = read_publishes(archive, [own.prefix])
    else:
        publishes = publishes_among(archive, [item.key for item in listed])
    found = [
        _coverage(archive, publish, keys, serves=is_used and prefix == own.prefix)
        for prefix, publish in publishes.items()
        if publish.label.engine == own.engine
    ]
    return sorted(found, key=lambda coverage: coverage.created, reverse=True)


def _coverage(
    archive: Archive, publish: Publish, keys: Mapping[str, str], *, serves: bool
) -> Coverage:
    # What is the same in all environments: the template's name, and its source.
    then = {name: key[FINGERPRINT_SIZE:] for name, key in publish.entry_keys.items()}
    now = {name: key[FINGERPRINT_SIZE:] for name, key in keys.items()}
    stored = sum(then.get(name) == digest for name, digest in now.items())
    known = sum(name in then for name in now)
    lost = lost_packs(archive, publish)
    return Coverage(
        release=publish.label.release,
        created=moment(publish.created),
        serves=serves,
        stored=stored,
        stale=known - stored,
        missing=len(now) - known,
        packs=publish.label.total,
        lost=len(lost),
    )
