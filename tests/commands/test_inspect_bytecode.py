"""What ``manage.py inspect_bytecode`` tells of a cache, and of one template in it."""

import json
import re
from dataclasses import replace

import pytest
from jinja2 import DictLoader, Environment

from django_jinja_bccache.inspection import inspect
from testproject.caches import memcached_cache
from tests.commands.test_warm_problems import EXTENSION
from tests.raw import RawFiles, raw_store
from tests.sites import TEMPLATES, Code, cached_engine

NAMES = list(TEMPLATES)


@pytest.fixture
def raw(backend, request):
    return raw_store(backend, request)


def report(site, *arguments, **environment) -> dict:
    done = site.manage("inspect_bytecode", "--format", "json", *arguments, **environment)
    assert (done.returncode, done.stderr) == (0, "")
    [engine] = json.loads(done.stdout)["engines"]
    return engine


def explanation(site, template="home.html") -> dict:
    return report(site, "--explain", template)


def differences(site, template="home.html") -> dict:
    """What differs, with what it is here and what it was."""
    found = explanation(site, template)
    assert found["found"] == ""
    return {each["part"]: (each["here"], each["there"]) for each in found["differences"]}


def compile_home(site, directory):
    """Have the site's loader serve home.html without its source."""
    compiled = Environment(loader=DictLoader(TEMPLATES))
    compiled.compile_templates(directory, zip=None, filter_func=lambda name: name == "home.html")
    site.write(
        "site_environment.py",
        "from jinja2 import ChoiceLoader, Environment, ModuleLoader\n"
        "def environment(**options):\n"
        f"    compiled = ModuleLoader({str(directory)!r})\n"
        "    loader = ChoiceLoader([compiled, options.pop('loader')])\n"
        "    return Environment(loader=loader, **options)\n",
    )
    site.settings["TEMPLATES"] = [site.engine(environment="site_environment.environment")]


