"""Emptying caches of what this package wrote: reports out, nothing printed."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass

from django_jinja_bccache.archive import Archive
from django_jinja_bccache.discovery import CachedEngine, read_source
from django_jinja_bccache.exceptions import NotSupported
from django_jinja_bccache.fingerprint import fingerprint
from django_jinja_bccache.newest import newest_key
from django_jinja_bccache.notes import remove_notes
from django_jinja_bccache.packs import INDEX, scope_prefix_of
from django_jinja_bccache.publishes import Publish, publishes_among, read_publishes

#: Entries that dry runs have told of: the cache and the stored key of each.
Counted = set[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class ClearReport:
    """What clearing removed from one engine's cache.

    Attributes:
        engine: The engine's NAME.
        entries: How many entries were removed; with ``dry_run`` would have been.
        packs: How many packs were.
        bytes: How many bytes they took together.
        listed: Whether the store listed its keys. If not, the entries of the present
            templates were found by their keys, and others may be left.
    """

    engine: str
    entries: int
    packs: int
    bytes: int
    listed: bool


def clear(
    engine: CachedEngine,
    *,
    others: Collection[CachedEngine] = (),
    dry_run: bool = False,
    counted: Counted | None = None,
) -> ClearReport:
    """Remove the entries in an engine's cache, whatever release or setting they are of.

    Args:
        engine: The engine.
        others: Engines whose entries are to stay, should they lie in the same cache, unless
            the engine would use them as well.
        dry_run: Whether to change nothing and only tell what would be removed.
        counted: Entries that earlier dry runs told of; this one leaves them out and adds its own.

    Raises:
        StoreError: The store failed.
        NotSupported: The store's client cannot delete.
    """
    is_theirs = _belonging_to(others, engine)
    own = engine.cache.published.scope(engine.environment)
    with Archive(engine.cache.storage) as archive:
        try:
            items = {item.key: item.size for item in archive.items()}
            listed = True
        except NotSupported:
            published = read_publishes(archive, [own.prefix]).get(own.prefix)
            keys = list(_present_keys(engine))
            if published is not None:
                keys += [*published.pack_keys, published.index_key]
            items = archive.present(archive.stored_keys(keys))
            listed = False
        publishes = publishes_among(archive, items)
        theirs = {
            prefix
            for prefix, publish in publishes.items()
            if _is_of_another(publish, engine, others)
        }
        doomed = {
            stored_key: size
            for stored_key, size in items.items()
            if not is_theirs(key := Archive.entry_key(stored_key))
            and scope_prefix_of(key) not in theirs
        }
        if dry_run:
            return _count(engine, doomed, counted, listed=listed)
        gone = [publish.label for prefix, publish in publishes.items() if prefix not in theirs]
        remove_notes(archive, [own, *gone])
        return _remove(archive, engine, doomed, listed=listed)


def clear_stale(
    engine: CachedEngine,
    *,
    others: Collection[CachedEngine] = (),
    keep_releases: int = 3,
    dry_run: bool = False,
    counted: Counted | None = None,
) -> ClearReport:
    """Remove those entries in an engine's cache that no present template would use.

    What was published lately stays: other releases, or other versions of Python, may still serve
    it.

    Args:
        engine: The engine.
        others: All other engines, whose present templates keep their entries.
        keep_releases: How many publishes of each engine stay, the newest first, beside the
            present ones.
        dry_run: Whether to change nothing and only tell what would be removed.
        counted: Entries that earlier dry runs told of; this one leaves them out and adds its own.

    Raises:
        StoreError: The store failed.
        NotSupported: The store cannot list its keys, or its client cannot delete; or an
            engine's loader cannot list its templates.
    """
    for each in (engine, *others):
        if unlistable := each.list_templates().unlistable:
            raise NotSupported(
                f"{', '.join(unlistable)} of engine {each.name!r} cannot list its templates, so "
                "nobody can tell which entries are stale."
            )
    with Archive(engine.cache.storage) as archive:
        items = {item.key: item.size for item in archive.items()}
        present = {
            each.cache.published.scope(each.environment).prefix for each in (engine, *others)
        }
        publishes = publishes_among(archive, items)
        kept = _kept(publishes, present, keep_releases)
        used = {key for each in (engine, *others) for key in _present_keys(each)}
        for publish in kept:
            used.update(publish.pack_keys, [publish.index_key], publish.entry_keys.values())
        doomed = {key: size for key, size in items.items() if Archive.entry_key(key) not in used}
        if dry_run:
            return _count(engine, doomed, counted, listed=True)
        current = {newest_key(publish.label) for publish in kept}
        old = [publish.label for publish in publishes.values()]
        remove_notes(archive, [label for label in old if newest_key(label) not in current])
        return _remove(archive, engine, doomed, listed=True)


def _kept(
    publishes: dict[str, Publish], present: Collection[str], keep_releases: int
) -> list[Publish]:
    kept = [publish for prefix, publish in publishes.items() if prefix in present]
    others: dict[str, list[Publish]] = {}
    for prefix, publish in publishes.items():
        if prefix not in present:
            others.setdefault(publish.label.engine, []).append(publish)
    for each in others.values():
        each.sort(key=lambda publish: publish.created, reverse=True)
        kept += each[:keep_releases]
    return kept


def _is_of_another(
    publish: Publish, engine: CachedEngine, others: Collection[CachedEngine]
) -> bool:
    own = engine.cache.published.scope(engine.environment).engine
    theirs = {other.cache.published.scope(other.environment).engine for other in others} - {own}
    return publish.label.engine in theirs


def _remove(
    archive: Archive, engine: CachedEngine, doomed: dict[str, int], *, listed: bool
) -> ClearReport:
    indexes = [key for key in doomed if _is_pack(key) and key.endswith(INDEX)]
    packs = [key for key in doomed if _is_pack(key) and not key.endswith(INDEX)]
    entries = [key for key in doomed if not _is_pack(key)]
    # Without pack 0 nobody looks for the others.
    removed_packs = archive.delete(packs)
    archive.delete(indexes)
    removed = archive.delete(entries)
    return ClearReport(engine.name, removed, removed_packs, sum(doomed.values()), listed)


def _count(
    engine: CachedEngine, doomed: dict[str, int], counted: Counted | None, *, listed: bool
) -> ClearReport:
    """Report what would be removed, but for what was counted for an engine on the same cache."""
    place = repr(engine.cache)
    known = set() if counted is None else counted
    sizes = {key: size for key, size in doomed.items() if (place, key) not in known}
    known.update((place, key) for key in sizes)
    packs = [key for key in sizes if _is_pack(key)]
    count = sum(not key.endswith(INDEX) for key in packs)
    entries = len(sizes) - len(packs)
    return ClearReport(engine.name, entries, count, sum(sizes.values()), listed)


def _is_pack(stored_key: str) -> bool:
    return scope_prefix_of(Archive.entry_key(stored_key)) is not None


def _belonging_to(others: Collection[CachedEngine], engine: CachedEngine) -> Callable[[str], bool]:
    """Return what tells whether an entry key belongs to one of the others, not to the engine."""
    own = _fingerprint(engine)
    foreign = tuple({_fingerprint(other) for other in others} - {own})
    # Environments that differ in autoescape alone have the same fingerprint.
    alike = [other for other in others if _fingerprint(other) == own]
    keys = {key for other in alike for key in _present_keys(other)}
    if keys:
        keys.difference_update(_present_keys(engine))
    return lambda key: key.startswith(foreign) or key in keys


def _fingerprint(engine: CachedEngine) -> str:
    return fingerprint(engine.environment, engine.cache.salt)


def _present_keys(engine: CachedEngine) -> Iterable[str]:
    """Yield the entry keys of an engine's templates as they are now."""
    listing = engine.list_templates()
    for template in (*listing.names, *listing.left_to_others):
        try:
            source = read_source(engine.environment, template)
        except Exception:  # noqa: BLE001, S112 - what cannot be read has no key
            continue
        if source is not None:
            yield engine.entry_key(source)
