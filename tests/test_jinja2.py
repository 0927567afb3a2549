"""The template backend behaves as Django's own, and so do others that get a cache of ours."""

import logging
from copy import deepcopy
from pathlib import Path

import jinja2
import pytest
from django.core.exceptions import ImproperlyConfigured
from django.template import TemplateDoesNotExist, engines
from django.test import Client, RequestFactory, override_settings
from django.views.debug import ExceptionReporter

from django_jinja_bccache import DjangoBytecodeCache
from django_jinja_bccache.jinja2 import Jinja2
from testproject.pages import PAGES
from tests.engines import started_engines, templates_with

STOCK = "django.template.backends.jinja2.Jinja2"
OURS = "django_jinja_bccache.jinja2.Jinja2"


def with_backend(backend: str, **options):
    """The settings with another backend for the site's pages."""
    templates = templates_with(**options)
    templates[0]["BACKEND"] = backend
    return override_settings(TEMPLATES=templates)


def contents() -> dict[str, bytes]:
    client = Client()
    return {page: client.get(page).content for page in PAGES}


@pytest.fixture(scope="module")
def expected() -> dict[str, bytes]:
    """The pages as Django's own backend renders them, without a bytecode cache."""
    with with_backend(STOCK, bytecode_cache=None):
        return contents()


class TestPages:
    def test_they_are_those_of_djangos_backend_whether_compiled_or_from_the_cache(
        self, backend, expected
    ):
        with started_engines() as cache:
            assert contents() == expected
            compiled = cache.statistics
        with started_engines() as cache:
            assert contents() == expected
            statistics = cache.statistics
        assert compiled.misses == compiled.stores == statistics.hits > 50
        assert statistics.misses == 0

    def test_djangos_own_backend_works_with_an_instance(self, backend, expected):
        for hits in (False, True):
            cache = DjangoBytecodeCache()
            with with_backend(STOCK, bytecode_cache=cache):
                assert contents() == expected
            assert (cache.statistics.hits > 0) == hits
            assert (cache.statistics.misses > 0) != hits

    def test_without_a_cache_it_is_djangos_backend(self, expected):
        with with_backend(OURS, bytecode_cache=None):
            assert engines["jinja2"].env.bytecode_cache is None
            assert contents() == expected

    def test_a_visitor_with_another_language_gets_nothing_of_the_first_ones(self, backend):
        def german() -> list[bytes]:
            client = Client(headers={"accept-language": "de"})
            return [client.get(page).content for page in ("/plants/calendar/", "/help/delivery/")]

        with with_backend(STOCK, bytecode_cache=None):
            expected = german()
        for language in ("en", "de"):
            with started_engines():
                Client(headers={"accept-language": language}).get("/plants/calendar/")
                assert german() == expected


class TestEngine:
    def test_its_name_is_jinja2_unless_told_otherwise(self, backend):
        with override_settings(TEMPLATES=[{"BACKEND": OURS}]):
            assert type(engines["jinja2"]) is Jinja2
            assert engines["jinja2"].name == "jinja2"
        with override_settings(TEMPLATES=[{"BACKEND": OURS, "NAME": "mail"}]):
            assert [engine.name for engine in engines.all()] == ["mail"]

    def test_it_uses_the_alias_default_unless_told_otherwise(self, backend):
        with override_settings(TEMPLATES=[{"BACKEND": OURS}]):
            cache = engines["jinja2"].env.bytecode_cache
            assert type(cache) is DjangoBytecodeCache
            assert cache.alias == "default"

    def test_the_settings_stay_as_they_are(self, backend):
        option = {"class": "django_jinja_bccache.DjangoBytecodeCache", "alias": "default"}
        templates = templates_with(bytecode_cache=option)
        before = deepcopy(templates)
        with override_settings(TEMPLATES=templates):
            engines["jinja2"].get_template("home.html")
        assert templates == before

    def test_an_option_that_cannot_be_used_is_refused_when_the_engine_is_made(self):
        with (
            override_settings(TEMPLATES=[{"BACKEND": OURS, "OPTIONS": {"bytecode_cache": 42}}]),
            pytest.raises(ImproperlyConfigured, match="engine 'jinja2'"),
        ):
            engines.all()

    def test_a_loader_of_the_users_own_is_used(self, backend):
        loader = jinja2.PrefixLoader(
            {"a": jinja2.DictLoader({"x.html": "A"}), "b": jinja2.DictLoader({"x.html": "B"})}
        )
        for hits in (0, 2):
            option = {"loader": loader, "bytecode_cache": "default"}
            with override_settings(TEMPLATES=[{"BACKEND": OURS, "OPTIONS": option}]):
                engine = engines["jinja2"]
                assert [engine.get_template(f"{each}/x.html").render() for each in "ab"] == [*"AB"]
                assert engine.env.bytecode_cache.statistics.hits == hits

    def test_from_string_works_and_is_not_cached(self, backend):
        with started_engines() as cache:
            assert engines["jinja2"].from_string("{{ 1 + 1 }}").render() == "2"
            assert cache.statistics.stores == 0


