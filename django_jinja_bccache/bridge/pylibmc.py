"""Stores over pylibmc's clients: siblings of Django's, and anybody's own."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import pylibmc
from pylibmc.client import server_type_map, translate_server_spec

from django_jinja_bccache.bridge.clients import as_text
from django_jinja_bccache.bridge.nodes import store_on_nodes
from django_jinja_bccache.stores.base import Guard, Store
from django_jinja_bccache.stores.memcached import MemcachedStore, memcached_expiry
from django_jinja_bccache.stores.metadump import Address, server_settings
from django_jinja_bccache.stores.threads import ThreadedPool

Result = TypeVar("Result")

# The server answered that it will not do what it was asked.
_REFUSALS = (
    *(pylibmc.TooBig, pylibmc.ServerError, pylibmc.ClientError, pylibmc.AllocationError),
    *(pylibmc.BadKeyProvided, pylibmc.NotSupportedError),
)
# libmemcached's numbers of errors that pylibmc has no classes for.
_TIMEOUT, _OUT_OF_MEMORY = 31, 48
_FORBIDDEN_IN_KEYS = re.compile(r"[\x00-\x20\x7f]")


class PylibmcClient:
    """A client of pylibmc's with an error for each of its failures.

    By itself it takes a lost connection for misses when it reads several keys, mixes up answers
    after a key with a space in it, and reads no value at all if one says falsely that it is
    compressed.

    Args:
        client: The client.
        deadline: Seconds, for what the servers are asked past the client.
        namespace: What it puts before every key.

    Attributes:
        addresses: Where its servers listen.
    """

    def __init__(self, client: Any, deadline: float, namespace: bytes = b"") -> None:
        self.client = client
        self._longest_key = 250 - len(namespace)
        self.addresses = [address_of(spec) for spec in client.addresses]
        self._deadline = deadline

    def get(self, key: str) -> object:
        """Return the value, None if there is none."""
        return self.get_multi([key]).get(key)

    def get_multi(self, keys: Sequence[str]) -> Mapping[str, object]:
        """Return the values of those keys that have one."""
        self._check(keys)
        found = _translating_errors(lambda: self._read(keys))
        missing = next((key for key in keys if key not in found), None)
        # If a lost connection was the reason, whoever reads next is told (by libmemcached 1.1 if
        # it is a single read), or reads on a new one.
        if missing is not None and _translating_errors(lambda: self._has(missing)):
            found = _translating_errors(lambda: self._read(keys))
        return found

    def _has(self, key: str) -> bool:
        try:
            return self.client.get(key) is not None
        except pylibmc.Error as error:
            if "decompress" not in str(error):
                raise
            return True

    def _read(self, keys: Sequence[str]) -> dict[str, object]:
        try:
            found: dict[str, object] = self.client.get_multi(keys)
        except pylibmc.Error as error:
            if "decompress" not in str(error):
                raise
            if len(keys) == 1:
                return {keys[0]: b""}  # there is a value, and it is good for nothing
            middle = len(keys) // 2
            found = self._read(keys[:middle]) | self._read(keys[middle:])
        return found

    def set(self, key: str, value: bytes, *expiry: int) -> object:
        """Store a value; return whether it was."""
        self._check([key])
        return _translating_errors(lambda: self.client.set(key, value, *expiry))

    def set_multi(self, items: Mapping[str, bytes], *expiry: int) -> list[str]:
        """Store values; return the keys of those that were not stored."""
        self._check(items)
        failed: list[str] = _translating_errors(
            lambda: self.client.set_multi(dict(items), *expiry)
        )
        return failed

    def delete(self, key: str) -> object:
        """Remove a key; return whether it was there."""
        self._check([key])
        return _translating_errors(lambda: self.client.delete(key))

    def stats(self, *arguments: str) -> Sequence[Mapping[Any, Any]]:
        """Return what each server answers to ``stats``."""
        if arguments == ("settings",):  # most of which libmemcached drops
            return [server_settings(address, self._deadline) for address in self.addresses]
        answers = _translating_errors(lambda: self.client.get_stats(*arguments))
        return [stats for _server, stats in answers]

    def disconnect(self) -> None:
        """Close the connections."""
        self.client.disconnect_all()

    def _check(self, keys: Iterable[str]) -> None:
        for key in keys:
            if _FORBIDDEN_IN_KEYS.search(key) or len(key.encode()) > self._longest_key:
                raise ValueError(f"memcached does not take the key {key!r}.")


class OwnPylibmcClient(PylibmcClient):
    """A client of pylibmc's that somebody else made."""

    unavailable = (OSError,)
    unlisted = ""
    key_prefix = None  # its namespace, which it does not tell
    expiry = staticmethod(memcached_expiry)

    def interrupt(self) -> None:
        """Leave the client to its own time-outs: five seconds, unless it was made with others."""

    def leave_thread(self) -> None:
        """Leave the connections to whoever made the client."""

    def in_child(self) -> OwnPylibmcClient:
        """Return a client like this one with connections of its own."""
        return type(self)(self.client.clone(), self._deadline)


