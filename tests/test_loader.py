"""Releases: served without their sources, unchangeable, and like any other page in the end."""

import json
import shutil
import time
from pathlib import Path

import pytest
from jinja2 import ChoiceLoader, DictLoader, FileSystemLoader, PackageLoader, PrefixLoader

from django_jinja_bccache.directories import named_directories, root_and_path
from django_jinja_bccache.loader import ReleaseLoader
from django_jinja_bccache.warming import warm
from testproject.caches import caches_from
from tests.raw import RawFiles, raw_store
from tests.sites import TEMPLATES, Site, cached_engine, site_over

NAMES = list(TEMPLATES)

# What is done to files below the templates' directory while the pages are rendered.
WATCHED = """
import json, os, sys

directory, names = sys.argv[1], sys.argv[2:]
import django
django.setup()
from django.template import engines
from django.template.loader import get_template

engines.all()  # Django's backend itself looks which directories there are
touched, on = [], True

def watch(event, arguments):
    if on and arguments and str(arguments[0]).startswith(directory):
        touched.append([event, str(arguments[0])])

real_stat = os.stat
def stat(path, *rest, **more):
    watch("os.stat", [path])
    return real_stat(path, *rest, **more)

os.stat = stat
sys.addaudithook(watch)
pages = {name: get_template(name).render({}) for name in names}
on = False
cache = engines.all()[0].env.bytecode_cache.statistics
print(json.dumps([touched, pages, cache.hits, cache.misses]))
"""

# Replaces pack 0 by one of a later version of marshal's format.
REPACK = """
import django, json
django.setup()
from django.template import engines
from django_jinja_bccache.archive import Archive

environment = engines["jinja2"].env
cache = environment.bytecode_cache
key = cache.published.scope(environment).prefix + "0"
with Archive(cache.storage) as archive:
    [copy] = archive.copies([key])[key]
    archive.store_pack(key, b"\\xfenot known here", bytes(copy.unsealed.label))
"""


def released(site, release="1"):
    """Give the site's engine the name of a release."""
    option = site.bytecode_cache
    option = {"alias": option} if isinstance(option, str) else dict(option)
    site.settings["TEMPLATES"] = [site.engine(bytecode_cache=option | {"release": release})]
    return site


@pytest.fixture
def site(site):
    return released(site)


@pytest.fixture
def raw(backend, request):
    return raw_store(backend, request)


class TestSources:
    def test_no_source_of_a_published_template_is_opened_or_looked_for(self, site):
        warmed = site.manage("warm_bytecode")
        assert (warmed.returncode, warmed.stderr) == (0, "")
        before = site.visit(*NAMES).pages
        touched, pages, hits, misses = site.python(
            "-c", WATCHED, str(site.directory / "templates"), *NAMES
        ).result
        assert (touched, pages, hits, misses) == ([], before, 4, 0)

    def test_the_loader_lists_and_reads_them_for_whoever_asks(self, site):
        site.manage("warm_bytecode")
        names, source = site.python(
            "-c",
            "import django, json; django.setup()\n"
            "from django.template import engines\n"
            "environment = engines['jinja2'].env\n"
            "source = environment.loader.get_source(environment, 'home.html')[0]\n"
            "print(json.dumps([environment.list_templates(), source]))",
        ).result
        assert (names, source) == (NAMES, TEMPLATES["home.html"])

    def test_without_a_release_each_is(self, site):
        released(site, None).manage("warm_bytecode")
        directory = str(site.directory / "templates")
        [touched, *_] = site.python("-c", WATCHED, directory, *NAMES).result
        assert {path for event, path in touched if event == "open"} == {
            f"/srv/site/templates/{name}" for name in NAMES
        }

    def test_pages_are_served_although_their_sources_are_gone(self, site):
        site.manage("warm_bytecode")
        before = site.visit(*NAMES)
        shutil.rmtree(site.directory / "templates")
        after = site.visit(*NAMES)
        assert (after.pages, after.compiled, after.log) == (before.pages, [], "")

    def test_a_lost_pack_does_not_call_for_sources(self, site, raw):
        site.manage("warm_bytecode")
        before = site.visit(*NAMES)
        shutil.rmtree(site.directory / "templates")
        entries = {
            key: raw.get(key)
            for key in list(raw.keys())
            if "note:" not in key and "pack." not in key
        }
        assert len(entries) == 4
        for key in entries:  # the packs alone are enough
            raw.plant(key, b"")
        assert site.visit(*NAMES).pages == before.pages


