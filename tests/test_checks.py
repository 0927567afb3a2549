"""The system checks: what fires them, and what does not."""

import sqlite3

import jinja2
import pytest
from django.core.cache.backends.memcached import PyMemcacheCache
from django.core.checks import run_checks
from django.test import override_settings

from django_jinja_bccache import DjangoBytecodeCache
from django_jinja_bccache.checks import check_pickles
from testproject.caches import memcached_cache, redis_cache
from tests.engines import templates_with
from tests.scripts import run_script
from tests.sites import BACKEND

BACKENDS = "django.core.cache.backends"
# Where nobody can make a directory: the checks make none.
NOWHERE = "/dev/null/cache"
DATABASE = {"BACKEND": f"{BACKENDS}.db.DatabaseCache", "LOCATION": "bytecode"}
OWN = {"BACKEND": "tests.stores.test_django.FileCacheOfTheSitesOwn", "LOCATION": NOWHERE}


made = []


def made_environment(**options) -> jinja2.Environment:
    made.append(options)
    return jinja2.Environment(**options)


def broken_environment(**options):
    raise RuntimeError("no such environment")


class MemcachedOfTheSitesOwn(PyMemcacheCache):
    """Of a class that this package does not know."""


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


def others(caches, option="default", *, deploy=False, **overridden) -> list[str]:
    """The ids that fire beside the one about pickles."""
    templates = [{"BACKEND": BACKEND, "NAME": "mail", "OPTIONS": {"bytecode_cache": option}}]
    with override_settings(CACHES=caches, **{"TEMPLATES": templates} | overridden):
        found = run_checks(include_deployment_checks=deploy)
    ids = {message.id.removeprefix("django_jinja_bccache.") for message in found}
    return sorted(each for each in ids if each[1:].isdigit() and each != "W001")


MEMCACHED = memcached_cache(["127.0.0.1:1"])


