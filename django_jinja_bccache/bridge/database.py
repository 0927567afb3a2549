"""The store over Django's DatabaseCache."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from hashlib import blake2b
from typing import Any

from django.core.cache import caches
from django.db import (
    Error,
    InterfaceError,
    OperationalError,
    connections,
    router,
    transaction,
)

from django_jinja_bccache.exceptions import StoreError, StoreUnavailable
from django_jinja_bccache.stores.django import DjangoCacheStore


class DatabaseCacheStore(DjangoCacheStore):
    """A store over a DatabaseCache, which shares its connection with the site.

    Inside a transaction of the site's each operation has a savepoint of its own, so that an
    error of SQL leaves the transaction as it was. Where an event loop runs, in which Django lets
    no database be used, each has a thread and a connection of its own.
    """

    def set(self, key: str, value: bytes, timeout: float | None) -> None:
        """Store a value for ``timeout`` seconds, for ever if None."""
        if self.set_many({key: value}, timeout):
            raise StoreError(f"the database did not store {len(value)} bytes under {key!r}")

    def set_many(self, items: Mapping[str, bytes], timeout: float | None) -> list[str]:
        """Store values; return the keys of those that were not stored."""
        return [key for key, value in items.items() if not self._was_stored(key, value, timeout)]

    def _was_stored(self, key: str, value: bytes, timeout: float | None) -> bool:
        def store(cache: Any) -> bool:
            stored_key = cache.make_and_validate_key(key)
            with _only_writer(cache, stored_key) as is_only_writer:
                # set() would not say whether it was stored.
                return not is_only_writer or cache._base_set("set", stored_key, value, timeout)

        return bool(self._use(store))

    def _use(self, operation: Callable[[Any], Any]) -> Any:
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return self._use_here(operation)
        with ThreadPoolExecutor(1) as thread:
            return thread.submit(self._use_and_disconnect, operation).result()

    def _use_and_disconnect(self, operation: Callable[[Any], Any]) -> Any:
        try:
            return self._use_here(operation)
        finally:
            connections.close_all()

    def _use_here(self, operation: Callable[[Any], Any]) -> Any:
        try:
            with ExitStack() as savepoints:
                for database in _databases_in_transaction(caches[self._alias]):
                    savepoints.enter_context(transaction.atomic(using=database))
                return super()._use(operation)
        except StoreError as error:
            if isinstance(error.__cause__, InterfaceError | OperationalError):
                raise StoreUnavailable(str(error)) from error.__cause__
            raise
        except Error as error:  # of the savepoint
            raise StoreUnavailable(f"{type(error).__name__}: {error}") from error


def _databases_in_transaction(cache: Any) -> Iterator[str]:
    entry = cache.cache_model_class
    for database in {router.db_for_read(entry), router.db_for_write(entry)}:
        connection = connections[database]
        if connection.in_atomic_block or not connection.get_autocommit():
            yield database


@contextmanager
def _only_writer(cache: Any, stored_key: str) -> Iterator[bool]:
    """Tell whether nobody else is storing the same just now, in a transaction not over yet.

    PostgreSQL would have this page wait for the end of that transaction.
    """
    database = router.db_for_write(cache.cache_model_class)
    connection = connections[database]
    if connection.vendor != "postgresql":
        yield True
        return
    digest = blake2b(f"{cache._table} {stored_key}".encode(), digest_size=8).digest()
    lock = int.from_bytes(digest, "big", signed=True)
    with transaction.atomic(using=database), connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_xact_lock(%s)", [lock])
        yield cursor.fetchone()[0]