BROKEN = {
    "syntax.html": "fine\n{% if %}\nfine",
    "includes_syntax.html": "fine\n\n{% include 'syntax.html' %}",
    "runtime.html": "fine\n{% for n in [0] %}\n{{ 1 // n }}\n{% endfor %}",
    "includes_runtime.html": "\n{% include 'runtime.html' %}",
    "includes_missing.html": "\n\n{% include 'missing.html' %}",
    "filter.html": "\n{{ 1|nosuchfilter }}",
}


class TestErrors:
    @pytest.fixture
    def debug_page(self, backend, tmp_path):
        """What Django's debug page says of a template: `debug_page(OURS, "a.html")`."""
        for name, source in BROKEN.items():
            (tmp_path / name).write_text(source)

        def told(engine: str, name: str, **options):
            templates = [{"BACKEND": engine, "DIRS": [tmp_path], "OPTIONS": options}]
            with override_settings(TEMPLATES=templates, DEBUG=True):
                request = RequestFactory().get("/")
                with pytest.raises(Exception) as caught:
                    engines["jinja2"].get_template(name).render({}, request)
                data = ExceptionReporter(
                    request, caught.type, caught.value, caught.tb
                ).get_traceback_data()
            postmortem = data["postmortem"] or []
            return {
                "type": data["exception_type"],
                "value": str(data.get("exception_value")),
                "template": data["template_info"],
                "missing": data["template_does_not_exist"],
                "postmortem": [(item.args, item.backend.name) for item in postmortem],
                "frames": [
                    (path.name, frame["function"], frame["lineno"], frame["context_line"])
                    for frame in data["frames"]
                    if (path := Path(frame["filename"])).parent == tmp_path
                ],
            }

        return told

    @pytest.mark.parametrize("name", [*BROKEN, "missing.html"])
    def test_the_debug_page_is_that_of_djangos_backend(self, debug_page, name):
        expected = debug_page(STOCK, name)
        compiled = debug_page(OURS, name)
        from_cache = debug_page(OURS, name)
        assert compiled == expected
        assert from_cache == expected

    @pytest.mark.parametrize("name", ["runtime.html", "includes_runtime.html"])
    def test_the_debug_page_shows_the_line_of_the_template(self, debug_page, name):
        for _ in ("compiled", "from the cache"):
            file, _, line, text = debug_page(OURS, name)["frames"][-1]
            assert (file, line, text) == ("runtime.html", 3, "{{ 1 // n }}")

    def test_a_missing_template_is_djangos_exception(self, backend):
        with started_engines():
            with pytest.raises(TemplateDoesNotExist, match=r"^no/such$") as caught:
                engines["jinja2"].get_template("no/such")
            assert caught.value.backend is engines["jinja2"]

    def test_a_page_that_is_missing_is_no_news_of_the_cache(self, backend, caplog):
        with started_engines(), caplog.at_level(logging.WARNING):
            assert Client().get("/no/such/page/").status_code == 404
        assert not [item for item in caplog.records if item.name == "django_jinja_bccache"]


class TestDjangoJinja:
    def test_its_dict_of_name_backend_and_enabled_works(self, backend, tmp_path):
        (tmp_path / "page.jinja").write_text("{{ 'hello'|upper }} {{ name }}")
        option = {
            "name": "default",
            "backend": "django_jinja_bccache.DjangoBytecodeCache",
            "enabled": True,
        }
        item = {
            "BACKEND": "django_jinja.jinja2.Jinja2",
            "NAME": "jinja",
            "DIRS": [tmp_path],
            "OPTIONS": {"bytecode_cache": option},
        }
        before = deepcopy(option)
        for hits in (0, 1):
            with override_settings(TEMPLATES=[item]):
                template = engines["jinja"].get_template("page.jinja")
                assert template.render({"name": "<&>"}) == "HELLO &lt;&amp;&gt;"
                cache = engines["jinja"].env.bytecode_cache
                assert type(cache) is DjangoBytecodeCache
                assert (cache.alias, cache.statistics.hits) == ("default", hits)
        assert option == before
