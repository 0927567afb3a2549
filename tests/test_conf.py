"""What OPTIONS["bytecode_cache"] may be, and what is said of everything else."""

import copy

import jinja2
import pytest
from django.core.exceptions import ImproperlyConfigured
from django.test import override_settings

from django_jinja_bccache import (
    DjangoBytecodeCache,
    FileSystemBytecodeCache,
    MemcachedBytecodeCache,
)
from django_jinja_bccache.conf import bytecode_cache_from, validate_settings
from django_jinja_bccache.exceptions import BytecodeCacheError
from testproject.caches import file_cache

INSTANCE = DjangoBytecodeCache("sessions")
FOREIGN = jinja2.FileSystemBytecodeCache("/nonexistent")
BACKEND = "django_jinja_bccache.jinja2.Jinja2"
STOCK = "django.template.backends.jinja2.Jinja2"


class HandsOn(DjangoBytecodeCache):
    """A subclass that hands on whatever it is given."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)


class Adds(HandsOn):
    """A subclass with an option of its own."""

    def __init__(self, *, own: int = 0, **kwargs):
        super().__init__(**kwargs)
        self.own = own


class Foreign(jinja2.BytecodeCache):
    """Somebody else's cache, which takes anything."""

    def __init__(self, **kwargs):
        self.arguments = kwargs


class Needs(jinja2.BytecodeCache):
    """Somebody else's cache, which takes anything and needs two things."""

    def __init__(self, this, *, that, **kwargs):
        self.arguments = (this, that, kwargs)


class Bare(jinja2.BytecodeCache):
    """Somebody else's cache, which takes nothing."""


@pytest.fixture(autouse=True)
def _caches(tmp_path):
    aliases = {
        name: file_cache(tmp_path / name) for name in ("default", "sessions", "dotted.name")
    }
    with override_settings(CACHES=aliases):
        yield


def cache_from(value):
    return bytecode_cache_from(value, engine="emails")


class TestAccepted:
    @pytest.mark.parametrize("alias", ["default", "sessions", "dotted.name"])
    def test_an_alias(self, alias):
        cache = cache_from(alias)
        assert type(cache) is DjangoBytecodeCache
        assert cache.alias == alias

    def test_none_for_no_cache(self):
        assert cache_from(None) is None

    @pytest.mark.parametrize("instance", [INSTANCE, FOREIGN], ids=["own", "foreign"])
    def test_an_instance(self, instance):
        assert cache_from(instance) is instance

    def test_the_dotted_path_of_an_instance(self):
        assert cache_from("tests.test_conf.INSTANCE") is INSTANCE
        assert cache_from("tests.test_conf.FOREIGN") is FOREIGN

    def test_the_dotted_path_of_a_class(self):
        cache = cache_from("django_jinja_bccache.FileSystemBytecodeCache")
        assert type(cache) is FileSystemBytecodeCache
        assert type(cache_from("tests.test_conf.Bare")) is Bare

    def test_a_dict_of_arguments(self):
        cache = cache_from({"alias": "sessions", "prefix": "p/", "timeout": 60, "salt": "s"})
        assert type(cache) is DjangoBytecodeCache
        assert (cache.alias, cache.prefix, cache.timeout, cache.salt) == (
            "sessions",
            "p/",
            60,
            "s",
        )
        assert cache_from({}).alias == "default"

    @pytest.mark.parametrize(
        "cls", [FileSystemBytecodeCache, "django_jinja_bccache.FileSystemBytecodeCache"]
    )
    def test_a_dict_with_a_class_or_its_dotted_path(self, cls, tmp_path):
        cache = cache_from({"class": cls, "directory": tmp_path, "read_only": True})
        assert type(cache) is FileSystemBytecodeCache
        assert (cache.directory, cache.read_only) == (str(tmp_path), True)

    def test_a_dict_with_a_class_that_wants_an_object(self):
        cache = cache_from({"class": MemcachedBytecodeCache, "client": INSTANCE_OF_CLIENT})
        assert type(cache) is MemcachedBytecodeCache

    @pytest.mark.parametrize("cls", [HandsOn, Adds])
    def test_a_subclass_takes_the_arguments_of_its_base_classes(self, cls):
        cache = cache_from({"class": cls, "alias": "sessions", "timeout": 5, "cooldown": 3})
        assert type(cache) is cls
        assert (cache.alias, cache.timeout, cache.cooldown) == ("sessions", 5, 3)

    def test_a_subclass_takes_its_own_arguments(self):
        assert cache_from({"class": Adds, "own": 3}).own == 3

    def test_somebody_elses_class_takes_what_it_likes(self):
        cache = cache_from({"class": Foreign, "anything": 1})
        assert cache.arguments == {"anything": 1}

    def test_the_settings_stay_as_they_are(self):
        value = {"class": "django_jinja_bccache.DjangoBytecodeCache", "alias": "sessions"}
        before = copy.deepcopy(value)
        cache_from(value)
        cache_from(value)
        assert value == before