class TestInventory:
    def test_of_a_warm_cache(self, site):
        site.manage("warm_bytecode")
        found = report(site)
        assert found["templates"] == 4
        assert found["stored"] == NAMES
        assert [found[what] for what in ("stale", "missing", "broken")] == [[], [], []]
        [published] = found["published"]
        created = published.pop("created")
        assert published == {
            "release": "",
            "serves": True,
            "stored": 4,
            "stale": 0,
            "missing": 0,
            "packs": 1,
            "lost": 0,
        }
        inventory = found["inventory"]
        assert (inventory["entries"], inventory["packs"], inventory["refused"]) == (4, 1, 0)
        assert inventory["entry_bytes"] > 1000
        assert inventory["oldest"] <= inventory["newest"] <= created
        assert found["size"] > inventory["entry_bytes"]

    def test_of_an_empty_one(self, site):
        found = report(site)
        assert (found["stored"], found["missing"], found["published"]) == ([], NAMES, [])
        assert (found["inventory"]["entries"], found["inventory"]["oldest"]) == (0, None)

    def test_of_templates_that_changed_came_or_went(self, site):
        site.manage("warm_bytecode")
        site.write("templates/home.html", "changed")
        site.write("templates/new.html", "new")
        (site.directory / "templates/shop/list.html").unlink()
        found = report(site)
        assert found["stored"] == ["base.html", "shop/item.html"]
        assert (found["stale"], found["missing"]) == (["home.html"], ["new.html"])
        [published] = found["published"]
        assert (published["stored"], published["stale"], published["missing"]) == (2, 1, 1)
        assert found["inventory"]["entries"] == 4

    def test_of_entries_under_an_old_signing_key_and_the_new_one(self, site):
        site.manage("warm_bytecode")
        site.settings |= {
            "SECRET_KEY": "new",
            "SECRET_KEY_FALLBACKS": [site.settings["SECRET_KEY"]],
        }
        before = report(site)["inventory"]
        site.manage("warm_bytecode")
        after = report(site)["inventory"]
        assert (before["entries"], after["entries"], after["refused"]) == (4, 8, 0)
        assert after["entry_bytes"] > 1.5 * before["entry_bytes"]

    def test_of_a_release_whose_name_is_long(self, site):
        release = "2026-11-28-build-1234567890"
        site.settings["TEMPLATES"] = [
            site.engine(bytecode_cache={"alias": "default", "release": release})
        ]
        site.manage("warm_bytecode")
        assert f"1/1  {release}\n" in site.manage("inspect_bytecode").stdout

    def test_of_damaged_values(self, site, raw):
        site.manage("warm_bytecode")
        broken = [key for key in list(raw.keys()) if "note:" not in key]
        for key in broken:
            raw.plant(key, raw.get(key)[:-1])
        found = report(site)
        assert (found["broken"], found["stored"]) == (NAMES, [])
        assert found["inventory"]["refused"] == 4

    @pytest.mark.parametrize(
        ("settings", "expected"),
        [
            ({"SECRET_KEY": "another"}, "were warmed with another signing key"),
            ({"DEBUG": True}, "were warmed last for another environment"),
        ],
        ids=["signing key", "environment"],
    )
    def test_why_nothing_is_found(self, site, settings, expected):
        site.manage("warm_bytecode")
        assert report(site)["remark"] == ""
        site.settings |= settings
        assert expected in report(site)["remark"]
        done = site.manage("inspect_bytecode")
        assert expected in " ".join(done.stdout.split())
        assert max(map(len, done.stdout.splitlines())) <= 80

    def test_that_pages_do_not_use_it(self, site):
        site.manage("warm_bytecode")
        found = report(site, DJANGO_JINJA_BCCACHE="off")
        assert "switched off in the process environment" in found["remark"]
        assert [published["serves"] for published in found["published"]] == [False]

    def test_what_is_not_text_is_no_template_as_it_is_none_to_warm_bytecode(self, site):
        site.write("templates/logo.png", b"\x89PNG")
        site.manage("warm_bytecode")
        found = report(site)
        assert (found["templates"], found["broken"]) == (4, [])

    def test_a_template_that_cannot_be_read_is_broken(self, site):
        (site.directory / "templates/gone.html").symlink_to("nowhere")
        assert report(site)["broken"] == ["gone.html"]

    def test_of_two_releases(self, site):
        site.manage("warm_bytecode")
        site.settings["TEMPLATES"] = [
            site.engine(bytecode_cache={"alias": "default", "release": "r1"})
        ]
        site.manage("warm_bytecode")
        found = report(site)
        assert [item["release"] for item in found["published"] if item["serves"]] == ["r1"]
        assert {item["release"] for item in found["published"]} == {"", "r1"}

    def test_it_fits_80_columns_and_lists_names_on_request(self, site):
        site.manage("warm_bytecode")
        site.write("templates/new.html", "new")
        done = site.manage("inspect_bytecode", "-v", "2")
        assert max(map(len, done.stdout.splitlines())) <= 80
        text = re.sub(r"[\d.]+ [KM]?B", "SIZE", done.stdout)
        assert text.splitlines()[1:7] == [
            "  templates     5",
            "    stored      4",
            "    stale       0",
            "    missing     1",
            "      new.html",
            "    broken      0",
        ]
        assert re.search(r"^\* .* UTC +4 +0 +1 +1/1  -$", done.stdout, re.MULTILINE)

    def test_a_store_out_of_reach_is_an_error(self, site):
        site.settings["CACHES"] = {
            "default": {
                "BACKEND": "django.core.cache.backends.memcached.PyMemcacheCache",
                "LOCATION": "127.0.0.1:9",
            }
        }
        done = site.manage("inspect_bytecode")
        assert done.returncode == 1
        assert "jinja2: the cache cannot be used" in done.stderr

    def test_a_store_that_cannot_list_its_keys_still_tells_what_is_there(self, file_site):
        file_site.settings["CACHES"]["default"]["BACKEND"] = (
            "tests.stores.test_django.FileCacheOfTheSitesOwn"
        )
        file_site.settings["SILENCED_SYSTEM_CHECKS"] = ["django_jinja_bccache.W001"]
        file_site.manage("warm_bytecode")
        file_site.write("templates/home.html", "changed")
        done = file_site.manage("inspect_bytecode")
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.splitlines()[1:7] == [
            "  templates     4",
            "    stored      3",
            "    stale       0",
            "    missing     1",
            "    broken      0",
            "  in the store  it cannot list its keys",
        ]
        assert "whole store" not in done.stdout
        assert re.search(r"^\* .* UTC +3 +1 +0 +1/1  -$", done.stdout, re.MULTILINE)

    def test_of_templates_that_cannot_be_read_or_are_compiled_already(self, site, tmp_path):
        compile_home(site, tmp_path / "compiled")
        (site.directory / "templates/gone.html").symlink_to("nowhere.html")
        site.manage("warm_bytecode")
        found = report(site)
        assert (found["templates"], found["broken"]) == (4, ["gone.html"])
        assert found["stored"] == [name for name in NAMES if name != "home.html"]

    def test_of_a_store_that_tells_no_size(self, site):
        site.imports = """
from cachelib import SimpleCache
from django_jinja_bccache import MemcachedBytecodeCache
"""
        site.settings["TEMPLATES"] = [
            site.engine(bytecode_cache=Code("MemcachedBytecodeCache(SimpleCache())"))
        ]
        found = report(site)
        assert (found["ok"], found["size"], found["max_size"]) == (True, None, None)

    def test_it_says_where_nothing_that_is_published_serves(self, site):
        site.manage("warm_bytecode")
        site.settings["TEMPLATES"] = [
            site.engine(bytecode_cache={"alias": "default", "release": "r1"})
        ]
        done = site.manage("inspect_bytecode")
        assert re.search(r"^  .* UTC +4 +0 +0 +1/1  -$", done.stdout, re.MULTILINE)
        assert "would be served from" not in done.stdout


