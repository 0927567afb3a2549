"""What lies in a store, seen and changed past every client library and past this package."""

import struct
from pathlib import Path
from typing import Protocol

import pytest

from tests.backends import Backend
from tests.servers import Memcached, Redis


class Raw(Protocol):
    """A store's items as its administrator would get at them."""

    def keys(self) -> list[str]:
        """Every key that the store holds, in no order."""

    def get(self, key: str) -> bytes:
        """The value of a key that the store holds."""

    def plant(self, key: str, value: bytes, flags: int = 0) -> None:
        """Put a value under a key that the store holds; not every store has flags."""


class RawMemcached:
    def __init__(self, server: Memcached) -> None:
        self.keys = server.keys
        self.get = server.get_raw
        self.plant = server.set_raw


class RawRedis:
    def __init__(self, server: Redis) -> None:
        self.keys = server.keys
        self.get = server.get_raw
        self._server = server

    def plant(self, key: str, value: bytes, flags: int = 0) -> None:
        self._server.set_raw(key, value)


class RawFiles:
    HEADER = struct.Struct(">4sQH")

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def keys(self) -> list[str]:
        return list(self.paths())

    def paths(self) -> dict[str, Path]:
        """Every file by the key that stands in it."""
        return {self._split(path)[1].decode(): path for path in self.directory.rglob("*.byte*")}

    def get(self, key: str) -> bytes:
        return self._split(self.paths()[key])[2]

    def plant(self, key: str, value: bytes, flags: int = 0) -> None:
        path = self.paths()[key]
        header, key_bytes, _ = self._split(path)
        path.write_bytes(header + key_bytes + value)

    def _split(self, path: Path) -> tuple[bytes, bytes, bytes]:
        content = path.read_bytes()
        size = self.HEADER.size
        end = size + self.HEADER.unpack_from(content)[2]
        return content[:size], content[size:end], content[end:]


def raw_store(backend: Backend, request: pytest.FixtureRequest) -> Raw:
    """The inside of a backend's store."""
    if backend.name in {"memcached", "pylibmc"}:
        return RawMemcached(request.getfixturevalue("memcached"))
    if backend.name == "redis":
        return RawRedis(request.getfixturevalue("redis"))
    return RawFiles(Path(backend.caches["default"]["LOCATION"]))
