"""What memcached is asked on a connection of its own: the listing of its keys, its settings.

Client libraries keep only a part of an answer as long as that to ``lru_crawler metadump``, and
some know few settings. Source of the formats: memcached's ``doc/protocol.txt``.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from urllib.parse import unquote_to_bytes

from django_jinja_bccache.exceptions import NotSupported, StoreUnavailable
from django_jinja_bccache.stores.base import StoredItem

#: A TCP address or the path of a unix socket.
Address = tuple[str, int] | str

# "all" walks the lists of least recently used items, and passes over what is just being read.
# "hash" misses nothing, but servers before 1.6.9 do not know it.
_WALKS = (b"hash", b"all")
_BUSY_PAUSE = 0.05


def server_at(address: Address) -> str:
    """Return what to call a server in messages."""
    where = address if isinstance(address, str) else f"{address[0]}:{address[1]}"
    return f"memcached at {where}"


def metadump(address: Address, deadline: float) -> Iterator[StoredItem]:
    """List every key of one memcached server.

    Args:
        address: Where the server listens.
        deadline: Seconds that may pass without a byte from the server, and in all while
            another listing keeps it busy.

    Raises:
        NotSupported: The server does not list its keys; a proxy, for instance.
        StoreUnavailable: It could not be reached, or went away before the end.
    """
    give_up = time.monotonic() + deadline
    walk, fallback = _WALKS
    while True:
        try:
            with (
                _connect(address, deadline) as connection,
                connection.makefile("rb") as lines,
            ):
                connection.sendall(b"lru_crawler metadump %s\r\n" % walk)
                first = lines.readline()
                if first.startswith(b"BADCLASS") and walk != fallback:
                    walk = fallback
                    continue
                if not first.startswith(b"BUSY"):
                    yield from _items(first, lines, address)
                    return
        except OSError as error:
            raise StoreUnavailable(f"{server_at(address)}: {error}") from error
        if time.monotonic() > give_up:
            raise StoreUnavailable(f"{server_at(address)} is busy with another listing")
        time.sleep(_BUSY_PAUSE)


def server_settings(address: Address, deadline: float) -> dict[str, str]:
    """Return what one memcached server answers to ``stats settings``; nothing if it is a proxy.

    Args:
        address: Where the server listens.
        deadline: Seconds that may pass without a byte from the server.

    Raises:
        OSError: It could not be reached.
    """
    settings = {}
    with _connect(address, deadline) as connection, connection.makefile("rb") as lines:
        connection.sendall(b"stats settings\r\n")
        for line in lines:
            if not line.startswith(b"STAT "):
                break
            _, name, value = line.decode("ascii", "replace").split(None, 2)
            settings[name] = value.strip()
    return settings


def _connect(address: Address, deadline: float) -> socket.socket:
    if not isinstance(address, str):
        return socket.create_connection(address, deadline)
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(deadline)
    try:
        connection.connect(address)
    except OSError:
        connection.close()
        raise
    return connection


def _items(first: bytes, lines: Iterator[bytes], address: Address) -> Iterator[StoredItem]:
    line = first or b"it closed the connection\n"
    while not line.startswith(b"END\r\n"):
        if not line.endswith(b"\n"):
            raise ConnectionError("the connection was closed before the end of the listing")
        if not line.startswith(b"key="):
            answer = line.decode("ascii", "replace").strip()
            raise NotSupported(
                f"{server_at(address)} does not list its keys (lru_crawler metadump: {answer})"
            )
        yield _item(line)
        line = next(lines, b"")


def _item(line: bytes) -> StoredItem:
    fields = dict(field.split(b"=", 1) for field in line.split() if b"=" in field)
    expires = int(fields[b"exp"])
    return StoredItem(
        key=unquote_to_bytes(fields[b"key"]).decode("utf-8", "surrogateescape"),
        size=int(fields[b"size"]),
        accessed_at=float(fields[b"la"]),
        expires_at=None if expires <= 0 else float(expires),
    )