class TestOthers:
    @pytest.mark.parametrize("kind", ["locmem.LocMemCache", "dummy.DummyCache"])
    def test_a_cache_that_no_other_process_reads(self, kind):
        assert others({"default": {"BACKEND": f"{BACKENDS}.{kind}"}}) == ["W002"]

    def test_fewer_entries_than_templates(self, tmp_path):
        for number in range(20):
            (tmp_path / f"{number}.html").write_text("")
        templates = [{"BACKEND": BACKEND, "DIRS": [tmp_path]}]
        few, enough = ({**DATABASE, "OPTIONS": {"MAX_ENTRIES": count}} for count in (20, 21))
        assert others({"default": few}, TEMPLATES=templates) == ["W003"]
        assert others({"default": enough}, TEMPLATES=templates) == []

    def test_a_client_that_may_wait_for_ever(self):
        bare = {**MEMCACHED, "BACKEND": f"{__name__}.MemcachedOfTheSitesOwn"}
        assert others({"default": bare}) == ["W004"]
        assert others({"default": {**bare, "OPTIONS": {"timeout": 1}}}) == []

    @pytest.mark.parametrize(
        "overridden",
        [
            {"MIDDLEWARE": ["django.middleware.cache.UpdateCacheMiddleware"]},
            {"SESSION_ENGINE": "django.contrib.sessions.backends.cached_db"},
        ],
        ids=["pages", "sessions"],
    )
    def test_an_alias_that_holds_what_is_cleared_now_and_then(self, overridden):
        two = {"default": MEMCACHED, "bytecode": MEMCACHED}
        assert others(two, deploy=True, **overridden) == ["W005"]
        assert others(two, "bytecode", deploy=True, **overridden) == []
        assert others(two, **overridden) == []

    def test_a_server_without_a_key_prefix(self):
        bare = {**MEMCACHED, "KEY_PREFIX": ""}
        assert others({"default": bare}, deploy=True) == ["W006"]
        assert others({"default": {**bare, "KEY_FUNCTION": str}}, deploy=True) == []
        assert others({"default": bare}) == []

    @pytest.mark.parametrize("kind", ["alias", "files", "sqlite", "tiers"])
    def test_bytecode_on_this_host_that_was_warmed_with_another_key(self, file_site, kind):
        package = "django_jinja_bccache"
        option = {
            "alias": "default",
            "files": {"class": f"{package}.FileSystemBytecodeCache", "directory": "c"},
            "sqlite": {"class": f"{package}.SQLiteBytecodeCache", "database_path": "c.sqlite3"},
            "tiers": {
                "class": f"{package}.TieredBytecodeCache",
                "local": {
                    "class": f"{package}.FileSystemBytecodeCache",
                    "directory": str(file_site.directory / "local"),
                },
                "shared": "default",
            },
        }[kind]
        for name in ("directory", "database_path"):
            if name in option:
                option[name] = str(file_site.directory / option[name])
        file_site.settings["TEMPLATES"] = [file_site.engine(bytecode_cache=option)]
        file_site.manage("warm_bytecode")
        assert "W007" not in file_site.manage("check").stderr
        file_site.settings["SECRET_KEY"] = "another"
        assert "(django_jinja_bccache.W007) Engine 'jinja2'" in file_site.manage("check").stderr
        file_site.settings["SECRET_KEY_FALLBACKS"] = ["the secret of this site"]
        assert "W007" not in file_site.manage("check").stderr

    def test_two_engines_with_a_release_of_the_same_name(self):
        option = {"alias": "default", "release": "r1"}
        templates = [
            {"BACKEND": BACKEND, "NAME": name, "OPTIONS": {"bytecode_cache": option}}
            for name in ("one", "two")
        ]
        assert others({"default": MEMCACHED}, TEMPLATES=templates, deploy=True) == ["I008"]
        assert others({"default": MEMCACHED}, TEMPLATES=templates[:1], deploy=True) == []

    def test_a_release_that_the_backend_does_not_serve(self):
        stock = [
            {
                "BACKEND": "django.template.backends.jinja2.Jinja2",
                "OPTIONS": {"bytecode_cache": DjangoBytecodeCache(release="r1")},
            }
        ]
        assert others({"default": MEMCACHED}, TEMPLATES=stock) == ["W009"]
        assert others({"default": MEMCACHED}, {"alias": "default", "release": "r1"}) == []

    def test_a_cache_of_jinja2s_own(self):
        own = "jinja2.FileSystemBytecodeCache"
        with_directory = {"class": own, "directory": "/tmp"}
        assert others({"default": MEMCACHED}, with_directory) == ["W010"]
        assert others({"default": MEMCACHED}, None) == []

    def test_a_database_of_another_program_is_for_the_page_to_tell_of(self, tmp_path):
        path = tmp_path / "other.sqlite3"
        with sqlite3.connect(path) as other:
            other.execute("CREATE TABLE other (id)")
        other.close()
        own = "django_jinja_bccache.SQLiteBytecodeCache"
        assert others({"default": MEMCACHED}, {"class": own, "database_path": str(path)}) == []

    @pytest.mark.parametrize("closed", ["file", "directory", "listed directory"])
    @pytest.mark.parametrize("kind", ["alias", "files", "sqlite", "tiers"])
    def test_bytecode_on_this_host_that_may_not_be_read(self, kind, closed):
        found = run_script(CLOSED, kind, closed).result
        assert found == {"closed": ["W011"], "open": [], "none": []}

    def test_no_engine_is_made_where_no_check_needs_one(self):
        templates = [
            {"BACKEND": BACKEND, "OPTIONS": {"environment": f"{__name__}.made_environment"}}
        ]
        made.clear()
        with override_settings(CACHES={"default": MEMCACHED}, TEMPLATES=templates):
            run_checks(tags=["caches"], include_deployment_checks=True)
        assert made == []
        few = {**DATABASE, "OPTIONS": {"MAX_ENTRIES": 1}}
        with override_settings(CACHES={"default": few}, TEMPLATES=templates):
            run_checks(tags=["caches"])
        assert len(made) == 1

    def test_an_engine_that_cannot_be_made_keeps_no_other_check_from_its_say(self):
        templates = [
            {"BACKEND": BACKEND, "OPTIONS": {"environment": f"{__name__}.broken_environment"}}
        ]
        few = {**DATABASE, "OPTIONS": {"MAX_ENTRIES": 1}}
        with override_settings(CACHES={"default": few}, TEMPLATES=templates):
            found = run_checks(tags=["caches"])
        assert [message.id for message in found] == ["django_jinja_bccache.W001"]

    def test_each_has_a_hint_and_names_the_engine(self):
        templates = [{"BACKEND": BACKEND, "NAME": "mail"}]
        caches = {"default": {"BACKEND": f"{BACKENDS}.dummy.DummyCache"}}
        with override_settings(CACHES=caches, TEMPLATES=templates):
            [message] = [each for each in run_checks() if "jinja_bccache" in each.id]
        assert message.msg.startswith("Engine 'mail' keeps its bytecode in CACHES['default'], a D")
        assert "memcached, Redis or files" in message.hint
        assert message.obj == "TEMPLATES engine 'mail'"


