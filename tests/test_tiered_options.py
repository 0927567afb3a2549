"""A cache in two tiers out of OPTIONS, and what is said of options that cannot be used."""

import copy

import jinja2
import pytest
from django.core.exceptions import ImproperlyConfigured
from django.test import override_settings

from django_jinja_bccache import (
    DjangoBytecodeCache,
    FileSystemBytecodeCache,
    TieredBytecodeCache,
)
from django_jinja_bccache.conf import bytecode_cache_from, validate_settings
from django_jinja_bccache.exceptions import BytecodeCacheError, ConfigurationError
from testproject.caches import file_cache

PATH = "django_jinja_bccache.TieredBytecodeCache"
FILES = {"class": "django_jinja_bccache.FileSystemBytecodeCache", "directory": "/nonexistent"}


@pytest.mark.parametrize(
    "local",
    [
        FILES,
        FileSystemBytecodeCache("/nonexistent"),
        {"class": FileSystemBytecodeCache, "directory": "/nonexistent"},
    ],
    ids=["dict", "instance", "class"],
)
@pytest.mark.parametrize("shared", ["default", {"alias": "default"}, DjangoBytecodeCache()])
def test_a_tier_may_be_whatever_the_option_may_be(local, shared):
    value = {"class": PATH, "local": local, "shared": shared, "salt": "x"}
    before = copy.copy(value)
    cache = bytecode_cache_from(value, engine="emails")
    assert type(cache) is TieredBytecodeCache
    assert (cache.local.directory, cache.shared.alias) == ("/nonexistent", "default")
    assert cache.salt == "x"
    assert value == before


@pytest.mark.parametrize(
    ("tiers", "message"),
    [
        ({"local": FILES}, "required, but missing: 'shared'"),
        ({"local": FILES, "shared": "nowhere"}, "\"shared\": there is no alias 'nowhere'"),
        (
            {"local": {**FILES, "directoy": "/x"}, "shared": "default"},
            "\"local\": unknown option 'directoy' for FileSystemBytecodeCache",
        ),
        ({"local": {"class": "no.such.Cache"}, "shared": "default"}, '"local": .* imported'),
        ({"local": FILES, "shared": {"timeout": 0}}, '"shared": timeout: 0 is not accepted'),
        ({"local": FILES, "shared": None}, "shared: None is not accepted"),
        (
            {"local": {"class": jinja2.FileSystemBytecodeCache}, "shared": "default"},
            "local: .* must be a bytecode cache of django_jinja_bccache",
        ),
        (
            {"local": FILES, "shared": {"key": "secret"}},
            "shared: .* has a key or a salt of its own",
        ),
        (
            {"local": {**FILES, "salt": "x"}, "shared": "default"},
            "local: .* has a key or a salt of its own",
        ),
        (
            {"local": FILES, "shared": "default", "cooldown": 3},
            "unknown option 'cooldown' .* accepted are: 'local', 'shared', 'prefix'",
        ),
        (
            {
                "local": {"class": PATH, "local": {"class": 3}, "shared": "default"},
                "shared": "default",
            },
            '"local": "local": "class": 3 is not accepted',
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_an_error_names_the_engine_and_the_tier(tiers, message):
    expected = rf"TEMPLATES engine 'emails', OPTIONS\[\"bytecode_cache\"\]: .*{message}"
    with pytest.raises(ImproperlyConfigured, match=expected) as caught:
        bytecode_cache_from({"class": PATH, **tiers}, engine="emails")
    assert isinstance(caught.value, BytecodeCacheError)


def test_a_tier_is_checked_at_the_start():
    instance = TieredBytecodeCache(
        FileSystemBytecodeCache("/nonexistent"), DjangoBytecodeCache("nowhere")
    )
    templates = [
        {
            "BACKEND": "django_jinja_bccache.jinja2.Jinja2",
            "NAME": "emails",
            "OPTIONS": {"bytecode_cache": instance},
        }
    ]
    with (
        override_settings(TEMPLATES=templates, CACHES={"default": file_cache("/nonexistent")}),
        pytest.raises(ConfigurationError, match=r"'emails'.*\"shared\": .*'nowhere'"),
    ):
        validate_settings()


def test_it_survives_a_copy_of_the_settings_and_tells_its_tiers_but_no_key():
    cache = TieredBytecodeCache(
        FileSystemBytecodeCache("/srv/cache"), DjangoBytecodeCache(), key="the secret"
    )
    assert copy.deepcopy({"OPTIONS": cache})["OPTIONS"] is cache
    assert repr(cache) == (
        "<TieredBytecodeCache <FileSystemBytecodeCache '/srv/cache'> "
        "<DjangoBytecodeCache 'default'>>"
    )
