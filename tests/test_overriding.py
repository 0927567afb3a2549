"""A user's tests override settings, and meet nothing of what came from those before."""

import pytest
from django.conf import settings
from django.core.cache import caches
from django.template import engines
from django.test import override_settings

from testproject.caches import caches_from
from tests.engines import templates_with

PAGE = "home.html"


def load() -> None:
    engines["jinja2"].env.cache.clear()
    engines["jinja2"].get_template(PAGE)


def outcomes():
    found = engines["jinja2"].env.bytecode_cache.storage.recorder.snapshot(None, None)
    return found.hits > 0, found.misses > 0


@pytest.fixture
def first(tmp_path):
    """A site whose process has stored, and served, a page."""
    with (
        override_settings(CACHES=caches_from(f"file://{tmp_path}/first", "")),
        override_settings(TEMPLATES=templates_with(bytecode_cache="default")),
    ):
        load()
        yield tmp_path / "first"
        caches.close_all()


def test_another_cache_is_empty_and_the_first_one_is_not_touched(first, tmp_path):
    files = {*first.rglob("*.bytecode")}
    assert files
    with override_settings(CACHES=caches_from(f"file://{tmp_path}/second", "")):
        load()
        assert len([*(tmp_path / "second").rglob("*.bytecode")]) == len(files)
    assert {*first.rglob("*.bytecode")} == files
    assert outcomes() == (False, True)
    load()
    assert outcomes() == (True, True)


@pytest.mark.parametrize(
    "setting", [{"SECRET_KEY": "another"}, {"SECRET_KEY": "other", "SECRET_KEY_FALLBACKS": ["a"]}]
)
def test_another_secret_key_finds_nothing_of_the_first_one(first, setting):
    files = {*first.rglob("*.bytecode")}
    with override_settings(**setting):
        load()
        assert outcomes() == (False, True)
    assert {*first.rglob("*.bytecode")} > files
    load()
    assert outcomes() == (True, True)


def test_a_fallback_that_is_added_serves_at_once(first):
    with override_settings(SECRET_KEY="another", SECRET_KEY_FALLBACKS=["x"]):
        load()
    with override_settings(SECRET_KEY="new", SECRET_KEY_FALLBACKS=[settings.SECRET_KEY]):
        load()
    assert outcomes() == (True, True)


def test_a_setting_of_another_kind_drops_nothing(first):
    store = engines["jinja2"].env.bytecode_cache.storage.opener.store()
    with override_settings(USE_TZ=False):
        assert engines["jinja2"].env.bytecode_cache.storage.opener.store() is store
