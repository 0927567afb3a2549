"""A mistake in the settings is told when the process starts, and costs nothing until then."""

import pytest

from testproject.caches import caches_from
from tests.scripts import Finished
from tests.sites import Code, Site

START = "import django; django.setup()"
PLACE = """ConfigurationError: TEMPLATES engine 'jinja2', OPTIONS["bytecode_cache"]: """


@pytest.fixture
def site(tmp_path) -> Site:
    return Site(tmp_path / "site", caches_from(f"file://{tmp_path}/cache", None))


def started(site: Site, value: object) -> Finished:
    """What became of a process whose engine has this option."""
    site.settings["TEMPLATES"] = [site.engine(bytecode_cache=value)]
    return site.python("-c", START)


class TestMistakes:
    @pytest.mark.parametrize(
        ("value", "expected"),
        [
            ("defualt", "there is no alias 'defualt' in CACHES; there are: 'default'."),
            ({"alias": "defualt"}, "there is no alias 'defualt' in CACHES; there are: 'default'."),
            (
                {"alais": "default"},
                "unknown option 'alais' for DjangoBytecodeCache; accepted are: ",
            ),
            (42, "42 (of type int) is not accepted; it must be an alias in CACHES, the dotted "),
            ({"timeout": "1h"}, "timeout: '1h' is not accepted; it must be a number of seconds"),
            ({"class": "no.such.Class"}, "'no.such.Class' cannot be imported: "),
            ({"class": "jinja2.Environment"}, "\"class\": 'jinja2.Environment' is not accepted; "),
            ("django_jinja_bccache.MemcachedBytecodeCache", "MemcachedBytecodeCache: "),
        ],
        ids=str,
    )
    def test_the_process_does_not_start_and_says_why(self, site, value, expected):
        finished = started(site, value)
        assert finished.returncode == 1
        assert finished.stderr.splitlines()[-1].startswith(
            f"django_jinja_bccache.exceptions.{PLACE}{expected}"
        )

    def test_an_empty_secret_key_is_one(self, site):
        site.settings["SECRET_KEY"] = ""
        finished = started(site, "default")
        assert finished.returncode == 1
        assert "SECRET_KEY must not be empty" in finished.stderr.splitlines()[-1]

    def test_an_instance_with_djangos_own_backend_is_checked_too(self, site):
        site.imports = "from django_jinja_bccache import DjangoBytecodeCache"
        instance = Code("DjangoBytecodeCache('defualt')")
        stock = "django.template.backends.jinja2.Jinja2"
        site.settings["TEMPLATES"] = [site.engine(backend=stock, bytecode_cache=instance)]
        finished = site.python("-c", START)
        assert finished.returncode == 1
        assert f"{PLACE}there is no alias 'defualt'" in finished.stderr.splitlines()[-1]

    def test_a_command_does_not_start_either(self, site):
        site.settings["TEMPLATES"] = [site.engine(bytecode_cache="defualt")]
        finished = site.manage("check")
        assert finished.returncode == 1
        assert f"{PLACE}there is no alias 'defualt'" in finished.stderr


class TestStart:
    def test_it_touches_no_network_and_makes_no_engine(self, site, memcached, proxy):
        black_hole = proxy(memcached.address, mode="black_hole")
        site.settings["CACHES"] = caches_from(f"memcached://{black_hole.address}", None)
        site.settings["TEMPLATES"] = [
            site.engine(environment="no.such.environment"),
            site.engine("mail", bytecode_cache={"alias": "default", "timeout": 60}),
        ]
        finished = site.python(
            "-c",
            f"{START}; from django.template import engines; print(engines._engines)",
        )
        assert (finished.returncode, finished.stdout, finished.stderr) == (0, "{}\n", "")
        assert black_hole.connections == 0

    def test_it_makes_no_directory(self, site, tmp_path):
        assert started(site, "default").returncode == 0
        assert not (tmp_path / "cache").exists()

    def test_an_engine_of_djangos_that_does_not_exist_is_djangos_business(self, site):
        site.settings["TEMPLATES"] = [
            site.engine(),
            site.engine("other", backend="no.such.Engine"),
        ]
        assert site.python("-c", START).returncode == 0

    def test_a_site_without_any_of_our_engines_starts(self, site):
        site.settings["TEMPLATES"] = []
        assert site.python("-c", START).returncode == 0