CLOSED = f"""
import json, os, shutil, sys, tempfile
import django
from django.conf import settings
from django.core.checks import run_checks

base = tempfile.mkdtemp()
files = {{"class": "django_jinja_bccache.FileSystemBytecodeCache", "directory": f"{{base}}/cache"}}
lite = {{"class": "django_jinja_bccache.SQLiteBytecodeCache", "database_path": f"{{base}}/a.db"}}
tiers = {{"class": "django_jinja_bccache.TieredBytecodeCache", "local": files, "shared": "far"}}
options = {{"alias": "default", "files": files, "sqlite": lite, "tiers": tiers}}
option = options[sys.argv[1]]
settings.configure(
    SECRET_KEY="x",
    INSTALLED_APPS=["django_jinja_bccache"],
    CACHES={{
        "default": {{"BACKEND": "{BACKENDS}.filebased.FileBasedCache", "LOCATION": base}},
        "far": {{"BACKEND": "{BACKENDS}.memcached.PyMemcacheCache", "LOCATION": "127.0.0.1:9"}},
    }},
    TEMPLATES=[{{"BACKEND": "{BACKEND}", "OPTIONS": {{"bytecode_cache": option}}}}],
)
django.setup()

def fired():
    return [each.id[-4:] for each in run_checks() if each.id.endswith("W011")]

found = {{"none": fired()}}
names = {{"alias": "jinja2_bytecode/x", "sqlite": "a.db"}}
path = os.path.join(base, names.get(sys.argv[1], "cache/x"))
os.makedirs(os.path.dirname(path), exist_ok=True)
open(path, "w").close()
if os.path.dirname(path) != base:
    open(f"{{path}}2", "w").close()  # another one, which may be read
found["open"] = fired()
os.chmod(base, 0o755)
if sys.argv[2] == "file":
    os.chmod(path, 0)
else:
    os.chmod(os.path.dirname(path), 0o744 if "listed" in sys.argv[2] else 0)
child = os.fork()
if child == 0:
    if os.geteuid() == 0:  # whom no mode would stop
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)
    print(json.dumps(found | {{"closed": fired()}}), flush=True)
    os._exit(0)
os.waitpid(child, 0)
shutil.rmtree(base)
"""


@pytest.mark.parametrize("deploy", [False, True])
def test_the_test_project_fires_none(deploy):
    with override_settings(TEMPLATES=templates_with(bytecode_cache="default")):
        found = run_checks(include_deployment_checks=deploy)
    assert [message.id for message in found if "jinja_bccache" in message.id] == []