def _translating_errors(operation: Callable[[], Result]) -> Result:
    try:
        return operation()
    except _REFUSALS:
        raise
    except pylibmc.Error as error:
        number = re.match(r"error (\d+)", str(error))
        if number and int(number[1]) == _OUT_OF_MEMORY:
            raise
        if number and int(number[1]) == _TIMEOUT:
            raise TimeoutError(str(error)) from error
        raise ConnectionError(str(error)) from error


def address_of(spec: str | tuple[int, str, int]) -> Address:
    """Return where a server listens, from the way in which pylibmc is told."""
    kind, host, port = (translate_server_spec(spec) if isinstance(spec, str) else spec)[:3]
    return host if kind == server_type_map["unix"] else (host, port)


class BytesClient(pylibmc.Client):  # type: ignore[misc]
    """Takes and returns bytes whatever the flags say: no value reaches ``pickle``."""

    def serialize(self, value: bytes) -> tuple[bytes, int]:
        """Return the value as it is."""
        return value, 0

    def deserialize(self, value: bytes | None, _flags: int) -> bytes:
        """Return the value as it is; pylibmc makes None of one that is empty."""
        return value or b""


# What is for several servers, or what a sibling must have its own way.
_NOT_FOR_SIBLINGS = {
    *("hash", "ketama", "ketama_hash", "ketama_weighted", "distribution", "_sort_hosts"),
    *("num_replicas", "auto_eject", "remove_failed", "failure_limit", "dead_timeout"),
    *("retry_timeout", "_retry_timeout", "cas", "pickle_protocol"),
    *("_noreply", "buffer_requests"),
}


def pylibmc_store(backend: Any, *, deadline: float, guard: Guard) -> Store:
    """Make a store over siblings of the client that Django's PyLibMCCache uses.

    Django's own unpickles what it reads and may wait five seconds for each piece of an answer.
    Its siblings have its servers and options and neither of the two.
    """
    options = dict(backend._options)
    behaviors = _bounded(options.pop("behaviors", None) or {}, deadline)
    nodes = {}
    for spec in backend.client_servers:
        nodes[address_of(spec)] = _node(spec, options, behaviors, deadline)
    return store_on_nodes(nodes, guard)


def _bounded(behaviors: Mapping[str, Any], deadline: float) -> dict[str, Any]:
    """Return a sibling's behaviors: the deadline ends every wait that the user's do not."""
    inherited = {name: behaviors[name] for name in behaviors if name not in _NOT_FOR_SIBLINGS}
    milliseconds = math.ceil(deadline * 1000)
    limits = {
        "connect_timeout": milliseconds,
        "_poll_timeout": milliseconds,
        "send_timeout": milliseconds * 1000,
        "receive_timeout": milliseconds * 1000,
    }
    for name, limit in limits.items():
        limits[name] = min(inherited.get(name) or limit, limit)
    return {"tcp_nodelay": True, **inherited, **limits}


def _node(
    spec: str, options: Mapping[str, Any], behaviors: Mapping[str, Any], deadline: float
) -> MemcachedStore:
    namespace = behaviors.get("namespace") or b""

    def connect() -> PylibmcClient:
        client = BytesClient([spec], behaviors=dict(behaviors), **options)
        return PylibmcClient(client, deadline, namespace)

    return MemcachedStore(
        ThreadedPool(connect, PylibmcClient.disconnect, deadline=deadline),
        addresses=[address_of(spec)],
        listed_prefix=as_text(namespace),
        deadline=deadline,
    )