class Client:
    """What a memcached client has at least."""

    def get(self, key):
        raise NotImplementedError

    set = get


INSTANCE_OF_CLIENT = Client()
PLACE = """TEMPLATES engine 'emails', OPTIONS["bytecode_cache"]: """
FORMS = "an alias in CACHES, the dotted path of a bytecode cache, a dict"
OPTIONS = (
    "'alias', 'prefix', 'timeout', 'key', 'salt', 'ignore_errors', 'read_only', 'release', "
    "'packs', 'deadline'"
)


class TestRefused:
    @pytest.mark.parametrize(
        ("value", "expected"),
        [
            (42, ["42 (of type int) is not accepted", FORMS]),
            (True, ["True (of type bool) is not accepted", FORMS]),
            (b"default", ["is not accepted", FORMS]),
            (["default"], ["is not accepted", FORMS]),
            (DjangoBytecodeCache, ["is not accepted", FORMS]),
            ("", ["no alias ''", "'default', 'sessions', 'dotted.name'"]),
            ("defualt", ["no alias 'defualt'", "'default', 'sessions', 'dotted.name'"]),
            ("no.such.module", ["'no.such.module' cannot be imported: No module named"]),
            ("django_jinja_bccache.Missing", ["cannot be imported", '"Missing"']),
            (".relative", ["'.relative' cannot be imported"]),
            ("..relative", ["'..relative' cannot be imported"]),
            ("os.path.join", ["'os.path.join' is no bytecode cache", FORMS]),
            ("jinja2.Environment", ["'jinja2.Environment' is no bytecode cache", FORMS]),
            (
                "django_jinja_bccache.MemcachedBytecodeCache",
                [
                    "MemcachedBytecodeCache: required, but missing: 'client'",
                    "; accepted are: 'client', 'prefix'",
                ],
            ),
            ({"class": Needs}, ["Needs: required, but missing: 'this', 'that'."]),
            ({"class": "no.such.Class"}, ["'no.such.Class' cannot be imported"]),
            ({"class": jinja2.Environment}, ['"class"', "a subclass of jinja2.BytecodeCache"]),
            ({"class": None}, ['"class": None is not accepted', "jinja2.BytecodeCache"]),
            ({"class": INSTANCE}, ['"class"', "is not accepted", "jinja2.BytecodeCache"]),
            ({"alais": "default"}, ["unknown option 'alais'", OPTIONS]),
            ({"a": 1, "b": 2}, ["unknown options 'a', 'b' for DjangoBytecodeCache", OPTIONS]),
            ({1: 2}, ["unknown option 1", OPTIONS]),
            ({"class": Adds, "won": 3}, ["unknown option 'won' for Adds", "'own', 'alias'"]),
            ({"class": Bare, "alias": "default"}, ["Bare"]),
            (
                {"class": MemcachedBytecodeCache, "client": None},
                ["client: NoneType has no method"],
            ),
            ({"alias": 7}, ["alias: 7 is not accepted", "of type str"]),
            ({"timeout": "1h"}, ["timeout: '1h' is not accepted", "seconds", "or None"]),
            ({"release": "1", "packs": False}, ["release: it is served from packs"]),
            ({"deadline": 0}, ["deadline: 0 is not accepted", "greater than 0"]),
            ({"key": ""}, ["key: ", "str or bytes that is not empty"]),
            (
                {"class": FileSystemBytecodeCache, "pattern": "x"},
                ["pattern 'x'", "exactly one %s"],
            ),
            (
                {"class": FileSystemBytecodeCache, "directory": 5},
                ["directory: 5", "the path of a directory"],
            ),
        ],
        ids=str,
    )
    def test_the_message_names_the_engine_and_lists_what_is_accepted(self, value, expected):
        with pytest.raises(ImproperlyConfigured) as caught:
            cache_from(value)
        assert isinstance(caught.value, BytecodeCacheError)
        message = str(caught.value)
        assert message.startswith(PLACE)
        for part in expected:
            assert part in message

    def test_no_message_shows_a_signing_key(self):
        for value in ({"key": "s3cret", "oops": 1}, {"key": ["s3cret", ""]}, {"key": {"s3cret"}}):
            with pytest.raises(ImproperlyConfigured) as caught:
                cache_from(value)
            assert "s3cret" not in str(caught.value)

    def test_nor_does_the_one_about_djangos_own_backend(self):
        with (
            override_settings(TEMPLATES=[engine({"key": "s3cret"}, STOCK)]),
            pytest.raises(ImproperlyConfigured) as caught,
        ):
            validate_settings()
        assert "s3cret" not in str(caught.value)


