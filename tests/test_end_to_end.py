"""Pages in new processes, after a warm-up and after whatever may come between."""

from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from testproject.pages import PAGES
from tests.backends import EVERY_URL, Backend, running
from tests.sites import TEMPLATES, Project, Site, Visit, site_over

NAMES = list(TEMPLATES)
OFF = {"DJANGO_JINJA_BCCACHE": "off"}


@cache
def shop_without_cache(debug: str) -> Visit:
    return Project("testproject.settings").visit(*PAGES, DEBUG=debug, **OFF)


@pytest.fixture(params=list(EVERY_URL))
def backend(request: pytest.FixtureRequest) -> Iterator[Backend]:
    """Each store, whether an alias in CACHES or an engine's option names it."""
    with running(request) as made:
        yield made


@pytest.fixture
def shop(backend: Backend) -> Project:
    """The test project over the backend."""
    return Project("testproject.settings", {"BYTECODE_CACHE": backend.url})


class TestShop:
    @pytest.mark.parametrize("debug", ["0", "1"])
    def test_after_a_warm_up_a_new_process_compiles_nothing_and_serves_the_same(self, shop, debug):
        warmed = shop.manage("warm_bytecode", DEBUG=debug)
        assert (warmed.returncode, warmed.stderr) == (0, "")

        plain, cached = shop_without_cache(debug), shop.visit(*PAGES, DEBUG=debug)
        assert (cached.compiled, cached.log) == ([], "")
        assert cached.misses == cached.stores == 0
        assert cached.hits == len(plain.compiled) > 80
        assert cached.pages == plain.pages

    def test_the_first_process_fills_an_empty_cache_for_the_next(self, shop):
        pages = ["/", "/plants/", "/account/"]
        first, second = shop.visit(*pages), shop.visit(*pages)
        assert first.compiled
        assert first.stores == first.misses == len(first.compiled)
        assert (second.compiled, second.hits) == ([], len(first.compiled))
        assert second.pages == first.pages

    def test_a_cache_that_is_switched_off_neither_reads_nor_writes(self, shop):
        first = shop.visit("/", **OFF)
        assert (first.hits, first.misses, first.stores) == (0, 0, 0)
        assert shop.visit("/").hits == 0


class TestReleases:
    def test_a_changed_template_is_compiled_once(self, site):
        site.manage("warm_bytecode")
        before = site.visit(*NAMES)
        site.write("templates/home.html", TEMPLATES["home.html"].replace("Home", "New"))

        first, second = site.visit(*NAMES), site.visit(*NAMES)
        assert (first.compiled, second.compiled) == (["home.html"], [])
        assert first.pages == second.pages
        assert first.pages["home.html"] == before.pages["home.html"].replace("Home", "New")

    def test_releases_at_different_places_share_what_is_equal_and_spoil_nothing(
        self, site, backend, tmp_path
    ):
        old = site_over(backend, tmp_path / "old checkout")
        old.manage("warm_bytecode")
        site.write("templates/home.html", "The new home")
        assert site.visit(*NAMES).compiled == ["home.html"]
        assert site.visit(*NAMES).pages["home.html"] == "The new home"

        again = old.visit(*NAMES)
        assert again.compiled == []
        assert again.pages["home.html"] == "<title>Home & garden</title>"

    def test_debug_on_and_off_lie_side_by_side_in_one_cache(self, site):
        # Django gives an environment another type of undefined values with DEBUG.
        site.write("templates/home.html", "[{{ nothing }}]")
        for debug in (True, False):
            site.settings["DEBUG"] = debug
            assert "4 compiled" in site.manage("warm_bytecode").stdout
        pages = {}
        for debug in (True, False):
            site.settings["DEBUG"] = debug
            visit = site.visit("home.html")
            assert visit.compiled == []
            pages[debug] = visit.pages["home.html"]
        assert pages == {True: "[{{ nothing }}]", False: "[]"}


class TestSecretKeys:
    @pytest.fixture
    def neighbour(self, site: Site, backend: Backend, tmp_path: Path) -> Site:
        """A site with the same templates, prefix and cache, and a secret of its own."""
        neighbour = site_over(backend, tmp_path / "neighbour")
        neighbour.settings["SECRET_KEY"] = "another secret"
        return neighbour

    def test_sites_with_different_keys_use_nothing_of_each_other(self, site, neighbour):
        site.manage("warm_bytecode")
        assert sorted(neighbour.visit(*NAMES).compiled) == sorted(NAMES)

    def test_sites_with_different_keys_overwrite_nothing_of_each_other(self, site, neighbour):
        site.manage("warm_bytecode")
        neighbour.manage("warm_bytecode")
        assert site.visit(*NAMES).compiled == []
        assert neighbour.visit(*NAMES).compiled == []

    @pytest.mark.parametrize("arguments", [(), ("--stale",)])
    def test_sites_with_different_keys_clear_nothing_of_each_other(
        self, site, neighbour, backend, arguments
    ):
        site.manage("warm_bytecode")
        neighbour.manage("warm_bytecode")
        if backend.lists_keys:
            for name in NAMES:
                site.write(f"templates/{name}", "changed")
        else:  # what is no template's any more cannot be found
            arguments = ()
        if arguments:
            site.manage("warm_bytecode")  # else they count as published lately
        cleared = site.manage("clear_bytecode", "--noinput", *arguments)
        assert "removed 4 entries" in cleared.stdout
        assert neighbour.visit(*NAMES).compiled == []

    def test_a_key_is_rotated_without_compiling_anything(self, site):
        site.manage("warm_bytecode")
        old = site.settings["SECRET_KEY"]
        site.settings |= {"SECRET_KEY": "the new secret", "SECRET_KEY_FALLBACKS": [old]}
        assert site.visit(*NAMES).compiled == []

        warmed = site.manage("warm_bytecode")
        assert "0 stored already, 0 compiled" in warmed.stdout
        assert "  4 stored again: " in warmed.stdout

        del site.settings["SECRET_KEY_FALLBACKS"]
        assert site.visit(*NAMES).compiled == []

    def test_a_key_that_was_dropped_counts_for_nothing(self, site):
        site.manage("warm_bytecode")
        site.settings["SECRET_KEY"] = "the new secret"
        assert sorted(site.visit(*NAMES).compiled) == sorted(NAMES)
