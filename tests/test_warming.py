"""What warming and checking an engine's cache report, seen from inside the process."""

from functools import partial

import pymemcache
import pytest
from django.core.cache import caches
from django.test import override_settings
from jinja2 import (
    BaseLoader,
    ChoiceLoader,
    DictLoader,
    Environment,
    FunctionLoader,
    PrefixLoader,
    nodes,
)
from jinja2.ext import Extension
from pymemcache.exceptions import MemcacheUnknownCommandError

from django_jinja_bccache import DjangoBytecodeCache, MemcachedBytecodeCache
from django_jinja_bccache.discovery import CachedEngine
from django_jinja_bccache.exceptions import StoreError
from django_jinja_bccache.warming import Problem, WarmReport, check, warm
from testproject.caches import caches_from
from tests.raw import raw_store
from tests.servers import Memcached
from tests.sites import cached_engine

SOURCES = {"a.html": "{{ a }}", "b.html": "{% include 'a.html' %}"}


def engine(sources: dict[str, str] = SOURCES, **options) -> CachedEngine:
    return cached_engine(DictLoader(dict(sources)), **options)


def outcomes(report: WarmReport) -> dict[str, list]:
    """The report's lists that are not empty, but for that of all templates."""
    return {
        name: value
        for name, value in vars(report).items()
        if isinstance(value, list) and value and name != "templates"
    }


@pytest.fixture
def raw(backend, request):
    return raw_store(backend, request)


