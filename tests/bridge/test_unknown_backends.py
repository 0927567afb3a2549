"""Backends of third parties, which are used through Django's cache API."""

import sys

import jinja2
import pytest
from django.core.cache import caches
from django.core.cache.backends.base import BaseCache
from django.core.cache.backends.locmem import LocMemCache
from django.test import override_settings

from django_jinja_bccache import DjangoBytecodeCache
from django_jinja_bccache.exceptions import ConfigurationError, NotSupported
from tests.stores.opening import PYLIBMC


class Sound(LocMemCache):
    """Works."""


class Unborn(LocMemCache):
    """Cannot be made."""

    def __init__(self, name, params):
        raise RuntimeError("the disk is not there")


class Raising(LocMemCache):
    """Fails with errors of its own at whatever it is asked."""

    class Trouble(Exception):
        """No error of Django's."""

    def get(self, *arguments, **options):
        raise self.Trouble

    set = get_many = set_many = delete = get


class Strange(BaseCache):
    """Answers with what nobody stored."""

    def __init__(self, name, params):
        super().__init__(params)

    def get(self, key, default=None, version=None):
        return {"not": "bytes"}

    def get_many(self, keys, version=None):
        return dict.fromkeys(keys, "not bytes")

    def set(self, key, value, timeout=None, version=None):
        return None


class Asynchronous(Sound):
    """Returns coroutines, which its class does not show."""

    def get(self, *arguments, **options):
        return self.aget(*arguments, **options)


def page() -> tuple[str, DjangoBytecodeCache]:
    """What a site that has just started renders, with its cache."""
    cache = DjangoBytecodeCache()
    loader = jinja2.DictLoader({"a.html": "Hello {{ name }}"})
    environment = jinja2.Environment(loader=loader, bytecode_cache=cache)
    return environment.get_template("a.html").render(name="you"), cache


def using(backend: type) -> override_settings:
    path = f"{__name__}.{backend.__name__}"
    return override_settings(CACHES={"default": {"BACKEND": path, "LOCATION": path}})


def test_one_that_is_sound_is_used():
    with using(Sound):
        page()
        text, cache = page()
        assert text == "Hello you"
        assert cache.statistics.hits == 1
        caches["default"].clear()


def test_clear_says_that_the_api_lists_no_keys():
    with using(Sound), pytest.raises(NotSupported, match=r"CACHES\['default'\]"):
        page()[1].clear()


@pytest.mark.parametrize("backend", [Unborn, Raising, Strange])
def test_one_that_fails_costs_no_page(backend):
    with using(backend):
        for _ in range(3):
            assert page()[0] == "Hello you"


@pytest.mark.parametrize(("backend", "why"), [(Unborn, "the disk is not there"), (Raising, "")])
def test_its_failure_is_one_warning(backend, why, caplog):
    with using(backend):
        page()
    [warning] = caplog.messages
    assert "'default'" in warning
    assert why in warning


def test_one_that_hides_that_it_is_asynchronous_costs_no_page_and_is_named(caplog):
    with using(Asynchronous):
        assert page()[0] == "Hello you"
    [warning] = caplog.messages
    assert "CACHES['default']: get() is asynchronous" in warning


def test_one_that_is_no_class_is_told_of_at_start_up():
    with (
        override_settings(CACHES={"default": {"BACKEND": f"{__name__}.page"}}),
        pytest.raises(ConfigurationError, match=r"CACHES\['default'\].*page is no class"),
    ):
        DjangoBytecodeCache().validate()


def test_one_whose_library_is_missing_is_told_of_at_start_up_and_costs_no_page(monkeypatch):
    monkeypatch.setitem(sys.modules, "pylibmc", None)
    located = {"BACKEND": PYLIBMC, "LOCATION": "127.0.0.1:1"}
    with override_settings(CACHES={"default": located}):
        with pytest.raises(ConfigurationError, match=r"CACHES\['default'\].*pylibmc"):
            DjangoBytecodeCache().validate()
        assert page()[0] == "Hello you"
