"""One server or several, each with a guard of its own, as one store."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django_jinja_bccache.stores.base import Guard, Store
from django_jinja_bccache.stores.metadump import Address
from django_jinja_bccache.stores.nodes import NodesStore


def store_on_nodes(nodes: Mapping[Address, Store], guard: Guard, hasher: Any = None) -> Store:
    """Return a store over one node, or over several that share the keys among them.

    Args:
        nodes: The store of each node by the node's address.
        guard: Puts a guard around each.
        hasher: The class that tells which node a key belongs to, pymemcache's
            ``RendezvousHash`` unless given.
    """
    from pymemcache.client.rendezvous import RendezvousHash

    if len(nodes) == 1:
        [store] = nodes.values()
        return guard(store, "")
    ring = (hasher or RendezvousHash)()
    guarded = {}
    for address, store in nodes.items():
        name = address if isinstance(address, str) else f"{address[0]}:{address[1]}"
        guarded[name] = guard(store, name)
        ring.add_node(name)
    return NodesStore(guarded, ring.get_node)
