"""Stores for Django's backends that need no server."""

from __future__ import annotations

import os
from typing import Any

from django_jinja_bccache.stores.base import Guard, Store
from django_jinja_bccache.stores.django import NullStore
from django_jinja_bccache.stores.filesystem import FileSystemStore

#: The directory, below that of a FileBasedCache, which is this package's own.
SUBDIRECTORY = "jinja2_bytecode"


def file_store(backend: Any, *, deadline: float, guard: Guard) -> Store:  # noqa: ARG001
    """Make a store beside the files of a FileBasedCache, which leaves other files alone."""
    return guard(FileSystemStore(os.path.join(backend._dir, SUBDIRECTORY)), "")


def null_store(_backend: Any, *, deadline: float, guard: Guard) -> Store:  # noqa: ARG001
    return NullStore()