class TestTheOrdinaryPath:
    def test_a_name_that_is_not_published_takes_it(self, site):
        site.manage("warm_bytecode")
        site.write(
            "templates/new.html", "{% extends 'base.html' %}{% block title %}New{% endblock %}"
        )
        visit = site.visit("new.html", "home.html")
        assert visit.compiled == ["new.html"]
        assert visit.pages["new.html"] == "<title>New</title>"

    def test_a_release_that_is_not_published_takes_it(self, site):
        released(site, None).manage("warm_bytecode")
        visit = released(site, "2").visit(*NAMES, *NAMES)
        assert (visit.compiled, visit.hits) == ([], 4)
        assert visit.log == (
            "Release '2' of engine 'jinja2' is not in the bytecode cache: every template's source "
            "is read until it is. manage.py warm_bytecode publishes it.\n"
        )

    def test_where_the_store_is_down_nobody_claims_to_know(self, memcached_server, tmp_path):
        server = memcached_server()
        site = Site(tmp_path, caches_from(f"memcached://{server.address}", tmp_path))
        [line] = released(site, "2").visit(*NAMES).log.splitlines()
        assert "is unavailable" in line

    def test_auto_reload_takes_it(self, site):
        site.manage("warm_bytecode")
        site.write("templates/home.html", "changed")
        assert site.visit("home.html").pages["home.html"] != "changed"
        for engine in site.settings["TEMPLATES"]:
            engine["OPTIONS"]["auto_reload"] = True
        assert site.visit("home.html").pages["home.html"] == "changed"
        site.settings["TEMPLATES"][0]["OPTIONS"]["bytecode_cache"] |= {
            "release": "never published"
        }
        assert site.visit("home.html").log == ""

    def test_an_environment_with_other_options_takes_it(self, site):
        site.manage("warm_bytecode")
        for engine in site.settings["TEMPLATES"]:
            engine["OPTIONS"]["trim_blocks"] = True
        assert sorted(site.visit(*NAMES).compiled) == sorted(NAMES)

    def test_a_cleared_release_takes_it(self, site):
        site.manage("warm_bytecode")
        before = site.visit(*NAMES).pages
        site.manage("clear_bytecode", "--noinput")
        visit = site.visit(*NAMES)
        assert (sorted(visit.compiled), visit.pages) == (sorted(NAMES), before)

    def test_a_template_that_does_not_exist_is_what_it_was(self, site):
        script = """if True:
            import json, django
            django.setup()
            from django.template import TemplateDoesNotExist
            from django.template.loader import get_template
            try:
                get_template("nowhere.html")
            except TemplateDoesNotExist as error:
                [tried] = error.chain
                print(json.dumps([str(error), [origin.name for origin, _ in tried.tried]]))
        """
        site.manage("warm_bytecode")
        with_release = site.python("-c", script)
        assert with_release.result == released(site, None).python("-c", script).result


