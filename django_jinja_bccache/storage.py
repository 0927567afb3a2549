"""Entries of one cache: sealed, kept under its keys in its store, counted and logged."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from types import CodeType
from typing import Any

from django_jinja_bccache.accounting import Account
from django_jinja_bccache.bytecode import Label, code_from
from django_jinja_bccache.compression import RAW, ZLIB
from django_jinja_bccache.entry import SigningKey, seal, unseal
from django_jinja_bccache.exceptions import (
    ConfigurationError,
    EntryRejected,
    NotSupported,
    StoreError,
    ValueTooLarge,
)
from django_jinja_bccache.opening import OpenStore, StoreOpener
from django_jinja_bccache.signing import Secret, signing_keys, signing_keys_from_settings
from django_jinja_bccache.statistics import CacheStatistics, Recorder
from django_jinja_bccache.stores.base import Store, StoreUsage
from django_jinja_bccache.stores.guard import CircuitOpen
from django_jinja_bccache.stores.tiered import get_any

logger = logging.getLogger("django_jinja_bccache")

#: A stored value, and the key that may have sealed it.
Candidate = tuple[SigningKey, bytes]


class EntryStorage:
    """Reads and writes the entries of one cache. Safe to share between threads.

    Args:
        open_store: Opens the store, when it is first needed and in each forked child.
        name: What to call the cache in the log.
        prefix: What every stored key begins with.
        timeout: Seconds that an entry is kept, None for ever.
        key: The option ``key``; None for the keys from the settings.
        ignore_errors: Whether a failure of the store is a miss; else it raises.
        read_only: Whether pages store nothing.
        deadline: Seconds that one operation of the store may take.
        cooldown: Seconds during which a store that failed is not asked.
    """

    def __init__(
        self,
        open_store: OpenStore,
        *,
        name: str,
        prefix: str,
        timeout: float | None,
        key: Secret | None,
        ignore_errors: bool,
        read_only: bool,
        deadline: float,
        cooldown: float,
    ) -> None:
        __traceback_hide__ = True
        self.recorder = Recorder()
        #: Opens the store, and tells whether it has two tiers.
        self.opener = StoreOpener(
            open_store,
            name=name,
            deadline=deadline,
            cooldown=cooldown,
            after_fork=self.recorder.forget_lock,
        )
        self.prefix = prefix
        self.timeout = timeout
        #: Whether the option ``key`` was given.
        self.has_own_key = key is not None
        self._account = Account()
        self._signing_keys = None if key is None else signing_keys(key)
        self._ignore_errors = ignore_errors
        #: Whether pages store nothing, by the option or by the process environment.
        self.read_only = read_only

    @property
    def signing_keys(self) -> tuple[SigningKey, ...]:
        """The keys that entries are accepted under; the first signs."""
        if self._signing_keys is None:
            self._signing_keys = signing_keys_from_settings()
        return self._signing_keys

    def forget_settings(self) -> None:
        """Read the signing keys from the settings again, if they come from there."""
        if not self.has_own_key:
            self._signing_keys = None

    def stored_key(self, entry_key: str, signing_key: SigningKey) -> str:
        """Return the key in the store: sites with unlike signing keys never meet there."""
        return f"{self.prefix}{signing_key.id}:{entry_key}"

    def note_key(self, key: str) -> str:
        """Return the key in the store of what processes with any signing key are to find."""
        return f"{self.prefix}note:{key}"

    def statistics(self) -> CacheStatistics:
        """Return what was counted, and how full the store is (one round trip)."""
        try:
            usage = self.opener.store().usage()
        except (StoreError, NotSupported):
            usage = StoreUsage()
        return self.recorder.snapshot(usage.size, usage.max_size)

    def read(self, key: str, template: str | None, *others: str) -> CodeType | None:
        """Return the code stored under an entry key, None if there is none to be used.

        Args:
            key: The entry key.
            template: The template's name, for those who listen.
            others: Entry keys that will do if there is nothing under the first.
        """
        # Packs may have been looked for already.
        began = time.perf_counter() - self._account.seconds
        origin = "store"
        try:
            with self._accounting():
                values, origin = self._fetch((key, *others))
        except ConfigurationError:
            raise
        except Exception as error:  # noqa: BLE001 - a KEY_FUNCTION may raise anything, too
            self._store_failed(error, key, template)
            values, reason = [], "store down"
        else:
            reason = "absent"
        refused: list[tuple[str, str]] = []
        for entry_key, signing_key, value in values:
            try:
                code = code_from(unseal(entry_key, value, signing_key).payload)
            except EntryRejected as rejected:
                reason = rejected.reason
                refused.append((entry_key, reason))
                continue
            for refused_key, why in refused:  # one under another signing key serves
                self.recorder.record("rejected", template, refused_key, reason=why)
            self.record_load("hit", template, entry_key, began, size=len(value), origin=origin)
            return code
        self.record_load("miss", template, key, began, reason=reason)
        return None

    def record_load(
        self, kind: str, template: str | None, key: str, began: float, **details: Any
    ) -> None:
        """Count a hit or a miss, with what this thread has asked the store for it.

        Args:
            kind: See ``Event``, as for ``template``, ``key`` and the details.
            template: The template's name.
            key: The entry key.
            began: When it was first looked for, on the clock of ``time.perf_counter()``.
            details: What else there is to tell.
        """
        if self.recorder.listeners:
            details["seconds"] = time.perf_counter() - began
            details["fetching"], details["round_trips"] = self._account.settle()
        self.recorder.record(kind, template, key, **details)

    def _accounting(self) -> AbstractContextManager[None]:
        return self._account.asking() if self.recorder.listeners else nullcontext()

    def _fetch(self, keys: Sequence[str]) -> tuple[list[tuple[str, SigningKey, bytes]], str]:
        """Return what lies under entry keys, and which tier it comes from."""
        store = self.opener.store()
        owners = self._owners(keys)
        if len(owners) == 1:
            [(stored_key, (key, signing_key))] = owners.items()
            value = store.get(stored_key)
            values = [] if value is None else [(key, signing_key, value)]
        else:
            found = get_any(store, list(owners))
            values = [
                (*owner, found[stored_key])
                for stored_key, owner in owners.items()
                if stored_key in found
            ]
        return values, getattr(store, "answered", "store")

    def _owners(self, keys: Sequence[str]) -> dict[str, tuple[str, SigningKey]]:
        return {
            self.stored_key(key, signing_key): (key, signing_key)
            for key in keys
            for signing_key in self.signing_keys
        }

    def fetch_many(
        self, keys: Sequence[str], ask: Callable[[Store, Sequence[str]], dict[str, bytes]]
    ) -> dict[str, list[Candidate]]:
        """Return what the store holds under entry keys, in one round trip and unauthenticated.

        A failure of the store is counted, and nothing is returned.

        Args:
            keys: The entry keys.
            ask: ``get_many``, or what of ``stores.tiered`` is to stand for it.
        """
        if not keys:
            return {}
        found: dict[str, bytes] = {}
        owners = self._owners(keys)
        with self._surviving(keys[0]):
            found = ask(self.opener.store(), list(owners))
        candidates: dict[str, list[Candidate]] = {}
        for stored_key, (key, signing_key) in owners.items():
            if stored_key in found:
                candidates.setdefault(key, []).append((signing_key, found[stored_key]))
        return candidates

    def fetch_note(self, key: str) -> bytes | None:
        """Return what lies under the key of a note, empty if there is nothing.

        A failure of the store is counted, and None is returned.
        """
        stored_key = self.note_key(key)
        with self._surviving(key):
            return self.opener.store().get(stored_key) or b""
        return None

    @contextmanager
    def _surviving(self, key: str) -> Iterator[None]:
        """Count a failure of the store, and go on without what was asked for."""
        try:
            with self._accounting():
                yield
        except ConfigurationError:
            raise
        except Exception as error:  # noqa: BLE001 - as in read()
            self._store_failed(error, key, None)

    def write(self, key: str, payload: bytes, label: Label) -> None:
        """Store one template's code. What the store refuses is counted and logged."""
        if self.read_only:
            return
        began = time.perf_counter()
        try:
            size = self.put(self.opener.store(), key, payload, label)
        except ValueTooLarge as error:
            self.recorder.record("oversize", label.template, key, size=error.size)
            logger.warning(
                "The bytecode of template %r is too large for its cache and is compiled in "
                "each process: %s.",
                label.template,
                error,
            )
        except ConfigurationError:
            raise
        except Exception as error:  # noqa: BLE001 - as in read()
            self._store_failed(error, key, label.template)
        else:
            seconds = time.perf_counter() - began
            self.recorder.record("store", label.template, key, size=size, seconds=seconds)

    def put(self, store: Store, key: str, payload: bytes, label: Label) -> int:
        """Seal one template's code and store it; return the bytes stored.

        Raises:
            ValueTooLarge: The store does not take it, compressed neither.
            StoreError: The store failed.
        """
        stored_key, value = self.seal(key, payload, label)
        try:
            store.set(stored_key, value, self.timeout)
        except ValueTooLarge:
            stored_key, value = self.seal(key, payload, label, method=ZLIB)
            store.set(stored_key, value, self.timeout)
        return len(value)

    def seal(
        self, key: str, payload: bytes, label: Label, *, method: int = RAW
    ) -> tuple[str, bytes]:
        """Return the stored key and the value for one template's code."""
        signing_key = self.signing_keys[0]
        value = seal(key, payload, signing_key, label=label.to_bytes(), method=method)
        return self.stored_key(key, signing_key), value

    def _store_failed(self, error: Exception, key: str, template: str | None) -> None:
        if not isinstance(error, CircuitOpen):
            self.recorder.record("error", template, key, reason=str(error))
        if not self._ignore_errors:
            raise error
