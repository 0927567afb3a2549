"""While a store is ill every page is right, one line of the log says so, and it recovers."""

import base64
import random
import shutil

import pytest
from django.template import engines

from tests.faults.watching import DEADLINE, Watch
from tests.scripts import run_script

SERVERS = {
    "memcached://{}": "memcached",
    "pylibmc://{}": "memcached",
    "redis://{}/0": "redis",
}


@pytest.mark.parametrize(("url", "kind"), SERVERS.items(), ids=["memcached", "pylibmc", "redis"])
class TestServers:
    def test_not_running_at_start_then_started_stopped_and_started_again(
        self, url, kind, site, request, expected
    ):
        server = request.getfixturevalue(f"{kind}_server")()
        watch = site(url.format(server.address))
        for _ in range(2):
            assert watch.pages() == expected
            hits, misses, stores, errors = watch.counts()
            assert (hits, stores) == (0, 0)
            assert misses > 20
            assert errors == 1
            assert watch.news() == ["WARNING"]
            watch.wait_for_the_next_try()
            assert watch.pages() == expected
            assert watch.news() == []

            server.start()
            watch.wait_for_the_next_try()
            watch.counts()
            assert watch.pages() == expected
            assert watch.counts() == (0, misses, misses, 0)
            assert watch.pages() == expected
            assert watch.counts() == (misses, 0, 0, 0)
            assert watch.news() == ["INFO"]
            server.stop()

    def test_restarted_in_between_costs_no_page_and_is_no_outage(
        self, url, kind, site, request, expected
    ):
        server = request.getfixturevalue(f"{kind}_server")().start()
        watch = site(url.format(server.address))
        assert watch.pages() == expected
        _, misses, _, _ = watch.counts()
        server.restart()
        assert watch.pages() == expected
        assert watch.counts() == (0, misses, misses, 0)
        assert watch.news() == []

    @pytest.mark.parametrize("begins", ["at start", "in between"])
    @pytest.mark.parametrize("mode", ["refuse", "reset", "black_hole", "trickle", "cut"])
    def test_an_ill_server_costs_one_deadline_and_one_warning(
        self, url, kind, site, request, proxy, expected, mode, begins
    ):
        way = proxy(request.getfixturevalue(kind).address)
        way.trickle_interval = DEADLINE
        watch = site(url.format(way.address))
        if begins == "in between":
            assert watch.pages() == expected
            watch.counts()
        way.mode = mode
        assert watch.pages() == expected
        hits, misses, stores, errors = watch.counts()
        assert (hits, stores) == (0, 0)
        assert misses > 20
        assert errors == 1  # all others did without
        assert watch.news() == ["WARNING"]

        way.mode = "pass"
        watch.wait_for_the_next_try()
        assert watch.pages() == expected
        loads = (0, misses, misses, 0) if begins == "at start" else (misses, 0, 0, 0)
        assert watch.counts() == loads
        assert watch.news() == ["INFO"]

    def test_garbled_values_are_misses_and_no_outage(
        self, url, kind, site, request, proxy, expected
    ):
        way = proxy(request.getfixturevalue(kind).address)
        watch = site(url.format(way.address))
        assert watch.pages() == expected
        _, misses, _, _ = watch.counts()
        way.mode = "garble"
        assert watch.pages() == expected
        assert watch.counts() == (0, misses, misses, 0)
        assert watch.last.miss_reasons["signature"] == misses
        assert watch.last.rejected == misses
        way.mode = "pass"
        assert watch.pages() == expected
        assert watch.counts() == (misses, 0, 0, 0)
        assert watch.news() == []


