"""A raw store under the key rules of one alias in CACHES."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from django_jinja_bccache.exceptions import NotSupported, StoreError
from django_jinja_bccache.stores.base import Store, StoredItem, StoreUsage
from django_jinja_bccache.stores.replicated import primary_of

logger = logging.getLogger("django_jinja_bccache")


class AliasStore:
    """Puts every key through KEY_PREFIX, VERSION and KEY_FUNCTION.

    Args:
        store: The store over the raw client.
        make_key: The alias's own rule, such as ``BaseCache.make_and_validate_key``.
    """

    def __init__(self, store: Store, make_key: Callable[[str], str]) -> None:
        self._store = store
        self._make_key_unchecked = make_key
        self._has_told = False

    @property
    def primary(self) -> AliasStore:
        """The same without replicas, which lag behind."""
        return AliasStore(primary_of(self._store), self._make_key_unchecked)

    def _make_key(self, key: str) -> str:
        try:
            return self._make_key_unchecked(key)
        except Exception as error:  # a KEY_FUNCTION may raise anything
            problem = f"{type(error).__name__}: {error}"
            if not self._has_told:  # no outage begins with it, as the store is not asked
                self._has_told = True
                logger.warning(
                    "The KEY_FUNCTION or another key rule of an alias in CACHES refuses the keys "
                    "of bytecode (%s). Templates whose key is refused are compiled in each "
                    "process.",
                    problem,
                )
            raise StoreError(f"The key rules of this alias refuse {key!r}: {problem}") from error

    def get(self, key: str) -> bytes | None:
        """Return the value, None if there is none."""
        return self._store.get(self._make_key(key))

    def get_many(self, keys: Sequence[str]) -> dict[str, bytes]:
        """Return the values of those keys that have one."""
        made = {self._make_key(key): key for key in keys}
        found = self._store.get_many(list(made))
        return {made[stored]: value for stored, value in found.items()}

    def set(self, key: str, value: bytes, timeout: float | None) -> None:
        """Store a value for ``timeout`` seconds, for ever if None."""
        self._store.set(self._make_key(key), value, timeout)

    def set_many(self, items: Mapping[str, bytes], timeout: float | None) -> list[str]:
        """Store values; return the keys of those that were not stored."""
        made = {self._make_key(key): key for key in items}
        failed = self._store.set_many(
            {stored: items[key] for stored, key in made.items()}, timeout
        )
        return [made[stored] for stored in failed]

    def delete_many(self, keys: Iterable[str]) -> int:
        """Remove keys; return how many there were."""
        return self._store.delete_many([self._make_key(key) for key in keys])

    def scan(self, prefix: str) -> Iterator[StoredItem]:
        """List the items whose key begins with ``prefix``.

        Raises:
            NotSupported: The alias has a KEY_FUNCTION that does not put its own part first,
                so that a prefix cannot be told from a key; or the store cannot list.
        """
        made = self._make_key(prefix)
        if self._make_key(prefix + "x") != made + "x":
            raise NotSupported("The alias has a KEY_FUNCTION from whose keys none can be read.")
        for item in self._store.scan(made):
            yield item._replace(key=prefix + item.key[len(made) :])

    def usage(self) -> StoreUsage:
        """Tell how full the store is."""
        return self._store.usage()

    def close(self) -> None:
        """Close the store's connections."""
        self._store.close()
