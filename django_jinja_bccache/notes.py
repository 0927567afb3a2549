"""The notes on what engines were warmed with last, as commands write and read them."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence

from django_jinja_bccache.archive import Archive
from django_jinja_bccache.newest import (
    Newest,
    newest_key,
    read_newest,
    seal_newest,
    why_nothing_is_found,
)
from django_jinja_bccache.packs import PackLabel, Scope
from django_jinja_bccache.publishes import lost_packs, publishes_among, read_publishes
from django_jinja_bccache.publishing import Publishable


def note_newest(
    archive: Archive, scope: Scope, parts: dict[str, str], *, lifetime: float | None
) -> None:
    """Note what a scope was made with, unless that is noted already.

    Args:
        archive: The cache's archive.
        scope: Whose engine it is.
        parts: The summary of its environment.
        lifetime: Seconds that notes are kept, None for ever.

    Raises:
        StoreError: The store failed.
    """
    signing_key = archive.signing_keys[0]
    for value in archive.note(newest_key(scope)):
        newest = read_newest(scope, value, [signing_key])
        if newest is None or newest.fingerprint != scope.fingerprint:
            break
        if lifetime is not None and time.time() - newest.created >= lifetime / 2:
            break
    else:
        return
    archive.store_note(newest_key(scope), seal_newest(scope, parts, signing_key))


def remove_notes(archive: Archive, scopes: Iterable[Scope | PackLabel]) -> None:
    """Remove what was noted of scopes, but for the notes of sites with another signing key.

    Raises:
        StoreError: The store failed.
    """
    for key, scope in {newest_key(scope): scope for scope in scopes}.items():
        newest = newest_of(archive, scope)
        if newest is not None and newest.fingerprint:
            archive.delete_note(key)


def clear_all(archive: Archive) -> None:
    """Remove every entry and pack of a cache, and the notes on them.

    Raises:
        NotSupported: The store cannot list its keys, or its client cannot delete.
        StoreError: The store failed.
    """
    stored_keys = [stored.key for stored in archive.items()]
    remove_notes(
        archive, [publish.label for publish in publishes_among(archive, stored_keys).values()]
    )
    archive.delete(stored_keys)


def newest_of(archive: Archive, scope: Scope | PackLabel) -> Newest | None:
    """Return what a scope's engine was warmed with last, None if nobody noted it.

    Raises:
        StoreError: The store failed.
    """
    for value in archive.note(newest_key(scope)):
        newest = read_newest(scope, value, archive.signing_keys)
        if newest is not None:
            return newest
    return None


def why_unpublished(
    archive: Archive,
    scope: Scope,
    templates: Sequence[Publishable] | None,
    *,
    anything_missing: bool,
) -> str:
    """Tell what keeps a process from being served from what is published.

    Args:
        archive: The cache's archive.
        scope: The process's.
        templates: What its release ought to hold, None if its cache has no packs.
        anything_missing: Whether templates have no entry.

    Returns:
        The empty string if nothing does, or if nothing needs to be published.

    Raises:
        StoreError: The store failed.
    """
    if anything_missing:
        newest = newest_of(archive, scope)
        if newest is not None and newest.fingerprint != scope.fingerprint:
            return why_nothing_is_found(scope, newest, archive.signing_keys)
    if not scope.release or templates is None:
        return ""
    published = read_publishes(archive, [scope.prefix]).get(scope.prefix)
    if published is None or lost_packs(archive, published):
        return f"release {scope.release!r} is not published"
    if any(published.entry_keys.get(item.template) != item.key for item in templates):
        return f"release {scope.release!r} is published with other content than this"
    return ""
