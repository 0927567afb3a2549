"""What environments, loaders and names may be like without costing or spoiling a page."""

import gc
import os
import signal
from functools import partial
from pathlib import Path
from textwrap import dedent

import jinja2
import pytest
from django.test import override_settings
from django.utils.safestring import mark_safe
from jinja2 import DictLoader, Environment, FunctionLoader, PrefixLoader, pass_context
from jinja2.ext import Extension
from markupsafe import Markup

from django_jinja_bccache import DjangoBytecodeCache, FileSystemBytecodeCache
from django_jinja_bccache.entry import SigningKey
from django_jinja_bccache.exceptions import ConfigurationError
from django_jinja_bccache.loader import ReleaseLoader
from django_jinja_bccache.pack_reader import PackReader
from django_jinja_bccache.published import engine_name, engine_names
from django_jinja_bccache.statistics import Recorder
from django_jinja_bccache.warming import warm
from testproject.caches import memcached_cache
from tests.scripts import run_script
from tests.sites import cached_engine

SOURCE = "<p>{{ name }}</p>"


class Shouting(Extension):
    """Adds a filter while it parses, and not before."""

    tags = frozenset({"shout"})

    def parse(self, parser):
        parser.environment.filters["shouted"] = str.upper
        lineno = next(parser.stream).lineno
        called = jinja2.nodes.Filter(
            jinja2.nodes.Name("name", "load"), "shouted", [], [], None, None
        )
        return jinja2.nodes.Output([called]).set_lineno(lineno)


@pytest.fixture
def cache(tmp_path):
    return FileSystemBytecodeCache(tmp_path / "cache", key="k")


@pytest.mark.parametrize(
    "loader",
    [DictLoader({"a.html": SOURCE}), PrefixLoader({"a": DictLoader({"b.html": SOURCE})})],
    ids=["plain", "prefix"],
)
def test_a_release_is_not_served_where_its_templates_would_escape_otherwise(backend, loader):
    [name] = loader.list_templates()

    def engine(autoescape):
        made = cached_engine(
            loader,
            bytecode_cache=DjangoBytecodeCache(release="1"),
            autoescape=autoescape,
            auto_reload=False,
        )
        engine_names[made.environment] = "jinja2"
        return made

    def rendered(autoescape):
        made = engine(autoescape)
        made.environment.loader = ReleaseLoader(loader, made.cache)
        page = made.environment.get_template(name).render(name="<b>")
        return page, made.cache.statistics.hits

    assert warm(engine(autoescape=False)).packs == 1
    assert rendered(autoescape=False) == ("<p><b></p>", 1)
    assert rendered(autoescape=True) == ("<p>&lt;b&gt;</p>", 0)
    assert rendered(autoescape=lambda name: name is None) == ("<p><b></p>", 1)


@pytest.mark.parametrize("kind", [Markup, mark_safe])
def test_a_name_may_be_markup(cache, kind):
    for _ in range(2):
        environment = Environment(loader=DictLoader({"a.html": SOURCE}), bytecode_cache=cache)
        assert environment.get_template(kind("a.html")).render(name="1") == "<p>1</p>"
    assert (cache.statistics.stores, cache.statistics.hits) == (1, 1)


def test_a_loader_may_tell_a_path(cache):
    for _ in range(2):
        loader = FunctionLoader(lambda name: (SOURCE, Path("/srv") / name, None))
        environment = Environment(loader=loader, bytecode_cache=cache)
        template = environment.get_template("a.html")
        assert template.render(name="1") == "<p>1</p>"
        assert template.root_render_func.__code__.co_filename in ("/srv/a.html", "a.html")
    assert cache.statistics.hits == 1


def test_code_of_a_method_that_was_replaced_stays_in_its_process(cache):
    def environment(word):
        made = Environment(loader=DictLoader({"a.html": "{{ 'x'|said }}"}), bytecode_cache=cache)
        made.filters["said"] = lambda _value: word
        compile_ = made.compile
        made.compile = lambda *arguments: compile_(*arguments)
        return made

    assert environment("yes").get_template("a.html").render() == "yes"
    assert environment("oui").get_template("a.html").render() == "oui"
    assert cache.statistics.stores == 0


