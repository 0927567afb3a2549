"""The system checks: what fires them, and what does not."""

import pytest
from django.core.checks import run_checks
from django.test import override_settings

from django_jinja_bccache.checks import check_pickles
from testproject.caches import memcached_cache, redis_cache
from tests.engines import templates_with
from tests.sites import BACKEND

BACKENDS = "django.core.cache.backends"
# Where nobody can make a directory: the checks make none.
NOWHERE = "/dev/null/cache"
DATABASE = {"BACKEND": f"{BACKENDS}.db.DatabaseCache", "LOCATION": "bytecode"}
OWN = {"BACKEND": "tests.stores.test_django.FileCacheOfTheSitesOwn", "LOCATION": NOWHERE}


def fired(caches, option="default") -> list[tuple[str, str]]:
    templates = [{"BACKEND": BACKEND, "NAME": "mail", "OPTIONS": {"bytecode_cache": option}}]
    with override_settings(CACHES=caches, TEMPLATES=templates):
        return [(message.id, message.msg) for message in check_pickles()]


class TestPickles:
    @pytest.mark.parametrize("cache", [DATABASE, OWN], ids=["database", "unknown"])
    def test_a_backend_that_unpickles_is_named_with_its_engine(self, cache):
        [(identifier, message)] = fired({"default": cache})
        assert identifier == "django_jinja_bccache.W001"
        assert message.startswith("Engine 'mail' keeps its bytecode in CACHES['default'], whose ")

    def test_so_is_one_that_is_a_tier(self):
        option = {
            "class": "django_jinja_bccache.TieredBytecodeCache",
            "local": {
                "class": "django_jinja_bccache.FileSystemBytecodeCache",
                "directory": NOWHERE,
            },
            "shared": "database",
        }
        [(_, message)] = fired(
            {"default": memcached_cache(["127.0.0.1:1"]), "database": DATABASE}, option
        )
        assert "CACHES['database']" in message

    @pytest.mark.parametrize(
        "cache",
        [
            memcached_cache(["127.0.0.1:1"]),
            redis_cache(f"{BACKENDS}.redis.RedisCache", "redis://127.0.0.1:1/0"),
            {"BACKEND": f"{BACKENDS}.filebased.FileBasedCache", "LOCATION": NOWHERE},
            {"BACKEND": f"{BACKENDS}.locmem.LocMemCache"},
            {"BACKEND": f"{BACKENDS}.dummy.DummyCache"},
        ],
        ids=lambda cache: cache["BACKEND"].rpartition(".")[2],
    )
    def test_those_that_do_not_are_passed_over(self, cache):
        assert fired({"default": cache}) == []

    def test_a_site_may_silence_it(self, file_site):
        file_site.settings["CACHES"] = {"default": DATABASE}
        assert "django_jinja_bccache.W001" in file_site.manage("check").stderr
        file_site.settings["SILENCED_SYSTEM_CHECKS"] = ["django_jinja_bccache.W001"]
        assert "W001" not in file_site.manage("check").stderr


def test_the_test_project_fires_none():
    with override_settings(TEMPLATES=templates_with(bytecode_cache="default")):
        assert [message.id for message in run_checks() if "jinja_bccache" in message.id] == []
