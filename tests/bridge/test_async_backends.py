"""A backend for asynchronous code alone is an error in the settings that says so."""

from pathlib import Path

import jinja2
import pytest
from django.core.cache.backends.locmem import LocMemCache
from django.test import override_settings

from django_jinja_bccache import DjangoBytecodeCache, bridge
from django_jinja_bccache.conf import validate_settings
from django_jinja_bccache.exceptions import ConfigurationError
from django_jinja_bccache.stores.base import unguarded
from tests.sites import BACKEND

ASYNC_VALKEY = "django_valkey.async_cache.cache.AsyncValkeyCache"


class Secretive(LocMemCache):
    """A backend whose methods do not look asynchronous."""

    def get(self, *arguments, **options):
        return self.aget(*arguments, **options)

    get_many = get


def aliases(backend: str) -> dict[str, dict[str, str]]:
    return {"pages": {"BACKEND": backend, "LOCATION": "redis://127.0.0.1:1"}}


@pytest.fixture
def settings_with(tmp_path: Path):
    """Settings of a site whose templates' cache has this backend."""

    def settings_with(backend: str):
        engine = {"BACKEND": BACKEND, "NAME": "shop", "DIRS": [tmp_path]}
        return override_settings(
            CACHES=aliases(backend),
            TEMPLATES=[{**engine, "OPTIONS": {"bytecode_cache": "pages"}}],
        )

    return settings_with


def test_it_is_told_at_start_up(settings_with):
    with (
        settings_with(ASYNC_VALKEY),
        pytest.raises(ConfigurationError, match=r"'shop'.*CACHES\['pages'\].*is asynchronous"),
    ):
        validate_settings()


def test_it_is_told_where_nobody_asked_at_start_up():
    with (
        override_settings(CACHES=aliases(ASYNC_VALKEY)),
        pytest.raises(ConfigurationError, match=r"CACHES\['pages'\].*is asynchronous"),
    ):
        bridge.open_store("pages", deadline=1, guard=unguarded)


def test_one_that_cannot_be_imported_is_told_at_start_up(settings_with):
    with (
        settings_with("no.such.Cache"),
        pytest.raises(ConfigurationError, match=r"'shop'.*CACHES\['pages'\].*no\.such"),
    ):
        validate_settings()


@pytest.mark.parametrize(
    "backend",
    [
        "django.core.cache.backends.redis.RedisCache",
        "django_redis.cache.RedisCache",
        "django_valkey.cache.ValkeyCache",
        "django_valkey.cluster_cache.cache.ClusterValkeyCache",
    ],
)
def test_any_other_is_fine_without_a_server(settings_with, backend):
    with settings_with(backend):
        validate_settings()


def test_one_that_does_not_look_it_fails_no_page_and_is_told_by_commands():
    with override_settings(CACHES=aliases(f"{__name__}.Secretive")):
        cache = DjangoBytecodeCache("pages")
        loader = jinja2.DictLoader({"a.html": "Hello"})
        environment = jinja2.Environment(loader=loader, bytecode_cache=cache)
        assert environment.get_template("a.html").render() == "Hello"
        store = cache.storage.opener.open_patiently()
        for read in (lambda: store.get("key"), lambda: store.get_many(["key"])):
            with pytest.raises(ConfigurationError, match=r"CACHES\['pages'\].*asynchronous"):
                read()
