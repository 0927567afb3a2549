"""The documentation against the code."""

import re
from pathlib import Path

import pytest
from django.core.cache import close_caches
from django.test import override_settings

import django_jinja_bccache
from django_jinja_bccache.bridge import open_store
from django_jinja_bccache.exceptions import NotSupported
from django_jinja_bccache.stores.base import Store

DOCS = Path(__file__).resolve().parent.parent / "docs"

# Where nobody listens: nothing is asked of them here.
LOCATIONS = {
    "memcached": "127.0.0.1:1",
    "redis": "redis://127.0.0.1:1/0",
    "valkey": "redis://127.0.0.1:1/0",
    "db": "bytecode",
}


def rows(heading: str) -> list[list[str]]:
    """The cells of the table below a heading, without its head."""
    text = (DOCS / "backends.md").read_text().partition(f"## {heading}\n")[2]
    table = re.search(r"(?:^\|.*\n)+", text, re.MULTILINE)
    assert table is not None
    lines = table.group().splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


ALIASES = {row[0].strip("`"): row for row in rows("Aliases in CACHES") if row[0].startswith("`")}


def opened(backend: str, directory: Path) -> tuple[Store, list[str]]:
    """The store for a backend, and the names of the raw stores' classes beneath it."""
    raw: list[str] = []

    def guard(store: Store, _name: str) -> Store:
        raw.append(type(store).__name__)
        return store

    kind = next((kind for kind in LOCATIONS if kind in backend.lower()), "")
    location = LOCATIONS.get(kind, str(directory))
    with override_settings(CACHES={"default": {"BACKEND": backend, "LOCATION": location}}):
        store = open_store("default", deadline=0.1, guard=guard)
        close_caches()
    return store, raw


@pytest.mark.parametrize("backend", ALIASES)
def test_the_table_names_the_store_behind_each_backend(backend, tmp_path):
    _, raw = opened(backend, tmp_path)
    documented = ALIASES[backend][1]
    assert {f"`{name}`" for name in raw} == ({documented} if "`" in documented else set())


@pytest.mark.parametrize("backend", ALIASES)
def test_the_table_says_which_stores_cannot_list_and_unpickle_first(backend, tmp_path):
    _, _, _, _, lists, _, unpickles, _ = ALIASES[backend]
    store, raw = opened(backend, tmp_path)
    through_the_public_api = raw in (["DjangoCacheStore"], ["DatabaseCacheStore"])
    assert unpickles == ("yes" if through_the_public_api else "no")
    assert lists == ("no" if through_the_public_api else "yes")
    if through_the_public_api:
        with pytest.raises(NotSupported):
            list(store.scan("jinja2/bytecode/"))


def test_every_registered_backend_has_a_row():
    from django_jinja_bccache.bridge import _factories

    ours = {
        backend
        for backend, factory in _factories.items()
        if isinstance(factory, str) and factory.startswith("django_jinja_bccache.bridge.")
    }
    assert ours <= set(ALIASES)


def test_every_class_that_needs_no_alias_has_a_row():
    documented = {
        row[0].strip("`").partition("(")[0] for row in rows("Classes that need no alias")
    }
    public = {name for name in django_jinja_bccache.__all__ if name.endswith("BytecodeCache")}
    assert documented == public - {"DjangoBytecodeCache"}