class TestWarm:
    def test_it_stores_what_pages_then_find(self, backend):
        report = warm(engine())
        assert outcomes(report) == {"compiled": ["a.html", "b.html"]}
        assert (report.engine, report.templates, report.ok) == ("jinja2", [*SOURCES], True)
        assert report.bytes_stored > 500

        page = engine()
        page.environment.get_template("b.html").render(a=1)
        assert (page.cache.statistics.hits, page.cache.statistics.misses) == (2, 0)

    def test_what_is_stored_is_not_stored_again(self, backend, raw):
        warm(engine())
        before = {key: raw.get(key) for key in list(raw.keys())}
        report = warm(engine())
        assert outcomes(report) == {"present": ["a.html", "b.html"]}
        assert report.bytes_stored == 0
        assert {key: raw.get(key) for key in list(raw.keys())} == before

    def test_templates_that_jinja2_keeps_in_the_process_are_stored_all_the_same(self, backend):
        one = engine()
        one.environment.get_template("a.html")
        one.cache.clear()
        assert outcomes(warm(one)) == {"compiled": ["a.html", "b.html"]}
        assert outcomes(check(one)) == {"present": ["a.html", "b.html"]}

    def test_it_loads_nothing_into_the_process(self, backend):
        one = engine()
        warm(one)
        assert len(one.environment.cache) == 0

    def test_more_templates_than_one_round_trip_takes(self, backend):
        one = engine({f"{number:03}.html": str(number) for number in range(401)})
        assert len(warm(one).compiled) == 401
        assert len(warm(one).present) == 401
        assert check(one).ok

    def test_equal_templates_behind_two_prefixes_share_one_entry(self, backend, raw):
        loader = PrefixLoader({"a": DictLoader({"i.html": "i"}), "b": DictLoader({"i.html": "i"})})
        one = cached_engine(loader)
        assert outcomes(warm(one)) == {"compiled": ["a/i.html"], "present": ["b/i.html"]}
        assert (
            len([key for key in list(raw.keys()) if "note:" not in key and "pack." not in key])
            == 1
        )
        assert outcomes(check(one)) == {"present": ["a/i.html", "b/i.html"]}

    def test_a_dry_run_stores_nothing(self, backend, raw):
        assert outcomes(warm(engine(), dry_run=True)) == {"compiled": ["a.html", "b.html"]}
        assert raw.keys() == []

    def test_patterns_choose(self, backend):
        assert warm(engine(), include=["a*"]).templates == ["a.html"]
        assert warm(engine(), exclude=["a*"]).templates == ["b.html"]

    def test_references_reach_beyond_what_was_chosen(self, backend):
        assert warm(engine(), include=["b*"]).ok

    def test_entries_that_never_expire_never_grow_old(self, backend, monkeypatch):
        cache = DjangoBytecodeCache(timeout=None)
        warm(engine(bytecode_cache=cache))
        later = DjangoBytecodeCache(timeout=1)
        monkeypatch.setattr("time.time", lambda: 9_999_999_999.0)
        assert outcomes(warm(engine(bytecode_cache=cache), dry_run=True)).keys() == {"present"}
        assert outcomes(warm(engine(bytecode_cache=later), dry_run=True)).keys() == {"refreshed"}

    def test_a_failing_store_is_an_error(self, memcached_server):
        server = memcached_server()
        address = f"memcached://{server.address}"
        with override_settings(CACHES=caches_from(address, "")), pytest.raises(StoreError):
            warm(engine())

    def test_of_several_servers_one_that_is_gone_costs_its_own_templates(self, memcached_server):
        with memcached_server() as first:
            gone = memcached_server()
            address = f"memcached://{first.address},{gone.address}"
            one = engine({f"{number}.html": str(number) for number in range(40)})
            with override_settings(CACHES=caches_from(address, "")):
                report = warm(one)
            keys = [key for key in list(first.keys()) if "note:" not in key]
            stored = len([key for key in keys if "pack." not in key])
        assert 5 < stored < 35
        assert len(report.failed) == 40 - stored
        assert not report.missing
        assert all("refused" in problem.message for problem in report.failed)

    @pytest.mark.parametrize("look", [check, partial(warm, dry_run=True)], ids=["check", "dry"])
    def test_what_lies_on_one_that_is_gone_is_not_called_missing(self, memcached_server, look):
        with memcached_server() as first, memcached_server() as second:
            address = f"memcached://{first.address},{second.address}"
            one = engine({f"{number}.html": str(number) for number in range(40)})
            with override_settings(CACHES=caches_from(address, "")):
                assert warm(one).ok
                assert not look(one).missing
                second.stop()
                with pytest.raises(StoreError, match=second.address):
                    look(one)

    @pytest.mark.parametrize("look", [check, partial(warm, dry_run=True)], ids=["check", "dry"])
    def test_a_release_whose_packs_lie_on_one_that_is_gone_is_not_judged(
        self, memcached_server, look
    ):
        with memcached_server() as first, memcached_server() as second:
            address = f"memcached://{first.address},{second.address}"
            for number in range(100):
                cache = DjangoBytecodeCache(release=str(number))
                one = engine({"a.html": str(number)}, bytecode_cache=cache)
                with override_settings(CACHES=caches_from(address, "")):
                    assert warm(one).ok
                if kinds_on(first) != {"an entry", "index"}:
                    first.flush()
                    second.flush()
                    continue
                second.stop()
                with (
                    override_settings(CACHES=caches_from(address, "")),
                    pytest.raises(StoreError, match=second.address),
                ):
                    look(one)
                return
            pytest.fail("no release has its pack 0 on one server, and all else on the other")

    @pytest.mark.parametrize("look", [check, partial(warm, dry_run=True)], ids=["check", "dry"])
    def test_a_server_that_refuses_statistics_can_be_looked_at(self, memcached, look):
        cache = MemcachedBytecodeCache(WithoutStatistics(memcached.address))
        one = engine({"a.html": "a"}, bytecode_cache=cache)
        assert (look(one).missing or look(one).compiled) == ["a.html"]
        assert warm(one).ok
        assert look(one).present == ["a.html"]


def kinds_on(server: Memcached) -> set[str]:
    """What of a release lies on a server: its entry, its packs by their numbers, its index."""
    keys = [key for key in list(server.keys()) if "note:" not in key]
    return {key.rpartition(".")[2] if "pack." in key else "an entry" for key in keys}


class WithoutStatistics(pymemcache.Client):
    """A client whose server is a proxy that knows no statistics."""

    def stats(self, *_arguments):
        raise MemcacheUnknownCommandError("ERROR")


