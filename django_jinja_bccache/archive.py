"""The entries of one cache, many at a time, for commands: patient, and every failure raises."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from typing import TYPE_CHECKING

from django_jinja_bccache.bytecode import Label, code_from
from django_jinja_bccache.compression import ZLIB, best_for_packs
from django_jinja_bccache.entry import SigningKey, Unsealed, seal, unseal
from django_jinja_bccache.exceptions import (
    EntryRejected,
    StoreError,
    StoreUnavailable,
    ValueTooLarge,
)
from django_jinja_bccache.packs import PACK_PREFIX
from django_jinja_bccache.statistics import CacheEntry
from django_jinja_bccache.storage import EntryStorage
from django_jinja_bccache.stores.base import Store, StoredItem, StoreUsage
from django_jinja_bccache.stores.tiered import tiers_of

if TYPE_CHECKING:
    from typing_extensions import Self

_BATCH = 200
# What anybody else has put behind the same prefix is none of ours.
_ENTRY_KEY = re.compile(r"[0-9a-z.-]+")


@dataclass(frozen=True, slots=True)
class Held:
    """An authentic entry that the store holds.

    Attributes:
        unsealed: What it holds.
        label: What it says of itself.
        is_current: Whether it was sealed with the key that seals now.
        is_everywhere: Whether every tier holds it, of a cache that has two.
    """

    unsealed: Unsealed
    label: Label
    is_current: bool
    is_everywhere: bool = True


@dataclass(frozen=True, slots=True)
class Copy:
    """An authentic value of any kind, as one tier holds it.

    Attributes:
        unsealed: What it holds.
        is_current: Whether it was sealed with the key that seals now.
    """

    unsealed: Unsealed
    is_current: bool

    @property
    def can_be_opened(self) -> bool:
        """Whether it can be decompressed here."""
        try:
            return self.unsealed.payload is not None
        except EntryRejected:
            return False


class Archive:
    """All entries of one cache.

    Every method raises ``StoreError`` if the store fails.

    Args:
        storage: The cache's storage.
    """

    def __init__(self, storage: EntryStorage) -> None:
        self._storage = storage
        self._store = storage.opener.open_patiently()
        self._tiers = tiers_of(self._store)
        #: How many stores are each to hold every value.
        self.tier_count = len(self._tiers)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self._store.close()

    @property
    def signing_keys(self) -> tuple[SigningKey, ...]:
        """The keys that entries are accepted under; the first signs."""
        return self._storage.signing_keys

    def items(self) -> Iterator[StoredItem]:
        """Yield every item that the store holds for this cache, under its stored key.

        Raises:
            NotSupported: The store cannot list its keys.
        """
        for signing_key in self._storage.signing_keys:
            prefix = self._storage.stored_key("", signing_key)
            for item in self._store.scan(prefix):
                if _ENTRY_KEY.fullmatch(item.key, len(prefix)):
                    yield item

    def values(self, key: str) -> Iterator[tuple[SigningKey, bytes]]:
        """Yield whatever every tier holds under an entry key, each with its signing key."""
        for signing_key in self.signing_keys:
            for tier in self._tiers:
                value = tier.get(self._storage.stored_key(key, signing_key))
                if value is not None:
                    yield signing_key, value

    def usage(self) -> StoreUsage:
        """Tell how full the store is."""
        return self._store.usage()

    @staticmethod
    def entry_key(stored_key: str) -> str:
        """Return the entry key in a stored key."""
        return stored_key.rpartition(":")[2]

    def stored_keys(self, entry_keys: Iterable[str]) -> list[str]:
        """Return the stored keys that entry keys may have, one for each signing key."""
        signing_keys = self._storage.signing_keys
        return [
            self._storage.stored_key(key, signing_key)
            for key in entry_keys
            for signing_key in signing_keys
        ]

    def present(self, stored_keys: Sequence[str]) -> dict[str, int]:
        """Return the size of each of those items that the store holds, authentic or not."""
        found: dict[str, int] = {}
        for batch in batches(stored_keys):
            for tier in self._tiers:
                found |= {key: len(value) for key, value in tier.get_many(batch).items()}
        return found

    def read(self, entry_keys: Sequence[str]) -> dict[str, Held]:
        """Return the authentic entries among these; of two tiers' the one to be renewed first."""
        held: dict[str, Held] = {}
        for batch in batches(entry_keys):
            found = [self._read_from(tier, batch) for tier in self._tiers]
            for key in batch:
                each = [entries[key] for entries in found if key in entries]
                if each:
                    oldest = min(each, key=lambda item: (item.is_current, item.unsealed.created))
                    held[key] = replace(oldest, is_everywhere=len(each) == len(found))
        return held

    def _read_from(self, store: Store, entry_keys: Sequence[str]) -> dict[str, Held]:
        held: dict[str, Held] = {}
        # The key that signs comes last, to win over those that it took over from.
        for signing_key in reversed(self._storage.signing_keys):
            held |= self._read_under(signing_key, store, entry_keys)
        return held

    def _read_under(
        self, signing_key: SigningKey, store: Store, entry_keys: Sequence[str]
    ) -> dict[str, Held]:
        held = {}
        for key, copy in self._copies_under(signing_key, store, entry_keys):
            try:
                code_from(copy.unsealed.payload)
            except EntryRejected:
                continue
            label = Label.from_bytes(copy.unsealed.label)
            held[key] = Held(copy.unsealed, label, copy.is_current)
        return held

    def _copies_under(
        self, signing_key: SigningKey, store: Store, keys: Sequence[str]
    ) -> Iterator[tuple[str, Copy]]:
        stored = {self._storage.stored_key(key, signing_key): key for key in keys}
        is_current = signing_key is self._storage.signing_keys[0]
        for stored_key, value in store.get_many(list(stored)).items():
            key = stored[stored_key]
            try:
                yield key, Copy(unseal(key, value, signing_key), is_current)
            except EntryRejected:
                continue

    def copies(self, keys: Sequence[str]) -> dict[str, list[Copy]]:
        """Return the authentic values under keys of any kind, from every tier."""
        found: dict[str, list[Copy]] = {}
        for batch in batches(keys, 16):  # packs are large
            for tier in self._tiers:
                for signing_key in self._storage.signing_keys:
                    for key, copy in self._copies_under(signing_key, tier, batch):
                        found.setdefault(key, []).append(copy)
        return found

    def store_pack(
        self, key: str, payload: bytes, label: bytes, *, is_for_all: bool = False
    ) -> None:
        """Seal and store one pack.

        Args:
            key: Its entry key.
            payload: What it holds.
            label: What it says of itself.
            is_for_all: Whether processes without zstd are to read it, too.

        Raises:
            ValueTooLarge: The store does not take it, compressed neither.
            StoreError: The store failed.
        """
        signing_key = self._storage.signing_keys[0]
        stored_key = self._storage.stored_key(key, signing_key)
        for method in dict.fromkeys((ZLIB if is_for_all else best_for_packs(), ZLIB)):
            value = seal(key, payload, signing_key, label=label, method=method)
            try:
                self._store.set(stored_key, value, self._storage.timeout)
            except ValueTooLarge as error:
                too_large = error
            else:
                return
        raise too_large

    def note(self, key: str) -> list[bytes | None]:
        """Return what lies under the key of a note, from every tier."""
        stored_key = self._storage.note_key(key)
        return [tier.get(stored_key) for tier in self._tiers]

    def store_note(self, key: str, value: bytes) -> None:
        """Store a note, sealed already."""
        self._store.set(self._storage.note_key(key), value, self._storage.timeout)

    def delete_note(self, key: str) -> None:
        """Remove a note."""
        self._store.delete_many([self._storage.note_key(key)])

    def store(self, entries: dict[str, tuple[bytes, Label]]) -> dict[str, StoreError]:
        """Seal and store payloads under entry keys; return what the store refused, and why."""
        refused: dict[str, StoreError] = {}
        out_of_reach: StoreUnavailable | None = None  # one of several nodes
        for batch in batches(list(entries)):
            sealed = {}
            for key in batch:
                stored_key, value = self._storage.seal(key, *entries[key])
                sealed[stored_key] = (key, value)
            values = {stored_key: value for stored_key, (_, value) in sealed.items()}
            for stored_key in self._store.set_many(values, self._storage.timeout):
                key = sealed[stored_key][0]
                if out_of_reach is not None:  # its deadline is not to be waited for again
                    refused[key] = out_of_reach
                    continue
                try:
                    self._storage.put(self._store, key, *entries[key])
                except StoreError as error:
                    refused[key] = error
                    out_of_reach = error if isinstance(error, StoreUnavailable) else None
        return refused

    def delete(self, stored_keys: Sequence[str]) -> int:
        """Remove items; return how many there were.

        Raises:
            NotSupported: The store's client cannot delete.
        """
        return sum(self._store.delete_many(batch) for batch in batches(stored_keys))

    def entries(self) -> Iterator[CacheEntry]:
        """Yield every authentic entry.

        Raises:
            NotSupported: The store cannot list its keys.
        """
        items = {
            key: item
            for item in self.items()
            if not (key := self.entry_key(item.key)).startswith(PACK_PREFIX)
        }
        for batch in batches(list(items)):
            for key, held in self.read(batch).items():
                accessed = items[key].accessed_at
                yield CacheEntry(
                    key=key,
                    template=held.label.template,
                    checksum=held.label.checksum,
                    bytecode=bytes(held.unsealed.payload),
                    created_at=moment(held.unsealed.created),
                    accessed_at=None if accessed is None else moment(accessed),
                )


def batches(keys: Sequence[str], size: int = _BATCH) -> Iterator[Sequence[str]]:
    """Cut a list of keys into parts that fit one round trip."""
    return (keys[start : start + size] for start in range(0, len(keys), size))


def moment(timestamp: float) -> datetime:
    """Return a moment in UTC, from seconds since the epoch."""
    return datetime.fromtimestamp(timestamp, tz=timezone.utc)
