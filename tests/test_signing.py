"""Which keys sign, which are accepted, and where they come from."""

import jinja2
import pytest
from django.test import override_settings

from django_jinja_bccache import (
    DjangoBytecodeCache,
    FileSystemBytecodeCache,
    MemcachedBytecodeCache,
)
from django_jinja_bccache.entry import SigningKey
from django_jinja_bccache.exceptions import ConfigurationError
from django_jinja_bccache.signing import signing_keys, signing_keys_from_settings
from tests.scripts import run_script

SOURCES = {"a.html": "{{ 1 }}a", "b.html": "{% include 'a.html' %}b"}


def loaded(**options) -> DjangoBytecodeCache:
    """A new cache, through which a new environment has loaded the templates."""
    cache = DjangoBytecodeCache(**options)
    environment = jinja2.Environment(loader=jinja2.DictLoader(SOURCES), bytecode_cache=cache)
    assert environment.get_template("b.html").render() == "1ab"
    return cache


def compiled(**options) -> int:
    return loaded(**options).statistics.misses


def ids(keys) -> list[str]:
    return [key.id for key in keys]


class TestOption:
    @pytest.mark.parametrize("option", ["old", b"old", ["old"], ("old",), ["old", b"old"]])
    def test_it_is_text_or_bytes_or_a_list_of_them(self, option):
        assert set(ids(signing_keys(option))) == {SigningKey("old").id}

    def test_a_list_keeps_its_order(self):
        assert ids(signing_keys(["new", b"old"])) == [SigningKey("new").id, SigningKey("old").id]

    @pytest.mark.parametrize(
        "option",
        ["", b"", [], (), [""], ["new", b""], 42, [42], ["new", None], {"new"}, {"new": 1}],
    )
    @pytest.mark.parametrize(
        "cls", [DjangoBytecodeCache, FileSystemBytecodeCache, MemcachedBytecodeCache]
    )
    def test_anything_else_is_refused_by_name(self, cls, option):
        arguments = [{}] if cls is MemcachedBytecodeCache else []
        with pytest.raises(ConfigurationError, match=r"^key: .*str or bytes") as caught:
            cls(*arguments, key=option)
        assert "new" not in str(caught.value)

    def test_the_first_key_signs_and_all_are_accepted(self, backend):
        assert compiled(key="old") == 2
        assert compiled(key=["new", "older", "old"]) == 0
        assert compiled(key="new") == 2  # nothing was signed with it: nothing was compiled

    def test_a_cache_with_a_key_of_its_own_shares_nothing_with_others(self, backend):
        assert compiled(key="one") == compiled(key="two") == compiled() == 2
        assert compiled(key="one") == compiled(key="two") == compiled() == 0


class TestSettings:
    def test_the_secret_key_signs_and_its_fallbacks_are_accepted(self):
        with override_settings(SECRET_KEY="new", SECRET_KEY_FALLBACKS=["old", "older"]):
            expected = [SigningKey(secret).id for secret in ("new", "old", "older")]
            assert ids(signing_keys_from_settings()) == expected

    def test_a_rotation_of_the_secret_key_compiles_nothing(self, backend):
        with override_settings(SECRET_KEY="old"):
            assert compiled() == 2
        with override_settings(SECRET_KEY="new", SECRET_KEY_FALLBACKS=["old"]):
            cache = loaded()
            assert (cache.statistics.hits, cache.statistics.misses) == (2, 0)

    def test_what_is_compiled_during_a_rotation_outlives_it(self, backend):
        with override_settings(SECRET_KEY="new", SECRET_KEY_FALLBACKS=["old"]):
            assert compiled() == 2
        with override_settings(SECRET_KEY="new"):
            assert compiled() == 0

    def test_a_withdrawn_secret_key_opens_nothing(self, backend):
        with override_settings(SECRET_KEY="old"):
            assert compiled() == 2
        with override_settings(SECRET_KEY="new"):
            statistics = loaded().statistics
            assert (statistics.hits, statistics.miss_reasons) == (0, {"absent": 2})

    def test_an_empty_secret_key_is_refused(self):
        with (
            override_settings(SECRET_KEY=""),
            pytest.raises(ConfigurationError, match=r"^key: .*SECRET_KEY must not be empty"),
        ):
            DjangoBytecodeCache().validate()

    @pytest.mark.parametrize("fallbacks", [[""], ["old", None], [42]])
    def test_a_fallback_that_is_no_key_is_refused_by_name(self, fallbacks):
        with (
            override_settings(SECRET_KEY="new", SECRET_KEY_FALLBACKS=fallbacks),
            pytest.raises(ConfigurationError, match="SECRET_KEY_FALLBACKS"),
        ):
            DjangoBytecodeCache().validate()


BARE = """
import json, sys, tempfile
import jinja2
from pymemcache.client.base import Client
from django_jinja_bccache import {cls}

options = dict(key="a key of my own") if sys.argv[2] == "with" else {{}}
rounds = []
for _ in range(2):
    cache = {made}
    environment = jinja2.Environment(
        loader=jinja2.DictLoader({{"a.html": "Hello {{{{ name }}}}"}}), bytecode_cache=cache
    )
    assert environment.get_template("a.html").render(name="World") == "Hello World"
    rounds.append([cache.statistics.hits, cache.statistics.misses])
print(json.dumps(rounds))
"""
MADE = {
    "MemcachedBytecodeCache": "{cls}(Client(sys.argv[1]), **options)",
    "FileSystemBytecodeCache": "{cls}(sys.argv[1], **options)",
    "DjangoBytecodeCache": "{cls}('default', **options)",
}
# A script with settings of its own, as some use Django's caches outside a site.
CONFIGURE = """
from django.conf import settings
settings.configure(CACHES={"default": {
    "BACKEND": "django.core.cache.backends.filebased.FileBasedCache", "LOCATION": sys.argv[1],
}})
"""


@pytest.mark.parametrize("cls", list(MADE))
class TestOutsideDjango:
    @pytest.fixture
    def outside(self, cls, memcached, tmp_path):
        source = BARE.format(cls=cls, made=MADE[cls].format(cls=cls))
        if cls == "DjangoBytecodeCache":
            source = source.replace("\noptions =", f"{CONFIGURE}\noptions =")
        place = memcached.address if cls == "MemcachedBytecodeCache" else tmp_path / "bytecode"
        return lambda key: run_script(source, place, key)

    def test_a_bare_environment_needs_no_settings_but_a_key(self, outside):
        assert outside("with").result == [[0, 1], [1, 0]]

    def test_without_a_key_the_error_says_what_is_missing(self, outside):
        finished = outside("without")
        assert finished.returncode == 1
        message = finished.stderr.splitlines()[-1]
        assert "ConfigurationError: key: outside Django it is required" in message