def test_a_filter_that_comes_while_a_template_is_parsed_is_there_when_it_renders(cache):
    environment = Environment(
        loader=DictLoader({"a.html": "{% shout %}"}), bytecode_cache=cache, extensions=[Shouting]
    )
    assert environment.get_template("a.html").render(name="hi") == "HI"


def test_code_with_another_filter_than_its_key_tells_of_is_not_stored(cache):
    environment = Environment(
        loader=DictLoader({"a.html": "{{ name|said }}"}), bytecode_cache=cache
    )
    environment.filters["said"] = str

    @pass_context
    def said(context, value):
        return f"{value}!"

    # The store has been asked, and nothing is compiled yet.
    cache.listeners.append(lambda event: environment.filters.update(said=said))
    assert environment.get_template("a.html").render(name="1") == "1!"
    assert cache.statistics.stores == 0


@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
def test_a_child_waits_for_no_lock_of_its_parents_threads():
    recorder = Recorder()
    with recorder._lock:
        child = os.fork()
        if not child:
            signal.alarm(10)
            recorder.record("hit", "a.html", "key")
            os._exit(0)
    assert os.waitpid(child, 0)[1] == 0


def test_the_name_of_an_environment_without_a_backend_is_the_same_in_every_process():
    def made():
        return Environment(loader=DictLoader({}), autoescape=partial(str.startswith, "a"))

    assert engine_name(made()) == engine_name(made())


def test_a_wrapper_in_the_place_of_a_builtin_filter_is_none(tmp_path):
    program = """
        import functools, json, sys
        import jinja2.filters
        original = jinja2.filters.FILTERS["upper"]
        word = sys.argv[1]
        jinja2.filters.FILTERS["upper"] = functools.wraps(original)(lambda value: word)
        from django_jinja_bccache import FileSystemBytecodeCache
        from jinja2 import DictLoader, Environment
        cache = FileSystemBytecodeCache(sys.argv[2], key="k")
        loader = DictLoader({"a.html": "{{ 'x'|upper }}"})
        environment = Environment(loader=loader, bytecode_cache=cache)
        page = environment.get_template("a.html").render()
        print(json.dumps([page, cache.statistics.hits]))
    """
    directory = str(tmp_path / "cache")
    assert run_script(dedent(program), "yes", directory).result == ["yes", 0]
    assert run_script(dedent(program), "oui", directory).result == ["oui", 1]


def test_a_secret_need_not_be_utf_8():
    assert SigningKey("secret\udcff").id != SigningKey("secret").id


@pytest.mark.parametrize("option", ["timeout", "deadline", "cooldown"])
def test_no_clock_counts_for_ever(option):
    with pytest.raises(ConfigurationError, match=f"^{option}: 1e[+]300 is not accepted"):
        DjangoBytecodeCache(**{option: 1e300})


def test_nothing_is_asked_for_nothing():
    with override_settings(CACHES={"default": memcached_cache(["127.0.0.1:9"])}):
        cache = DjangoBytecodeCache(key="k")
        assert cache.storage.fetch_many([], lambda store, keys: store.get_many(keys)) == {}
        assert cache.statistics.errors == 0


def test_an_environment_that_changes_with_every_page_does_not_fill_the_memory(tmp_path):
    cache = FileSystemBytecodeCache(tmp_path, key="k")
    environment = Environment(loader=DictLoader({"a": SOURCE}), bytecode_cache=cache)
    for number in range(300):
        environment.line_statement_prefix = f"#{number}"
        environment.cache.clear()
        assert environment.get_template("a").render(name="x") == "<p>x</p>"
    readers = [item for item in gc.get_objects() if type(item) is PackReader]
    assert sum(reader._storage is cache.storage for reader in readers) < 100
