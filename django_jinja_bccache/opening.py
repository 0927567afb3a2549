"""When a cache's store is opened, and what to do when it cannot be."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from typing import Protocol

from django_jinja_bccache.exceptions import StoreError
from django_jinja_bccache.stores.base import Guard, Store, unguarded
from django_jinja_bccache.stores.guard import CircuitOpen, GuardedStore
from django_jinja_bccache.stores.replicated import primary_of
from django_jinja_bccache.stores.tiered import tiers_of

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


class StoreOpener:
    """Opens one cache's store when it is first needed, and anew in each forked child.

    Args:
        open_store: Opens it.
        name: What to call the cache in the log.
        deadline: Seconds that one operation of the store may take.
        cooldown: Seconds after which a store that could not be opened is tried again.
        after_fork: Called in a forked child before its store is opened.
    """

    def __init__(
        self,
        open_store: OpenStore,
        *,
        name: str,
        deadline: float,
        cooldown: float,
        after_fork: Callable[[], None],
    ) -> None:
        self._open_store = open_store
        self._name = name
        self._deadline = deadline
        self._cooldown = cooldown
        self._after_fork = after_fork
        self._lock = threading.Lock()
        self._store: Store | None = None
        self._closed_since: float | None = None
        self._reopen_at = 0.0
        self._pid = os.getpid()

    def store(self) -> Store:
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

    def close(self) -> None:
        """Close the store, if it is open; it opens anew when it is next needed."""
        with self._lock:
            store, self._store = self._store, None
            self._reopen_at = 0.0
        if store is not None:
            store.close()

    @property
    def has_tiers(self) -> bool:
        """Whether the store is two: others may have written to one of them."""
        try:
            return len(tiers_of(self.store())) > 1
        except StoreError:
            return False

    def open_patiently(self) -> Store:
        """Return a store without a guard, whose operations may take ten seconds.

        It reads where it writes: replicas may not have yet what was stored just now.
        """
        deadline = max(self._deadline, _PATIENT_DEADLINE)
        return primary_of(self._open_store(deadline=deadline, guard=unguarded))

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
        self._after_fork()
        self._store = None
        self._pid = os.getpid()
