"""One stored value: sealed with a signing key, authenticated before anything reads it.

A sealed value is, in this order (integers big-endian):

======== ===== =====================================================================
offset   bytes meaning
======== ===== =====================================================================
0        4     magic, ``b"jbcc"``
4        1     format version
5        1     flags: how the payload is compressed (0 not at all, 1 zlib, 2 zstd)
6        4     length of the label in bytes
10       8     creation, in seconds since the epoch
18       4     length of the payload in bytes once decompressed
22       n     label: JSON that says what the payload is
22 + n   32    HMAC-SHA-256 over the entry key, a NUL byte, and all but these 32 bytes
54 + n         payload
======== ===== =====================================================================
"""

from __future__ import annotations

import hmac
import struct
import time
from hashlib import sha256
from typing import NamedTuple

from django_jinja_bccache.compression import RAW, compress, decompress
from django_jinja_bccache.exceptions import ConfigurationError, EntryRejected

MAGIC = b"jbcc"
FORMAT_VERSION = 1

_HEADER = struct.Struct(">4sBBIQI")
_MAC_SIZE = 32


class SigningKey:
    """What entries are sealed with, derived from one secret.

    Args:
        secret: The secret, such as Django's ``SECRET_KEY``. It is not kept.

    Raises:
        ConfigurationError: The secret is empty or neither ``str`` nor ``bytes``.
    """

    __slots__ = ("_mac", "id")

    def __init__(self, secret: str | bytes) -> None:
        __traceback_hide__ = True  # Django's error pages would show the secret
        if not isinstance(secret, str | bytes) or not secret:
            raise ConfigurationError("a signing key must be a str or bytes that is not empty.")
        # What an environment holds need not be UTF-8.
        material = secret.encode("utf-8", "surrogatepass") if isinstance(secret, str) else secret
        #: Tells keys apart without telling them: 16 hexadecimal digits.
        self.id = hmac.digest(material, b"django_jinja_bccache: key id", "sha256")[:8].hex()
        purpose = hmac.digest(material, b"django_jinja_bccache: entry", "sha256")
        self._mac = hmac.new(purpose, digestmod=sha256)

    def __repr__(self) -> str:
        return f"<SigningKey {self.id}>"

    def sign(self, *parts: bytes | memoryview) -> bytes:
        """Return the MAC over the parts joined, 32 bytes."""
        mac = self._mac.copy()
        for part in parts:
            mac.update(part)
        return mac.digest()


class Unsealed(NamedTuple):
    """What a sealed value holds.

    Attributes:
        label: The JSON text that says what the payload is, undecoded.
        created: When it was sealed, in whole seconds since the epoch.
        body: The payload as it is stored.
        method: How the body is compressed.
        size: Bytes of the payload.
    """

    label: bytes
    created: int
    body: memoryview
    method: int
    size: int

    @property
    def payload(self) -> bytes | memoryview:
        """The bytes that were sealed.

        Raises:
            EntryRejected: They cannot be decompressed here.
        """
        return decompress(self.body, self.method, self.size)


def seal(
    key: str,
    payload: bytes,
    signing_key: SigningKey,
    *,
    label: bytes = b"{}",
    method: int = RAW,
    created: int | None = None,
) -> bytes:
    """Return the value to store under an entry key.

    Args:
        key: The entry key. A value unseals under this key only.
        payload: The bytes to keep, 4 GiB at most.
        signing_key: What to sign with.
        label: What the payload is, 4 GiB at most.
        method: How to compress the payload: ``RAW``, ``ZLIB`` or ``ZSTD`` of ``compression``.
        created: Seconds since the epoch; now unless given.
    """
    body = compress(payload, method)
    when = int(time.time()) if created is None else created
    header = _HEADER.pack(MAGIC, FORMAT_VERSION, method, len(label), when, len(payload))
    mac = signing_key.sign(key.encode(), b"\0", header, label, body)
    return b"".join((header, label, mac, body))


def unseal(key: str, value: object, signing_key: SigningKey) -> Unsealed:
    """Authenticate a stored value, then return what it holds.

    Args:
        key: The entry key under which the value was found.
        value: What the store returned, trusted in nothing.
        signing_key: The key that must have sealed it.

    Raises:
        EntryRejected: The value is not, or no longer, one that ``seal`` made for this key
            with this signing key. Nothing of it was decompressed or interpreted.
    """
    if not isinstance(value, bytes) or len(value) < _HEADER.size + _MAC_SIZE:
        raise EntryRejected("corrupt")
    magic, version, method, label_size, created, size = _HEADER.unpack_from(value)
    if magic != MAGIC:
        raise EntryRejected("corrupt")
    if version != FORMAT_VERSION:
        raise EntryRejected("version")
    mac_at = _HEADER.size + label_size
    view = memoryview(value)
    mac, body = view[mac_at : mac_at + _MAC_SIZE], view[mac_at + _MAC_SIZE :]
    expected = signing_key.sign(key.encode(), b"\0", view[:mac_at], body)
    if not hmac.compare_digest(mac, expected):
        raise EntryRejected("signature")
    return Unsealed(value[_HEADER.size : mac_at], created, body, method, size)


def unauthenticated_label(value: object, longest: int) -> bytes:
    """Return the label that a value claims to have: good for a line in the log, if at all.

    Raises:
        EntryRejected: It is longer than ``longest`` bytes, or the value is of another format.
    """
    if not isinstance(value, bytes) or len(value) < _HEADER.size:
        raise EntryRejected("corrupt")
    magic, version, _, label_size, _, _ = _HEADER.unpack_from(value)
    if (magic, version) != (MAGIC, FORMAT_VERSION) or label_size > longest:
        raise EntryRejected("version")
    return value[_HEADER.size : _HEADER.size + label_size]
