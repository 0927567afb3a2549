"""What clearing an engine's cache removes, seen from inside the process."""

import pytest
from django.test import override_settings
from jinja2 import ChoiceLoader, DictLoader, Environment, FunctionLoader, ModuleLoader

from django_jinja_bccache import DjangoBytecodeCache
from django_jinja_bccache.clearing import clear, clear_stale
from django_jinja_bccache.discovery import CachedEngine
from django_jinja_bccache.exceptions import NotSupported
from django_jinja_bccache.warming import check, warm
from tests.raw import raw_store
from tests.sites import cached_engine

SOURCES = {"a.html": "{{ a }}", "b.html": "{{ b }}", "c.html": "{{ c }}"}


class CompiledTemplates(ModuleLoader):
    """A site's own, which knows what it has."""

    def list_templates(self):
        return ["a.html"]


def engine(sources: dict[str, str] = SOURCES, name: str = "one", **options) -> CachedEngine:
    made = cached_engine(DictLoader(dict(sources)), name, **options)
    warm(made)
    return made


def contents(raw) -> dict[str, bytes]:
    return {key: raw.get(key) for key in list(raw.keys())}


def is_warm(engine: CachedEngine) -> bool:
    return check(engine).ok


@pytest.fixture
def raw(backend, request):
    return raw_store(backend, request)


class TestClear:
    def test_it_reports_what_it_removed(self, backend, raw):
        one = engine()
        values = contents(raw)
        sizes = sum(len(values[key]) for key in values if "note:" not in key)
        report = clear(one)
        assert (report.engine, report.entries, report.listed) == ("one", 3, True)
        assert sizes <= report.bytes < 2 * sizes  # a store may count what it needs itself
        assert raw.keys() == []

    def test_entries_of_all_releases_and_settings_go(self, backend, raw):
        engine({"a.html": "an older one"})
        engine(autoescape=True)
        engine(trim_blocks=True)
        assert clear(engine()).entries == 10
        assert raw.keys() == []

    def test_entries_that_are_being_read_go(self, backend, raw):
        one = engine()
        for _ in range(5):
            for key in raw.keys() * 3:
                raw.get(key)
            assert clear(one).entries == 3
            warm(one)

    def test_damaged_entries_go(self, backend, raw):
        one = engine()
        for key in list(raw.keys()):
            raw.plant(key, b"damaged")
        assert clear(one).entries == 3

    def test_more_entries_than_one_round_trip_takes(self, backend, raw):
        one = engine({f"{number}.html": str(number) for number in range(450)})
        assert clear(one).entries == 450
        assert raw.keys() == []

    def test_a_dry_run_changes_nothing(self, backend, raw):
        one = engine()
        before = contents(raw)
        would = clear(one, dry_run=True)
        assert contents(raw) == before
        assert clear(one) == would

    @pytest.mark.parametrize(
        "options",
        [{"autoescape": True}, {"trim_blocks": True}, {"bytecode_cache": "salted"}],
        ids=str,
    )
    def test_other_engines_in_the_same_cache_are_spared(self, backend, options):
        if "bytecode_cache" in options:
            options = {"bytecode_cache": DjangoBytecodeCache(salt="another")}
        one, other = engine(), engine(name="other", **options)
        assert clear(one, others=[other]).entries == 3
        assert (is_warm(one), is_warm(other)) == (False, True)

    def test_an_entry_that_two_engines_use_goes(self, backend):
        one, other = engine(), engine({"a.html": "{{ a }}", "d.html": "{{ d }}"}, "other")
        assert clear(one, others=[other]).entries == 3
        assert check(other).missing == ["a.html"]

    def test_dry_runs_over_one_cache_count_nothing_twice(self, backend):
        engine({"old.html": "old"})
        one, other = engine(), engine(name="other", trim_blocks=True)
        counted = set()
        counts = [
            clear(each, others=[rest], dry_run=True, counted=counted).entries
            for each, rest in ((one, other), (other, one))
        ]
        assert counts == [4, 3]

    @pytest.mark.parametrize("loader", [None, FunctionLoader(lambda name: None)])
    def test_an_engine_without_templates_can_be_cleared(self, backend, loader):
        engine()
        assert clear(cached_engine(loader)).entries == 3


class TestClearWithoutListing:
    @pytest.fixture(autouse=True)
    def _local_memory(self):
        locmem = {"BACKEND": "django.core.cache.backends.locmem.LocMemCache", "LOCATION": "clear"}
        with override_settings(CACHES={"default": locmem}):
            yield

    def test_the_entries_of_the_present_templates_go(self):
        one = engine()
        report = clear(one)
        assert (report.entries, report.listed) == (3, False)
        assert report.bytes > 3_000
        assert check(one).missing == [*SOURCES]
        assert clear(one).entries == 0

    def test_a_template_that_cannot_be_read_does_not_keep_the_others(self):
        one = engine()

        def broken(name):
            raise OSError("unreadable")

        loader = one.environment.loader
        one.environment.loader = ChoiceLoader([loader, Listed(broken, ["bad.html"])])
        assert clear(one).entries == 3

    def test_stale_ones_cannot_be_told(self):
        with pytest.raises(NotSupported):
            clear_stale(engine())


def test_with_a_loader_that_cannot_list_stale_ones_cannot_be_told_and_all_stay(backend, raw):
    one = engine()
    before = contents(raw)
    other = cached_engine(FunctionLoader(SOURCES.get), "other")
    with pytest.raises(NotSupported, match="FunctionLoader of engine 'other'"):
        clear_stale(one, others=[other])
    assert contents(raw) == before


class Listed(FunctionLoader):
    """A function's loader that lists what it is told to."""

    def __init__(self, function, names):
        super().__init__(function)
        self.names = names

    def list_templates(self):
        return self.names


class TestClearStale:
    def test_what_present_templates_use_stays(self, backend):
        old = engine({"a.html": "older", "b.html": SOURCES["b.html"], "gone.html": "gone"})
        one = engine()
        assert clear_stale(one).entries == 2
        assert is_warm(one)
        assert check(old).missing == ["a.html", "gone.html"]

    def test_what_a_loader_has_compiled_already_needs_no_entry(self, backend, tmp_path):
        engine()
        compiled = Environment(loader=DictLoader({"a.html": SOURCES["a.html"]}))
        compiled.compile_templates(tmp_path / "compiled", zip=None)
        modules = CompiledTemplates(tmp_path / "compiled")
        one = cached_engine(ChoiceLoader([modules, DictLoader(SOURCES)]), "one")
        warm(one)
        assert clear_stale(one, keep_releases=0).entries == 1
        assert is_warm(one)

    def test_what_present_templates_of_other_engines_use_stays(self, backend):
        one, other = engine(), engine({"d.html": "d"}, "other", autoescape=True)
        assert clear_stale(one, others=[other]).entries == 0
        assert (is_warm(one), is_warm(other)) == (True, True)
        assert clear_stale(one).entries == 0  # published lately
        assert clear_stale(one, keep_releases=0).entries == 1

    def test_a_dry_run_changes_nothing_and_counts_nothing_twice(self, backend):
        engine({"a.html": "older"})
        one, other = engine(), engine(name="other", autoescape=True)
        counted = set()
        first = clear_stale(one, others=[other], dry_run=True, counted=counted)
        second = clear_stale(other, others=[one], dry_run=True, counted=counted)
        assert (first.entries, second.entries) == (1, 0)
        assert clear_stale(one, others=[other]) == first