class TestTooLarge:
    @pytest.fixture
    def load(self, site, memcached, tmp_path):
        """Renders a template in a new process, with memcached's default limit of 1 MB."""

        def render(source: str) -> Watch:
            (tmp_path / "large.html").write_text(source)
            watch = site(f"memcached://{memcached.address}")
            engines["jinja2"].env.loader.searchpath.append(str(tmp_path))
            assert engines["jinja2"].get_template("large.html").render() == source
            return watch

        return render

    def test_a_template_of_several_megabytes_is_stored_compressed(self, load):
        source = "<p>A very long page.</p>" * 200_000
        assert load(source).counts() == (0, 1, 1, 0)
        watch = load(source)
        assert watch.counts() == (1, 0, 0, 0)
        assert watch.news() == []

    def test_one_that_does_not_fit_renders_and_is_one_warning_with_its_name(self, load, caplog):
        noise = base64.b64encode(random.Random(1).randbytes(3_000_000)).decode()
        for _ in range(2):
            watch = load(noise)
            assert watch.counts() == (0, 1, 0, 0)
            assert watch.cache.statistics.oversize == 1
            assert "'large.html'" in caplog.messages[-1]
            assert watch.news() == ["WARNING"]

    def test_others_are_stored_and_found_beside_it(self, load, expected):
        watch = load(base64.b64encode(random.Random(1).randbytes(3_000_000)).decode())
        watch.counts()
        assert watch.pages() == expected
        _, misses, stores, errors = watch.counts()
        assert (stores, errors) == (misses, 0)
        assert watch.pages() == expected
        assert watch.counts() == (misses, 0, 0, 0)


class TestFiles:
    def test_a_directory_that_is_gone_is_made_again(self, site, tmp_path, expected):
        watch = site(f"file://{tmp_path}/cache")
        assert watch.pages() == expected
        _, misses, _, _ = watch.counts()
        shutil.rmtree(tmp_path / "cache")
        assert watch.pages() == expected
        assert watch.counts() == (0, misses, misses, 0)
        assert watch.pages() == expected
        assert watch.counts() == (misses, 0, 0, 0)
        assert watch.news() == []

    @pytest.mark.parametrize("obstacle", ["cache", "cache/jinja2_bytecode"])
    @pytest.mark.parametrize("begins", ["at start", "in between"])
    def test_one_that_cannot_be_made_is_one_warning_until_it_can(
        self, site, tmp_path, expected, obstacle, begins
    ):
        watch = site(f"file://{tmp_path}/cache")
        if begins == "in between":
            assert watch.pages() == expected
            shutil.rmtree(tmp_path / "cache")
            watch.counts()
        (tmp_path / obstacle).parent.mkdir(exist_ok=True)
        (tmp_path / obstacle).write_text("a file where the directory should be")
        for _ in range(3):
            assert watch.pages() == expected
            hits, misses, stores, errors = watch.counts()
            assert (hits, stores) == (0, 0)
            assert errors == 1
            watch.wait_for_the_next_try()
        assert watch.news() == ["WARNING"]

        (tmp_path / obstacle).unlink()
        watch.wait_for_the_next_try()
        assert watch.pages() == expected
        assert watch.counts() == (0, misses, misses, 0)
        assert watch.pages() == expected
        assert watch.counts() == (misses, 0, 0, 0)
        assert watch.news() == ["INFO"]

    def test_on_a_full_disk_what_is_stored_is_still_read(self, tmp_path):
        finished = run_script(
            """
            import json, resource, time
            import django
            from django.conf import settings
            django.setup()
            from django.template import engines
            from django.test import Client
            settings.TEMPLATES[0]["OPTIONS"]["bytecode_cache"] = {"cooldown": 0.2}
            results = []

            def visit(*pages):
                engines["jinja2"].env.cache.clear()
                for page in pages:
                    assert Client().get(page).status_code == 200
                cache = engines["jinja2"].env.bytecode_cache
                found = cache.storage.recorder.snapshot(None, None)
                results.append([found.hits, found.misses, found.stores, found.errors > 0])

            def allow_files_of(size):
                resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

            visit("/")
            allow_files_of(100)
            visit("/", "/plants/")
            allow_files_of(resource.RLIM_INFINITY)
            time.sleep(0.3)
            visit("/", "/plants/")
            visit("/", "/plants/")
            print(json.dumps(results))
            """,
            DJANGO_SETTINGS_MODULE="testproject.settings",
            BYTECODE_CACHE=f"file://{tmp_path}/cache",
        )
        warm, full, again, last = finished.result
        home, new = warm[1], full[1] - warm[1]
        assert warm == [0, home, home, False]
        assert full == [home, home + new, home, True]
        assert again == [home * 2, home + new * 2, home + new, True]
        assert last == [home * 3 + new, home + new * 2, home + new, True]
        assert [line.count("refuses to store") for line in finished.stderr.splitlines()] == [1]
        names = {path.suffix for path in (tmp_path / "cache" / "jinja2_bytecode").iterdir()}
        assert names == {".bytecode"}
        assert all(
            path.stat().st_size > 100
            for path in (tmp_path / "cache" / "jinja2_bytecode").iterdir()
        )