def engine(value="unset", backend=BACKEND, name="emails", **options):
    options |= {} if value == "unset" else {"bytecode_cache": value}
    return {"BACKEND": backend, "NAME": name, "OPTIONS": options}


class TestSettings:
    @pytest.mark.parametrize(
        "templates",
        [
            [],
            [engine()],
            [engine(None)],
            [engine("sessions"), engine(INSTANCE, STOCK, "stock")],
            [
                engine({"any": "thing"}, STOCK, environment="mysite.jinja2.environment"),
                engine("anything", "django.template.backends.x.X", "x"),
                engine(object(), STOCK, "duck"),
            ],
        ],
        ids=["none", "default", "no cache", "alias and instance", "others' own business"],
    )
    def test_what_can_be_used_passes_and_stays_as_it_is(self, templates):
        before = repr(templates)
        with override_settings(TEMPLATES=templates):
            validate_settings()
        assert repr(templates) == before

    @pytest.mark.parametrize(
        ("item", "expected"),
        [
            (engine("defualt"), "no alias 'defualt'"),
            (engine({"alias": "defualt"}), "no alias 'defualt'"),
            (engine(DjangoBytecodeCache("defualt")), "no alias 'defualt'"),
            (engine(DjangoBytecodeCache("defualt"), STOCK), "no alias 'defualt'"),
            (engine({"salt": 1}), "salt: 1 is not accepted"),
            (engine("default", STOCK), f"'default' is not accepted by {STOCK}"),
            (engine({"alias": "default"}, STOCK), "a dict is not accepted"),
            (engine(DjangoBytecodeCache, STOCK), "unless the engine's BACKEND is"),
            (
                engine("default", STOCK, environment="jinja2.Environment"),
                "'default' is not accepted",
            ),
        ],
        ids=[
            *("alias", "dict", "instance", "instance with Django's own backend", "option"),
            *(f"{what} with Django's own backend" for what in ("alias", "dict", "class")),
            "alias with Django's own backend and Jinja2's own environment",
        ],
    )
    def test_what_cannot_be_used_is_refused_with_the_engines_name(self, item, expected):
        with (
            override_settings(TEMPLATES=[engine(None, name="pages"), item]),
            pytest.raises(ImproperlyConfigured) as caught,
        ):
            validate_settings()
        assert str(caught.value).startswith(PLACE)
        assert expected in str(caught.value)

    def test_an_engine_that_is_not_told_uses_the_alias_default(self):
        with (
            override_settings(TEMPLATES=[engine()], CACHES={"other": file_cache("/nonexistent")}),
            pytest.raises(ImproperlyConfigured, match="no alias 'default' in CACHES"),
        ):
            validate_settings()

    def test_an_empty_secret_key_is_refused(self):
        with (
            override_settings(TEMPLATES=[engine()], SECRET_KEY=""),
            pytest.raises(ImproperlyConfigured, match=r"engine 'emails'.*SECRET_KEY must not be"),
        ):
            validate_settings()
        with override_settings(TEMPLATES=[engine({"key": "my own"})], SECRET_KEY=""):
            validate_settings()
