"""memcached's own listing of its keys.

``lru_crawler metadump all`` is read on a socket of its own, because client libraries keep
only a part of an answer that long. Source of the format: memcached's ``doc/protocol.txt``.
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

_BUSY_PAUSE = 0.05


def metadump(address: Address, deadline: float) -> Iterator[StoredItem]:
    """List every key of one memcached server.

    Args:
        address: Where the server listens.
        deadline: Seconds that may pass without a byte from the server, and in all while
            another listing keeps it busy.

    Raises:
        NotSupported: The server does not list its keys; a proxy, for instance.
        StoreUnavailable: It could not be reached.
    """
    give_up = time.monotonic() + deadline
    while True:
        try:
            with _connect(address, deadline) as connection:
                connection.sendall(b"lru_crawler metadump all\r\n")
                lines = connection.makefile("rb")
                first = lines.readline()
                if not first.startswith(b"BUSY"):
                    yield from _items(first, lines, address)
                    return
        except OSError as error:
            raise StoreUnavailable(f"memcached at {address}: {error}") from error
        if time.monotonic() > give_up:
            raise StoreUnavailable(f"memcached at {address} is busy with another listing")
        time.sleep(_BUSY_PAUSE)


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
    line = first
    while not line.startswith(b"END"):
        if not line.startswith(b"key="):
            answer = line.decode("ascii", "replace").strip() or "no answer"
            raise NotSupported(
                f"memcached at {address} does not list its keys "
                f"(lru_crawler metadump all: {answer})"
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
