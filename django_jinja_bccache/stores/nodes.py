"""Several servers that share the keys among them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from django_jinja_bccache.exceptions import StoreError
from django_jinja_bccache.stores.base import Store, StoredItem, StoreUsage


class NodesStore:
    """Sends every key to the node that it belongs to.

    A node that is gone costs its own keys only, if each node has a guard of its own.

    Args:
        nodes: The store of each node by its name.
        node_of: Tells which node a key belongs to.
    """

    def __init__(self, nodes: Mapping[str, Store], node_of: Callable[[str], str]) -> None:
        self._nodes = nodes
        self._node_of = node_of

    def get(self, key: str) -> bytes | None:
        """Return the value, None if there is none."""
        return self._nodes[self._node_of(key)].get(key)

    def get_many(self, keys: Sequence[str]) -> dict[str, bytes]:
        """Return the values of those keys that have one, asking one node after the other."""
        found: dict[str, bytes] = {}
        errors: list[StoreError] = []
        grouped = self._by_node(keys)
        for node, own in grouped.items():
            try:
                found |= node.get_many(own)
            except StoreError as error:
                errors.append(error)
        if errors and len(errors) == len(grouped):
            raise errors[0]
        return found

    def set(self, key: str, value: bytes, timeout: float | None) -> None:
        """Store a value for ``timeout`` seconds, for ever if None."""
        self._nodes[self._node_of(key)].set(key, value, timeout)

    def set_many(self, items: Mapping[str, bytes], timeout: float | None) -> list[str]:
        """Store values; return the keys of those that were not stored."""
        failed: list[str] = []
        for node, own in self._by_node(items).items():
            try:
                failed += node.set_many({key: items[key] for key in own}, timeout)
            except StoreError:
                failed += own
        return failed

    def delete_many(self, keys: Iterable[str]) -> int:
        """Remove keys; return how many there were."""
        return sum(node.delete_many(own) for node, own in self._by_node(keys).items())

    def scan(self, prefix: str) -> Iterator[StoredItem]:
        """List the items of every node whose key begins with ``prefix``."""
        for node in self._nodes.values():
            yield from node.scan(prefix)

    def usage(self) -> StoreUsage:
        """Tell how full the nodes are together."""
        usages = [node.usage() for node in self._nodes.values()]
        return StoreUsage(
            _sum(usage.size for usage in usages), _sum(usage.max_size for usage in usages)
        )

    def close(self) -> None:
        """Close every node's connections."""
        for node in self._nodes.values():
            node.close()

    def _by_node(self, keys: Iterable[str]) -> dict[Store, list[str]]:
        grouped: dict[Store, list[str]] = defaultdict(list)
        for key in keys:
            grouped[self._nodes[self._node_of(key)]].append(key)
        return grouped


def _sum(sizes: Iterable[int | None]) -> int | None:
    known = [size for size in sizes if size is not None]
    return sum(known) if known else None
