"""Emptying caches of what this package wrote: reports out, nothing printed."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from django_jinja_bccache.archive import Archive
from django_jinja_bccache.discovery import CachedEngine, list_templates, read_source
from django_jinja_bccache.exceptions import NotSupported
from django_jinja_bccache.fingerprint import fingerprint


@dataclass(frozen=True, slots=True)
class ClearReport:
    """What clearing removed from one engine's cache.

    Attributes:
        engine: The engine's NAME.
        entries: How many entries were removed; with ``dry_run`` would have been.
        bytes: How many bytes they took.
        listed: Whether the store listed its keys. If not, the entries of the present
            templates were found by their keys, and others may be left.
    """

    engine: str
    entries: int
    bytes: int
    listed: bool


def clear(
    engine: CachedEngine, *, spare: Collection[CachedEngine] = (), dry_run: bool = False
) -> ClearReport:
    """Remove the entries in an engine's cache, whatever release or setting they are of.

    Args:
        engine: The engine.
        spare: Engines whose entries are not to go, should they lie in the same cache.
        dry_run: Whether to change nothing and only tell what would be removed.

    Raises:
        StoreError: The store failed.
        NotSupported: The store's client cannot delete.
    """
    spared = {fingerprint(other.environment, other.cache.salt) for other in spare}
    spared.discard(fingerprint(engine.environment, engine.cache.salt))
    with Archive(engine.cache.storage) as archive:
        try:
            items = {item.key: item.size for item in archive.items()}
            listed = True
        except NotSupported:
            items = archive.present(archive.stored_keys(_present_keys(engine)))
            listed = False
        kept = {key for key in items if archive.entry_key(key).startswith(tuple(spared))}
        return _remove(archive, engine, items, kept, listed=listed, dry_run=dry_run)


def clear_stale(
    engine: CachedEngine, *, others: Collection[CachedEngine] = (), dry_run: bool = False
) -> ClearReport:
    """Remove those entries in an engine's cache that no present template would use.

    Args:
        engine: The engine.
        others: All other engines, whose present templates keep their entries.
        dry_run: Whether to change nothing and only tell what would be removed.

    Raises:
        StoreError: The store failed.
        NotSupported: The store cannot list its keys, or its client cannot delete.
    """
    with Archive(engine.cache.storage) as archive:
        items = {item.key: item.size for item in archive.items()}
        used = {key for each in (engine, *others) for key in _present_keys(each)}
        kept = {key for key in items if archive.entry_key(key) in used}
        return _remove(archive, engine, items, kept, listed=True, dry_run=dry_run)


def _remove(
    archive: Archive,
    engine: CachedEngine,
    items: dict[str, int],
    kept: Collection[str],
    *,
    listed: bool,
    dry_run: bool,
) -> ClearReport:
    doomed = [key for key in items if key not in kept]
    size = sum(items[key] for key in doomed)
    removed = len(doomed) if dry_run else archive.delete(doomed)
    return ClearReport(engine.name, removed, size, listed)


def _present_keys(engine: CachedEngine) -> Iterable[str]:
    """Yield the entry keys of an engine's templates as they are now."""
    for template in list_templates(engine.environment).names:
        try:
            source = read_source(engine.environment, template)
        except Exception:  # noqa: BLE001, S112 - what cannot be read has no key
            continue
        if source is not None:
            yield engine.entry_key(source)
