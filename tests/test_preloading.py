"""Everything in one go: for a master before it forks, or when a process starts."""

import gc
import json
import logging
import os

import pytest
from django.template import engines
from django.test import override_settings

from django_jinja_bccache import preload
from django_jinja_bccache.discovery import cached_engines
from django_jinja_bccache.exceptions import UnknownEngine
from django_jinja_bccache.warming import warm
from tests.sites import BACKEND

SOURCES = {f"{number}.html": f"{{{{ {number} }}}}" for number in range(40)}


@pytest.fixture
def site(tmp_path, counted):
    """Puts engines into the settings, as a new process would make them."""

    def make(*names: str, **options):
        for name, source in SOURCES.items():
            (tmp_path / name).write_text(source)
        templates = [
            {"BACKEND": BACKEND, "NAME": name, "DIRS": [tmp_path], "OPTIONS": options}
            for name in names or ["jinja2"]
        ]
        made = override_settings(TEMPLATES=templates)
        made.enable()
        enabled.append(made)
        return [engines[name] for name in names or ["jinja2"]]

    enabled: list[override_settings] = []
    yield make
    for each in reversed(enabled):
        each.disable()


def warm_all() -> None:
    for engine in cached_engines():
        assert warm(engine).ok


class TestPreload:
    @pytest.mark.parametrize("release", [None, "1"])
    def test_a_forked_worker_has_nothing_left_to_load(self, site, counted, release):
        option = {"alias": "default", "release": release, "deadline": 10}
        site(bytecode_cache=option)
        warm_all()
        [engine] = site(bytecode_cache=option)
        [report] = preload()
        assert (report.engine, report.templates, report.compiled) == ("jinja2", 40, 0)
        assert (report.failed, report.left_out) == ({}, 0)
        counted.reset_counts()
        receiver, sender = os.pipe()
        if os.fork() == 0:
            pages = [engine.get_template(name).render() for name in SOURCES]
            counts = engine.env.bytecode_cache.storage.recorder.snapshot(None, None)
            os.write(sender, json.dumps([pages, counts.hits, counts.misses]).encode())
            os._exit(0)
        os.close(sender)
        with open(receiver) as pipe:
            answer = json.load(pipe)
        os.wait()
        assert answer == [[str(number) for number in range(40)], 40, 0]  # hits of the master's
        assert (counted.connections, counted.round_trips) == (0, 0)

    def test_it_takes_one_round_trip_for_a_small_site(self, site, counted):
        site()
        warm_all()
        site()
        counted.reset_counts()
        preload()
        assert counted.round_trips == 1

    def test_it_takes_two_for_a_larger_one(self, site, counted, monkeypatch):
        monkeypatch.setattr("django_jinja_bccache.publishing.PACK_SIZE", 2_000)
        site()
        warm_all()
        site()
        counted.reset_counts()
        [report] = preload()
        assert (counted.round_trips, report.compiled) == (2, 0)

    def test_the_packs_alone(self, site, counted):
        site()
        warm_all()
        [engine] = site()
        [report] = preload(templates=False)
        assert report.templates == 0
        counted.reset_counts()
        assert engine.get_template("3.html").render() == "3"
        assert counted.round_trips == 0

    def test_only_the_engines_that_are_named(self, site):
        site("one", "two")
        assert [report.engine for report in preload("two")] == ["two"]
        assert [report.engine for report in preload()] == ["one", "two"]
        with pytest.raises(UnknownEngine, match="there are: 'one', 'two'"):
            preload("three")

    def test_without_packs_it_loads_entry_by_entry(self, site):
        site(bytecode_cache={"packs": False})
        warm_all()
        site(bytecode_cache={"packs": False})
        [report] = preload()
        assert (report.templates, report.compiled) == (40, 0)

    def test_an_environment_that_keeps_too_few_is_filled_and_it_says_so(self, site, caplog):
        site(cache_size=30)
        [report] = preload()
        assert (report.templates, report.left_out) == (30, 10)
        [record] = caplog.records
        assert record.levelno == logging.WARNING
        assert record.getMessage().startswith("Engine 'jinja2' keeps 30 templates, but has 40.")

    @pytest.mark.parametrize(("cache_size", "kept"), [(0, 0), (-1, 40), (400, 40)])
    def test_it_knows_how_many_an_environment_keeps(self, site, cache_size, kept):
        [engine] = site(cache_size=cache_size)
        [report] = preload()
        assert (report.templates, report.left_out) == (kept, 40 - kept)
        assert len(engine.env.cache or ()) == kept

    def test_a_store_that_is_down_costs_compiles_and_no_error(self, site, counted):
        site()
        warm_all()
        site(bytecode_cache={"deadline": 0.5})
        counted.mode = "refuse"
        [report] = preload()
        assert (report.templates, report.compiled) == (40, 40)

    def test_a_template_that_is_broken_is_reported_and_stops_nothing(self, site, tmp_path):
        site()
        (tmp_path / "broken.html").write_text("{% if %}")
        [report] = preload()
        assert report.templates == 40
        assert list(report.failed) == ["broken.html"]


class TestTheCollector:
    def test_it_is_paused_meanwhile_and_runs_afterwards(self, site, monkeypatch):
        site()
        states = []
        monkeypatch.setattr(
            "django_jinja_bccache.discovery.list_templates",
            lambda *_, **__: states.append(gc.isenabled()) or 1 / 0,
        )
        with pytest.raises(ZeroDivisionError):
            preload()
        assert (states, gc.isenabled()) == ([False], True)

    def test_one_that_was_off_stays_off(self, site):
        site()
        gc.disable()
        try:
            preload()
            assert not gc.isenabled()
        finally:
            gc.enable()

    def test_what_was_frozen_stays_so(self, site):
        site()
        gc.freeze()
        try:
            preload()
            assert gc.get_freeze_count() > 0
        finally:
            gc.unfreeze()
        preload()
        assert gc.get_freeze_count() == 0
