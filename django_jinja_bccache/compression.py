"""How payloads are compressed: the numbers that stand in a sealed value's flags."""

from __future__ import annotations

import logging
import sys
import zlib
from functools import lru_cache
from importlib import import_module
from typing import Any

from django_jinja_bccache.exceptions import EntryRejected

RAW, ZLIB, ZSTD = 0, 1, 2
_ZSTD_MODULE = "compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd"

logger = logging.getLogger("django_jinja_bccache")


def compress(payload: bytes, method: int) -> bytes:
    """Compress a payload by ``RAW``, ``ZLIB`` or ``ZSTD``, which has to be installed."""
    if method == ZLIB:
        return zlib.compress(payload, 6)
    if method == ZSTD:
        compressed: bytes = _zstd().compress(payload, 3)
        return compressed
    return payload


def decompress(body: memoryview, method: int, size: int) -> bytes | memoryview:
    """Return the payload, which must be of the size announced.

    Raises:
        EntryRejected: It is of another size, damaged, or compressed by a method that is not
            to be had here.
    """
    if method == RAW:
        payload: bytes | memoryview = body
    elif method == ZLIB:
        # One byte more than announced is enough to see that the announcement was wrong.
        try:
            payload = zlib.decompressobj().decompress(body, size + 1)
        except zlib.error:
            raise EntryRejected("corrupt") from None
    elif method == ZSTD and (zstd := _zstd()) is not None:
        try:
            payload = zstd.ZstdDecompressor().decompress(body, size + 1)
        except zstd.ZstdError:
            raise EntryRejected("corrupt") from None
    else:
        if method == ZSTD:
            _tell_once()
        raise EntryRejected("version")
    if len(payload) != size:
        raise EntryRejected("corrupt")
    return payload


def best_for_packs() -> int:
    """Return the method that makes packs arrive soonest: zlib costs more than it saves."""
    return RAW if _zstd() is None else ZSTD


@lru_cache
def _zstd() -> Any:
    try:
        module = import_module(_ZSTD_MODULE)
    except ImportError:
        return None
    # Freeing one large block raises glibc's threshold for mapping memory, without which
    # every decompression maps and unmaps its buffers anew, at three times the cost.
    bytes(16 << 20)
    return module


@lru_cache
def _tell_once() -> None:
    logger.warning(
        "The bytecode cache holds packs compressed with zstd, which is not installed here: "
        "install django-jinja-bccache[zstd]. Until then templates are loaded one by one."
    )