class TestPlaces:
    def test_a_traceback_names_the_local_path_of_packs_that_were_made_elsewhere(
        self, site, backend, tmp_path
    ):
        other = released(site_over(backend, tmp_path / "build host" / "site"))
        for each in (site, other):
            each.write("templates/shop/broken.html", "fine\n{{ 1 // 0 }}")
        other.manage("warm_bytecode")
        shutil.rmtree(other.directory)
        failed = site.python("-m", "tests.visit", "shop/broken.html")
        assert 'File "/srv/site/templates/shop/broken.html", line 2' in failed.stderr
        assert "build host" not in failed.stderr
        assert "ZeroDivisionError" in failed.stderr

    def test_directories_have_the_same_names_wherever_they_are(self):
        def loader(root: str):
            return ChoiceLoader(
                [
                    FileSystemLoader([f"{root}/shop/jinja2", f"{root}/blog/jinja2/"]),
                    PrefixLoader({"mail": FileSystemLoader(f"{root}/other/shop/jinja2")}),
                    PackageLoader("testproject.catalogue", "jinja2"),
                ]
            )

        here, there = named_directories(loader("/srv/here")), named_directories(loader("/b"))
        assert list(here) == list(there)
        assert list(here) == [
            "shop/jinja2#0", "blog/jinja2#0", "shop/jinja2#1", "catalogue/jinja2#0",
        ]  # fmt: skip
        assert here["shop/jinja2#1"] == "/srv/here/other/shop/jinja2"
        assert Path(here["catalogue/jinja2#0"]).is_dir()

    def test_a_file_is_in_the_first_directory_that_it_is_below_or_in_none(self):
        directories = named_directories(FileSystemLoader(["/srv/a/shop", "/srv/b/blog"]))
        for filename, expected in {
            "/srv/a/shop/page.html": ("a/shop#0", ""),
            "/srv/b/blog/2026/page.html": ("b/blog#0", "2026/page.html"),
            "/srv/a/shopping/page.html": ("", ""),
            None: ("", ""),
        }.items():
            assert root_and_path("page.html", filename, directories) == expected


def test_without_a_release_packs_never_stand_in_for_sources(backend):
    names = DictLoader({"home.html": "as it was"})
    warm(cached_engine(names))
    made = cached_engine(None, auto_reload=False)
    changed = DictLoader({"home.html": "changed"})
    made.environment.loader = ReleaseLoader(changed, made.cache)
    assert made.environment.get_template("home.html").render() == "changed"