class Unreadable(DictLoader):
    """Has templates that nobody can read."""

    def get_source(self, environment, template):
        raise OSError(5, "Input/output error")


def test_what_nobody_can_read_is_broken_unless_another_engine_renders_it(backend):
    one = cached_engine(Unreadable({"mine.jinja": "", "theirs.html": ""}))
    assert inspect(one).broken == ["mine.jinja", "theirs.html"]
    one = replace(one, renders=lambda name: name.endswith(".jinja"))
    assert inspect(one).broken == ["mine.jinja"]


class TestExplain:
    @pytest.fixture
    def site(self, file_site):
        """No store has a say in it."""
        return file_site

    @pytest.fixture
    def raw(self, tmp_path):
        return RawFiles(tmp_path / "cache")

    def test_what_is_found_where(self, site):
        site.visit("home.html")
        assert explanation(site)["found"] == "entry"
        site.manage("warm_bytecode")
        found = explanation(site)
        assert (found["found"], found["reason"], found["differences"]) == ("pack", "", [])
        assert found["key"].startswith(found["parts"]["environment"])

    def test_nothing_was_ever_warmed(self, site):
        found = explanation(site)
        assert found["reason"] == "It is not stored, and this engine has not been warmed."

    def test_the_source_differs(self, site):
        site.manage("warm_bytecode")
        site.write("templates/home.html", "changed")
        ((part, (here, there)),) = differences(site).items()
        assert part == "source"
        assert here != there

    def test_it_was_not_there_then(self, site):
        site.manage("warm_bytecode")
        site.write("templates/new.html", "new")
        assert differences(site, "new.html") == {"template": ("present", "not published")}

    def test_an_option_differs(self, site):
        site.manage("warm_bytecode")
        site.settings["TEMPLATES"] = [site.engine(trim_blocks=True)]
        assert differences(site) == {"trim_blocks": ("true", "false")}

    def test_it_was_warmed_with_debug_on(self, site):
        site.settings["DEBUG"] = True
        site.manage("warm_bytecode")
        site.settings["DEBUG"] = False
        ((part, (here, there)),) = differences(site).items()
        assert part == "undefined"
        assert here.startswith("jinja2.runtime.Undefined ")
        assert there.startswith("jinja2.runtime.DebugUndefined ")

    def test_an_extension_differs(self, site):
        site.manage("warm_bytecode")
        site.settings["TEMPLATES"] = [site.engine(extensions=["jinja2.ext.do"])]
        found = differences(site)
        assert found["extensions"] == ("jinja2.ext.ExprStmtExtension", "")
        assert found["jinja2.ext.ExprStmtExtension"][1] == "(none)"

    def test_autoescape_differs(self, site):
        site.manage("warm_bytecode")
        site.settings["TEMPLATES"] = [site.engine(autoescape=False)]
        assert differences(site) == {"autoescape": ("off", "on")}

    def test_the_salt_differs(self, site):
        site.manage("warm_bytecode")
        site.settings["TEMPLATES"] = [
            site.engine(bytecode_cache={"alias": "default", "salt": "other"})
        ]
        assert differences(site) == {"salt": ("'other'", "another")}

    def test_the_signing_key_differs(self, site):
        site.manage("warm_bytecode")
        site.settings["SECRET_KEY"] = "another"
        ((part, (here, there)),) = differences(site).items()
        assert part == "signing key"
        assert re.fullmatch("[0-9a-f]{16}", here)
        assert re.fullmatch("[0-9a-f]{16}", there)

    def test_it_does_not_compile(self, site):
        site.write("templates/home.html", "\n{% if %}")
        reason = explanation(site)["reason"]
        assert reason == (
            "It does not compile: Expected an expression, got 'end of statement block', line 2."
        )

    def test_an_extension_keeps_it_from_being_stored(self, site):
        site.write("shouting.py", EXTENSION)
        site.settings["TEMPLATES"] = [
            site.engine(environment="shouting.make", extensions=["shouting.Folding"])
        ]
        site.write("templates/home.html", "{% folded %}")
        assert explanation(site)["reason"].startswith("It is never stored: an extension needs")

    def test_the_cache_is_switched_off(self, site):
        site.manage("warm_bytecode")
        found = report(site, "--explain", "home.html", DJANGO_JINJA_BCCACHE="off")
        assert found["found"] == ""
        assert found["reason"] == "The cache is switched off in the process environment."

    def test_a_release_is_served_whatever_the_source_is_now(self, site):
        site.settings["TEMPLATES"] = [
            site.engine(bytecode_cache={"alias": "default", "release": "r1"})
        ]
        site.manage("warm_bytecode")
        assert explanation(site)["reason"] == ""
        site.write("templates/home.html", "changed")
        assert site.visit("home.html").pages["home.html"] != "changed"
        found = explanation(site)
        assert found["found"] == "pack"
        assert found["reason"].startswith("Its source has changed since")
        assert [each["part"] for each in found["differences"]] == ["source"]

    def test_a_release_is_served_without_any_source(self, site, raw):
        for name in ("big1.html", "big2.html", "big3.html", "big4.html"):
            site.write(f"templates/{name}", "leaf " * 14_000)
        site.settings["TEMPLATES"] = [
            site.engine(bytecode_cache={"alias": "default", "release": "r1"})
        ]
        site.manage("warm_bytecode")
        before = site.visit("home.html").pages
        (site.directory / "templates/home.html").unlink()
        assert site.visit("home.html").pages == before
        found = explanation(site)
        assert (found["found"], found["parts"]["release"]) == ("pack", "r1")
        assert found["reason"].startswith("It has no source here")
        for pack in (key for key in list(raw.keys()) if re.search(r"pack\.\w+\.[1-9]$", key)):
            raw.plant(pack, b"damaged")
        assert site.visit("home.html").pages == before
        assert explanation(site)["found"] == "entry"
        site.write("templates/home.html", "changed")
        assert site.visit("home.html").pages == before
        found = explanation(site)
        assert (found["found"], found["reason"][:27]) == ("entry", "Its source has changed sinc")
        (site.directory / "templates/home.html").unlink()
        for entry in (key for key in list(raw.keys()) if ":pack." not in key):
            raw.plant(entry, b"damaged")
        for name in ("home.html", "none.html"):
            unknown = site.manage("inspect_bytecode", "--explain", name)
            assert (unknown.returncode, f"No template '{name}'" in unknown.stderr) == (2, True)

    @pytest.mark.parametrize("instead", ["damaged", "of another publish"])
    def test_a_pack_is_gone_that_is_not_its_own(self, site, raw, instead):
        for name in ("big1.html", "big2.html", "big3.html"):
            site.write(f"templates/{name}", "leaf " * 14_000)
        site.manage("warm_bytecode")
        packs = sorted(key for key in list(raw.keys()) if re.search(r"pack\.\w+\.[1-9]$", key))
        assert len(packs) >= 2
        value = b"damaged"
        if instead == "of another publish":
            value = raw.get(packs[-1])
            site.write("templates/home.html", "changed")
            site.manage("warm_bytecode")
        raw.plant(packs[-1], value)
        names = [*NAMES, "big1.html", "big2.html", "big3.html"]
        found = [explanation(site, name)["found"] for name in names]
        assert sorted(set(found)) == ["entry", "pack"]
        assert found.count("pack") >= 3
        assert site.visit(*names).compiled == []

    def test_a_release_is_not_served_where_templates_are_reloaded(self, site):
        site.settings["TEMPLATES"] = [
            site.engine(bytecode_cache={"alias": "default", "release": "r1"}, auto_reload=True)
        ]
        site.manage("warm_bytecode")
        site.write("templates/home.html", "changed")
        assert [*differences(site)] == ["source"]

    def test_an_entry_of_its_own_when_another_environment_was_warmed_last(self, site):
        site.manage("warm_bytecode")
        site.settings["TEMPLATES"] = [site.engine(trim_blocks=True)]
        site.visit("home.html")
        found = explanation(site)
        assert found["found"] == "entry"
        assert found["reason"] == "It is not in a pack: another environment was warmed last."
        assert [each["part"] for each in found["differences"]] == ["trim_blocks"]

    def test_its_value_is_refused(self, site, raw):
        site.manage("warm_bytecode")
        for key in [key for key in list(raw.keys()) if "note:" not in key]:
            raw.plant(key, raw.get(key)[:-1] + b"?")
        assert explanation(site)["reason"] == (
            "What is stored under its key is refused: it was not signed with a key of this site."
        )

    def test_it_was_stored_and_is_gone(self, site, raw):
        site.manage("warm_bytecode")
        for key, path in raw.paths().items():
            if "note:" not in key:
                path.unlink()
        assert explanation(site)["reason"] == (
            "It was stored under its present key, and is gone: dropped, or never accepted."
        )

    def test_its_loader_has_it_compiled(self, site, tmp_path):
        compile_home(site, tmp_path / "compiled")
        found = explanation(site)
        assert found["reason"] == "Its loader has it compiled already: no cache is asked."
        assert (found["found"], found["key"]) == ("", "")

    def test_without_packs_its_own_entry_serves(self, site):
        site.manage("warm_bytecode")
        site.settings["TEMPLATES"] = [
            site.engine(bytecode_cache={"alias": "default", "packs": False})
        ]
        assert explanation(site)["found"] == "entry"

    def test_a_secret_in_the_environment_is_not_stored(self, site, raw):
        site.write(
            "secretive.py",
            "def environment(**options):\n"
            "    from jinja2 import Environment\n"
            "    made = Environment(**options)\n"
            "    made.extend(api_key='not to be seen')\n"
            "    return made\n",
        )
        site.settings["TEMPLATES"] = [site.engine(environment="secretive.environment")]
        site.manage("warm_bytecode")
        site.settings["TEMPLATES"] = [site.engine()]
        found = differences(site)
        assert found["attributes['api_key']"][0] == "(none)"
        assert "not to be seen" not in str(found)

    def test_the_text_says_it_in_80_columns(self, site):
        site.manage("warm_bytecode")
        site.settings["TEMPLATES"] = [site.engine(trim_blocks=True)]
        done = site.manage("inspect_bytecode", "--explain", "home.html")
        lines = done.stdout.splitlines()
        assert lines[:2] == [
            "jinja2: home.html: would be compiled",
            "  It is not stored under its present key.",
        ]
        assert lines[-3:] == ["    trim_blocks", "      here   true", "      there  false"]
        assert max(map(len, lines)) <= 80

    @pytest.mark.parametrize("arguments", [(), ("--explain", "home.html")], ids=["all", "one"])
    def test_verbosity_0_is_silent(self, file_site, arguments):
        done = file_site.manage("inspect_bytecode", *arguments, "-v", "0")
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")

    def test_the_text_of_one_that_is_found_says_where_and_since_when(self, site):
        site.manage("warm_bytecode")
        done = site.manage("inspect_bytecode", "--explain", "home.html")
        first, *rest = done.stdout.splitlines()
        assert re.fullmatch(r"jinja2: home.html: .* pack.*, stored 2\d{3}-.* UTC", first)
        assert rest[0].startswith("  environment   ")
        assert "differs" not in done.stdout

    def test_one_that_is_not_text_is_an_error(self, site):
        site.write("templates/image.html", b"\xff\xd8")
        done = site.manage("inspect_bytecode", "--explain", "image.html")
        assert (done.returncode, done.stderr) == (2, "CommandError: 'image.html' is not text.\n")

    def test_a_store_out_of_reach_is_one_too(self, site):
        site.settings["CACHES"] = {"default": memcached_cache(["127.0.0.1:9"])}
        done = site.manage("inspect_bytecode", "--explain", "home.html")
        assert (done.returncode, done.stdout) == (1, "")
        assert "jinja2: the cache cannot be used" in done.stderr

    @pytest.mark.parametrize("name", ["none.html", ""])
    def test_a_template_that_no_engine_has_is_an_error(self, file_site, name):
        done = file_site.manage("inspect_bytecode", "--explain", name)
        assert done.returncode == 2
        assert f"No template {name!r} in jinja2." in done.stderr
