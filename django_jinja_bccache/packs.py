"""Many templates in one value, so that a process begins with one round trip.

The packs of an engine are published together, under one id. Pack 0 says which template lies in
which pack; it is written last, and a pack of another publish is ignored: nobody ever sees half of
one. A pack is a sealed value like any other.
"""

from __future__ import annotations

import json
import marshal
from hashlib import blake2b
from types import CodeType
from typing import NamedTuple

from django_jinja_bccache.entry import Unsealed
from django_jinja_bccache.exceptions import EntryRejected

#: Bytes of bytecode that make a pack full.
PACK_SIZE = 128 * 1024
#: What tells the entry key of a pack from a template's, which is hexadecimal.
PACK_PREFIX = "pack."
#: What stands in the place of a pack's number in the key of a publish's index: which entry each
#: template has, in words that any Python reads, for commands.
INDEX = "index"
# Of what packs hold: packs of unlike formats never meet under a key.
_FORMAT = 2


class Scope(NamedTuple):
    """Whose packs they are.

    Attributes:
        engine: The engine's NAME, or what stands for it.
        fingerprint: The environment's.
        release: The release's name, the empty string for none.
    """

    engine: str
    fingerprint: str
    release: str = ""

    @property
    def prefix(self) -> str:
        """What the entry keys of all its packs begin with."""
        scope = json.dumps([_FORMAT, self.engine, self.fingerprint, self.release]).encode()
        return f"{PACK_PREFIX}{blake2b(scope, digest_size=16).hexdigest()}."


class Place(NamedTuple):
    """Where a published template is.

    Attributes:
        digest: The part of its entry key that is not the fingerprint, as bytes.
        number: The number of its pack.
        root: What tells the directory that holds its file from the loader's others; the empty
            string if it has no file in one of them.
        path: The file's path below that, the empty string if it is the template's name.
        needs: What the template names, and what that names in turn: their positions in the
            table of all places.
        size: Bytes of its bytecode.
        name: The name by which its own loader knows it, the empty string if it is the same.
        escapes: Whether it was compiled to escape.
    """

    digest: bytes
    number: int
    root: str
    path: str
    needs: tuple[int, ...]
    size: int
    name: str
    escapes: bool


#: What ``marshal`` makes of a ``Place``.
PlainPlace = tuple[bytes, int, str, str, tuple[int, ...], int, str, bool]


class Contents(NamedTuple):
    """What a pack holds.

    Attributes:
        codes: The code objects, by the digests of their entries.
        places: In pack 0, the places of all published templates by their names, in the order
            of the packs.
    """

    codes: dict[bytes, CodeType]
    places: dict[str, PlainPlace]


class PackLabel(NamedTuple):
    """What a pack says of itself.

    Attributes:
        publish: What all packs that were published together have in common.
        total: How many those are.
        engine: The engine's NAME.
        fingerprint: The environment's.
        release: The release's name.
    """

    publish: str
    total: int
    engine: str
    fingerprint: str
    release: str


def scope_prefix_of(key: str) -> str | None:
    """Return what the keys of all packs of a scope begin with; None if it is no pack's key."""
    return key[: key.rindex(".") + 1] if key.startswith(PACK_PREFIX) else None


def label_of(unsealed: Unsealed) -> PackLabel:
    """Return what an authentic pack says of itself."""
    return PackLabel(*json.loads(unsealed.label))


def contents_of(unsealed: Unsealed) -> Contents:
    """Return what an authentic pack holds.

    Raises:
        EntryRejected: It cannot be decompressed, or was made by another Python.
    """
    payload = unsealed.payload
    try:
        return Contents(*marshal.loads(payload))  # noqa: S302 - authenticated by unseal()
    except (ValueError, EOFError, TypeError):
        raise EntryRejected("version") from None