class TestALife:
    def test_releases_live_side_by_side_and_one_goes_back_to_an_earlier(self, site):
        site.manage("warm_bytecode")
        first = site.visit(*NAMES).pages
        site.write("templates/home.html", "second")
        released(site, "2").manage("warm_bytecode")
        for release in ("1", "2", "1"):
            visit = released(site, release).visit(*NAMES)
            assert visit.compiled == []
            assert visit.pages == (first if release == "1" else first | {"home.html": "second"})

    def test_a_published_release_does_not_change(self, site):
        site.manage("warm_bytecode")
        before = site.visit(*NAMES).pages
        assert site.manage("warm_bytecode").returncode == 0
        site.write("templates/home.html", "changed")
        site.write("templates/new.html", "new")
        refused = site.manage("warm_bytecode")
        assert refused.returncode == 1
        assert "the release cannot be used: '1' is published already" in refused.stderr
        assert "'home.html', 'new.html'" in refused.stderr.replace("\n  ", " ")
        assert site.visit(*NAMES).pages == before
        for how in ((), ("--ignore-errors",)):
            checked = site.manage("warm_bytecode", "--check", *how)
            assert checked.returncode == 1
            assert checked.stderr == (
                "jinja2: release '1' is published with other content than this\n"
            )
        for tried, expected in (((), 1), (("--force",), 0)):
            foretold = site.manage("warm_bytecode", "--dry-run", *tried)
            assert foretold.returncode == expected
            assert ("'1' is published already" in foretold.stderr) == bool(expected)
        assert site.visit(*NAMES).pages == before

    def test_a_broken_template_is_told_of_beside_the_release_that_it_would_change(self, site):
        site.manage("warm_bytecode")
        site.write("templates/home.html", "{% if %}")
        refused = site.manage("warm_bytecode")
        assert refused.returncode == 1
        assert "home.html: Expected an expression" in refused.stderr
        assert "'1' is published already" in refused.stderr
        assert site.manage("warm_bytecode", "--ignore-errors").returncode == 1
        foretold = site.manage("warm_bytecode", "--dry-run")
        assert foretold.returncode == 1
        assert "home.html: Expected an expression" in foretold.stderr
        assert "'1' is published already" in foretold.stderr

    def test_force_changes_it(self, site):
        site.manage("warm_bytecode")
        site.write("templates/home.html", "changed")
        assert site.manage("warm_bytecode", "--force").returncode == 0
        assert site.visit(*NAMES).pages["home.html"] == "changed"

    def test_check_wants_the_release_to_be_published(self, site):
        released(site, None).manage("warm_bytecode")
        checked = released(site, "1").manage("warm_bytecode", "--check")
        assert (checked.returncode, checked.stderr) == (
            1,
            "jinja2: release '1' is not published\n",
        )
        site.manage("warm_bytecode")
        assert site.manage("warm_bytecode", "--check").returncode == 0

    def test_without_the_index_that_no_page_reads_it_is_published_all_the_same(self, site, raw):
        """A store that drops what is not read drops the index first."""
        site.manage("warm_bytecode")
        before = site.visit(*NAMES)
        [index] = [key for key in list(raw.keys()) if key.endswith(".index")]
        raw.plant(index, b"")
        assert site.manage("warm_bytecode", "--check").returncode == 0
        found = json.loads(site.manage("inspect_bytecode", "--format", "json").stdout)
        [published] = found["engines"][0]["published"]
        assert (published["stored"], published["packs"], published["lost"]) == (4, 1, 0)

        site.write("templates/home.html", "changed")
        assert "'1' is published already" in site.manage("warm_bytecode").stderr
        released(site, "2").manage("warm_bytecode")
        site.manage("clear_bytecode", "--stale", "--noinput")
        released(site, "1")
        site.write("templates/home.html", TEMPLATES["home.html"])
        after = site.visit(*NAMES)
        assert (after.pages, after.compiled) == (before.pages, [])

    def test_one_that_another_python_wrote_is_published_though_nobody_can_read_it(
        self, file_site, tmp_path
    ):
        site, raw = released(file_site), RawFiles(tmp_path / "cache")
        site.manage("warm_bytecode")
        assert site.python("-c", REPACK).returncode == 0
        [index] = [key for key in list(raw.keys()) if key.endswith(".index")]
        raw.plant(index, b"")
        found = json.loads(site.manage("inspect_bytecode", "--format", "json").stdout)
        [published] = found["engines"][0]["published"]
        assert (published["release"], published["stored"]) == ("1", 0)
        visit = site.visit(*NAMES)
        assert (visit.hits, visit.compiled) == (4, [])

    def test_clear_stale_keeps_as_many_releases_as_it_is_told(self, site):
        for release in "1234":
            site.write("templates/home.html", f"home of {release}")
            released(site, release).manage("warm_bytecode")
            time.sleep(1)  # which is as exactly as it is known when they were published
        cleared = site.manage("clear_bytecode", "--noinput", "--stale", "--keep-releases", "2")
        assert "removed 1 entry and 1 pack" in cleared.stdout
        shutil.rmtree(site.directory / "templates")
        for release in "234":
            assert released(site, release).visit("home.html").pages == {
                "home.html": f"home of {release}"
            }
        assert released(site, "1").python("-m", "tests.visit", "home.html").returncode != 0


@pytest.mark.parametrize("release", ["", 5, ["1"]])
def test_a_release_is_a_name(file_site, release):
    finished = released(file_site, release).manage("check")
    assert finished.returncode == 1
    assert "release" in finished.stderr
    assert json.dumps(release).replace('"', "").strip("[]") in finished.stderr
