"""Entries of one cache: sealed, kept under its keys in its store, counted and logged."""

from __future__ import annotations

import logging
import os
import threading
import time
from types import CodeType
from typing import Protocol

from django_jinja_bccache.bytecode import Label, code_from
from django_jinja_bccache.entry import SigningKey, seal, unseal
from django_jinja_bccache.exceptions import (
    ConfigurationError,
    EntryRejected,
    NotSupported,
    StoreError,
    ValueTooLarge,
)
from django_jinja_bccache.signing import Secret, signing_keys, signing_keys_from_settings
from django_jinja_bccache.statistics import CacheStatistics, Recorder
from django_jinja_bccache.stores.base import Guard, Store, StoreUsage, unguarded
from django_jinja_bccache.stores.guard import CircuitOpen, GuardedStore
from django_jinja_bccache.stores.replicated import primary_of
from django_jinja_bccache.stores.tiered import get_any

logger = logging.getLogger("django_jinja_bccache")

# Commands may wait longer than a page: they move hundreds of entries at once.
_PATIENT_DEADLINE = 10.0

# Clients inherited through fork() share their connections with the parent: they are kept, and
# never used.
_inherited: list[Store | None] = []


class OpenStore(Protocol):
    """Opens a cache's store."""

    def __call__(self, *, deadline: float, guard: Guard) -> Store:
        """Return the store, whose operations may take ``deadline`` seconds each."""


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
        self._open_store = open_store
        self._name = name
        self.prefix = prefix
        self.timeout = timeout
        #: Whether the option ``key`` was given.
        self.has_own_key = key is not None
        self._signing_keys = None if key is None else signing_keys(key)
        self._ignore_errors = ignore_errors
        self._read_only = read_only
        self._deadline = deadline
        self._cooldown = cooldown
        self.recorder = Recorder()
        self._lock = threading.Lock()
        self._store: Store | None = None
        self._closed_since: float | None = None
        self._reopen_at = 0.0
        self._pid = os.getpid()

    @property
    def signing_keys(self) -> tuple[SigningKey, ...]:
        """The keys that entries are accepted under; the first signs."""
        if self._signing_keys is None:
            self._signing_keys = signing_keys_from_settings()
        return self._signing_keys

    def stored_key(self, entry_key: str, signing_key: SigningKey) -> str:
        """Return the key in the store: sites with unlike signing keys never meet there."""
        return f"{self.prefix}{signing_key.id}:{entry_key}"

    def open_patiently(self) -> Store:
        """Return a store without a guard, whose operations may take ten seconds.

        It reads where it writes: replicas may not have yet what was stored just now.
        """
        deadline = max(self._deadline, _PATIENT_DEADLINE)
        return primary_of(self._open_store(deadline=deadline, guard=unguarded))

    def statistics(self) -> CacheStatistics:
        """Return what was counted, and how full the store is (one round trip)."""
        try:
            usage = self.current_store().usage()
        except (StoreError, NotSupported):
            usage = StoreUsage()
        return self.recorder.snapshot(usage.size, usage.max_size)

    def read(self, key: str, template: str | None) -> CodeType | None:
        """Return the code stored under an entry key, None if there is none to be used."""
        began = time.perf_counter()
        try:
            values = self._fetch(key)
        except ConfigurationError:
            raise
        except Exception as error:  # noqa: BLE001 - a KEY_FUNCTION may raise anything, too
            self._store_failed(error, key, template)
            values, reason = [], "store down"
        else:
            reason = "absent"
        for signing_key, value in values:
            try:
                code = code_from(unseal(key, value, signing_key))
            except EntryRejected as rejected:
                reason = rejected.reason
                continue
            seconds = time.perf_counter() - began
            self.recorder.record("hit", template, key, size=len(value), seconds=seconds)
            return code
        seconds = time.perf_counter() - began
        self.recorder.record("miss", template, key, reason=reason, seconds=seconds)
        return None

    def _fetch(self, key: str) -> list[tuple[SigningKey, bytes]]:
        store = self.current_store()
        signing_keys = self.signing_keys
        if len(signing_keys) == 1:
            value = store.get(self.stored_key(key, signing_keys[0]))
            return [] if value is None else [(signing_keys[0], value)]
        stored_keys = {self.stored_key(key, item): item for item in signing_keys}
        found = get_any(store, list(stored_keys))
        return [(item, found[stored]) for stored, item in stored_keys.items() if stored in found]

    def write(self, key: str, payload: bytes, label: Label) -> None:
        """Store one template's code. What the store refuses is counted and logged."""
        if self._read_only:
            return
        began = time.perf_counter()
        try:
            size = self.put(self.current_store(), key, payload, label)
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
        except Exception as error:  # noqa: BLE001
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
            stored_key, value = self.seal(key, payload, label, compress=True)
            store.set(stored_key, value, self.timeout)
        return len(value)

    def seal(
        self, key: str, payload: bytes, label: Label, *, compress: bool = False
    ) -> tuple[str, bytes]:
        """Return the stored key and the value for one template's code."""
        signing_key = self.signing_keys[0]
        value = seal(key, payload, signing_key, label=label.to_bytes(), compress=compress)
        return self.stored_key(key, signing_key), value

    def _store_failed(self, error: Exception, key: str, template: str | None) -> None:
        if not isinstance(error, CircuitOpen):
            self.recorder.record("error", template, key, reason=str(error))
        if not self._ignore_errors:
            raise error

    def current_store(self) -> Store:
        """Return the guarded store, opened when it is first needed.

        Raises:
            StoreError: It cannot be opened.
        """
        if self._pid != os.getpid():
            self._begin_anew_after_fork()
        store = self._store
        if store is None:
            with self._lock:
                store = self._store
                if store is None:
                    store = self._store = self._open()
        return store

    def _open(self) -> Store:
        now = time.monotonic()
        if now < self._reopen_at:
            raise CircuitOpen("it could not be opened a moment ago")
        try:
            store = self._open_store(deadline=self._deadline, guard=self._guard)
        except StoreError as error:
            self._reopen_at = time.monotonic() + self._cooldown
            if self._closed_since is None:  # one warning when an outage begins
                self._closed_since = now
                logger.warning(
                    "Bytecode cache %s cannot be opened (%s). Templates are compiled in each "
                    "process until it can; next try in %g s.",
                    self._name,
                    error,
                    self._cooldown,
                )
            raise
        if self._closed_since is not None:
            logger.info(
                "Bytecode cache %s is open after %.1f s.", self._name, now - self._closed_since
            )
            self._closed_since = None
        return store

    def _guard(self, store: Store, name: str) -> Store:
        return GuardedStore(store, name=name, deadline=self._deadline, cooldown=self._cooldown)

    def _begin_anew_after_fork(self) -> None:
        # Locks may have been held by threads that do not exist here. The store's raw clients
        # share their connections with the parent: they are kept, and never used.
        _inherited.append(self._store)
        self._lock = threading.Lock()
        self.recorder.forget_lock()
        self._store = None
        self._pid = os.getpid()