class TestProblems:
    def test_a_syntax_error_is_located(self, backend):
        report = warm(engine(SOURCES | {"bad.html": "\n{% if %}"}))
        message = "Expected an expression, got 'end of statement block'"
        assert report.failed == [Problem("bad.html", message, None, 2)]
        assert report.compiled == [*SOURCES]
        assert not report.ok

    @pytest.mark.parametrize(
        ("error", "message"),
        [
            (OSError(5, "Input/output error"), "[Errno 5] Input/output error"),
            (ZeroDivisionError(), "ZeroDivisionError"),
            (KeyError("x"), "'x'"),
        ],
    )
    def test_what_a_loader_raises_is_told_and_the_rest_is_warmed(self, backend, error, message):
        loader = ChoiceLoader([Raising("odd.html", error), DictLoader(SOURCES)])
        report = warm(cached_engine(loader))
        assert report.failed == [Problem("odd.html", message)]
        assert report.compiled == [*SOURCES]

    def test_references_that_a_loader_cannot_answer_are_no_complaint(self, backend):
        loader = ChoiceLoader(
            [
                DictLoader({"a.html": "{% include 'odd.html' %}{% include 'gone.html' %}"}),
                Raising("odd.html", OSError(5, "Input/output error")),
                FunctionLoader(lambda name: None),
            ]
        )
        assert [problem.message for problem in warm(cached_engine(loader)).dangling] == [
            "names 'gone.html', which does not exist"
        ]

    def test_references_go_through_the_environments_own_rule(self, backend):
        class Relative(Environment):
            def join_path(self, template, parent):
                return f"{parent.rpartition('/')[0]}/{template}"

        cache = DjangoBytecodeCache()
        sources = {"a/x.html": "{% include 'y.html' %}", "a/y.html": "", "b/x.html": ""}
        environment = Relative(loader=DictLoader(sources), bytecode_cache=cache)
        assert warm(CachedEngine("jinja2", environment, cache)).ok
        sources["b/x.html"] = "{% include 'y.html' %}"
        environment.loader = DictLoader(sources)
        (problem,) = warm(CachedEngine("jinja2", environment, cache)).dangling
        assert problem == Problem("b/x.html", "names 'b/y.html', which does not exist", None, 1)

    def test_what_the_store_drops_is_missing(self):
        cache = {
            "BACKEND": "django.core.cache.backends.locmem.LocMemCache",
            "LOCATION": "dropping",
            "OPTIONS": {"MAX_ENTRIES": 10},
        }
        with override_settings(CACHES={"default": cache}):
            one = engine({f"{number:02}.html": "" for number in range(30)})
            report = warm(one)
            assert 20 <= len(report.missing) < 30
            assert not report.ok
            assert {*check(one).missing} >= {*report.missing}
            caches["default"].clear()


class TestCheck:
    def test_it_tells_what_is_missing_and_changes_nothing(self, backend, raw):
        one = engine()
        assert outcomes(check(one)) == {"missing": ["a.html", "b.html"]}
        assert raw.keys() == []
        warm(one, include=["a*"])
        assert outcomes(check(one)) == {"present": ["a.html"], "missing": ["b.html"]}

    def test_what_does_not_compile_is_a_failure_and_not_only_missing(self, backend):
        report = check(engine({"bad.html": "{% if %}"}))
        assert outcomes(report).keys() == {"failed"}

    def test_what_cannot_be_shared_is_not_missing(self, backend):
        one = engine({"a.html": "{% shout %}"}, extensions=[Shouting])
        one.environment.filters["shout"] = str.upper
        assert outcomes(warm(one)) == {"unshareable": ["a.html"]}
        assert outcomes(check(one)) == {"unshareable": ["a.html"]}
        assert one.environment.get_template("a.html").render() == "HELLO"

    def test_an_entry_of_another_environment_is_none_of_this_one(self, backend):
        warm(engine())
        assert check(engine(autoescape=True)).missing == [*SOURCES]
        assert check(engine(trim_blocks=True)).missing == [*SOURCES]


class Shouting(Extension):
    """Needs what a filter returns while it compiles."""

    tags = {"shout"}  # noqa: RUF012 - as Jinja2 has it

    def parse(self, parser):
        next(parser.stream)
        shout = nodes.Filter(nodes.Const("hello"), "shout", [], [], None, None)
        shout.set_environment(self.environment)
        output = shout.as_const(nodes.EvalContext(self.environment))
        return nodes.Output([nodes.TemplateData(output)])


class Raising(BaseLoader):
    """Lists one template, and raises when asked for it."""

    def __init__(self, name: str, error: Exception):
        self.name = name
        self.error = error

    def list_templates(self):
        return [self.name]

    def get_source(self, environment, template):
        if template == self.name:
            raise self.error
        return super().get_source(environment, template)
