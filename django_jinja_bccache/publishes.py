"""What is published, as commands read it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from types import CodeType

from django_jinja_bccache.archive import Archive, Copy
from django_jinja_bccache.exceptions import EntryRejected
from django_jinja_bccache.fingerprint import FINGERPRINT_SIZE
from django_jinja_bccache.packs import (
    INDEX,
    PackLabel,
    contents_of,
    label_of,
    scope_prefix_of,
)


@dataclass(frozen=True, slots=True)
class Publish:
    """Packs that were published together.

    Attributes:
        label: What they say of themselves.
        created: When, in seconds since the epoch.
        pack_keys: The entry keys of the packs.
        index_key: The entry key of their index.
        entry_keys: The entry keys of the templates, by their names.
    """

    label: PackLabel
    created: int
    pack_keys: tuple[str, ...]
    index_key: str
    entry_keys: dict[str, str]


def read_publishes(archive: Archive, prefixes: Iterable[str]) -> dict[str, Publish]:
    """Return what is published of each scope, whose packs' keys begin with these prefixes.

    That there is a publish is what pack 0 says. What is in it is what the index of the same
    publish says; a store may drop that sooner than what pages read, and pack 0 knows it, too, for
    those who can read it.
    """
    wanted = list(prefixes)
    copies = archive.copies([f"{prefix}{part}" for prefix in wanted for part in (0, INDEX)])
    found = {}
    for prefix in wanted:
        firsts = copies.get(f"{prefix}0", [])
        if firsts:
            first = max(firsts, key=lambda copy: copy.unsealed.created)
            label = label_of(first.unsealed)
            indexes = [
                copy
                for copy in copies.get(f"{prefix}{INDEX}", [])
                if label_of(copy.unsealed).publish == label.publish
            ]
            found[prefix] = Publish(
                label,
                first.unsealed.created,
                tuple(f"{prefix}{number}" for number in range(label.total)),
                f"{prefix}{INDEX}",
                _entry_keys_in(first, indexes),
            )
    return found


def _entry_keys_in(first: Copy, indexes: Sequence[Copy]) -> dict[str, str]:
    """Return the entry keys of a publish's templates by their names, none if nobody can tell."""
    for index in indexes:
        with suppress(EntryRejected, ValueError):
            return dict(json.loads(bytes(index.unsealed.payload)))
    try:
        places = contents_of(first.unsealed).places
    except EntryRejected:
        return {}
    fingerprint = label_of(first.unsealed).fingerprint
    return {name: fingerprint + place[0].hex() for name, place in places.items()}


def publishes_among(archive: Archive, stored_keys: Iterable[str]) -> dict[str, Publish]:
    """Return what is published, as ``read_publishes`` does, of packs under stored keys."""
    prefixes = {scope_prefix_of(archive.entry_key(key)) for key in stored_keys}
    return read_publishes(archive, sorted(prefix for prefix in prefixes if prefix))


def holds(archive: Archive, published: Publish, key: str) -> bool:
    """Tell whether a process like this one finds an entry's code in the packs of a publish."""
    digest = bytes.fromhex(key[FINGERPRINT_SIZE:])
    codes: dict[str, dict[bytes, CodeType]] = {}
    for pack_key, copies in archive.copies(published.pack_keys).items():
        for copy in copies:
            if label_of(copy.unsealed) == published.label:
                with suppress(EntryRejected):
                    codes[pack_key] = contents_of(copy.unsealed).codes
    return published.pack_keys[0] in codes and any(digest in each for each in codes.values())


def lost_packs(archive: Archive, published: Publish) -> list[str]:
    """Return the entry keys of those packs that are gone, or belong to another publish."""
    found = archive.copies(published.pack_keys)
    return [
        key
        for key in published.pack_keys
        if all(label_of(copy.unsealed) != published.label for copy in found.get(key, []))
    ]
