"""From the settings' engines to the sources of their templates."""

import jinja2
import pytest
from django.test import override_settings
from jinja2 import (
    BaseLoader,
    ChoiceLoader,
    DictLoader,
    Environment,
    FileSystemLoader,
    FunctionLoader,
    ModuleLoader,
    PrefixLoader,
    TemplateNotFound,
)

from django_jinja_bccache import DjangoBytecodeCache
from django_jinja_bccache.discovery import (
    Source,
    cached_engines,
    exists,
    list_templates,
    read_source,
)
from django_jinja_bccache.exceptions import UnknownEngine
from tests.raw import raw_store
from tests.sites import BACKEND, cached_engine

STOCK = "django.template.backends.jinja2.Jinja2"
DJANGOS = {"BACKEND": "django.template.backends.django.DjangoTemplates", "NAME": "django"}


def engine(name: str, backend: str = BACKEND, **options) -> dict:
    return {"BACKEND": backend, "NAME": name, "OPTIONS": options}


class OddLoader(BaseLoader):
    """Raises what a test wants."""

    def __init__(self, error: Exception):
        self.error = error

    def get_source(self, environment, template):
        raise self.error

    def list_templates(self):
        raise self.error


class OwnWayLoader(BaseLoader):
    """Overrides ``load``, as loaders that wrap others do."""

    def __init__(self, loader: BaseLoader):
        self.loader = loader

    def load(self, environment, name, globals=None):  # noqa: A002 - Jinja2's name
        return self.loader.load(environment, f"own/{name}", globals)


class TestCachedEngines:
    def test_they_are_those_with_a_cache_of_this_package(self):
        jinjas = jinja2.FileSystemBytecodeCache("never made")
        templates = [
            engine("ours"),
            engine("without", bytecode_cache=None),
            engine("stock", STOCK, bytecode_cache=DjangoBytecodeCache()),
            engine("stock without", STOCK),
            engine("stock with Jinja2's", STOCK, bytecode_cache=jinjas),
            DJANGOS,
        ]
        with override_settings(TEMPLATES=templates):
            assert [each.name for each in cached_engines()] == ["ours", "stock"]
            assert [each.name for each in cached_engines(["stock"])] == ["stock"]

    def test_an_unknown_name_is_an_error_that_lists_the_known_ones(self):
        templates = [engine("one"), engine("two"), DJANGOS]
        with override_settings(TEMPLATES=templates), pytest.raises(UnknownEngine) as raised:
            cached_engines(["one", "django", "x"])
        assert str(raised.value) == (
            "No engine 'django', 'x' uses a bytecode cache; there are: 'one', 'two'."
        )
        assert raised.value.known == ("one", "two")

    def test_the_cache_is_the_environments(self):
        with override_settings(TEMPLATES=[engine("one")]):
            (one,) = cached_engines()
        assert one.cache is one.environment.bytecode_cache

    def test_the_entry_key_is_that_of_the_page(self, backend):
        one = cached_engine(PrefixLoader({"a": DictLoader({"i.html": "i"})}), autoescape=True)
        keys = []
        one.cache.listeners.append(lambda event: keys.append(event.key))
        one.environment.get_template("a/i.html")
        source = read_source(one.environment, "a/i.html")
        assert {one.entry_key(source)} == {*keys}


class TestListTemplates:
    def test_names_are_sorted_and_chosen_by_patterns(self):
        environment = Environment(loader=DictLoader(dict.fromkeys(["b", "a/y", "a/x", "B"], "")))
        assert list_templates(environment).names == ("B", "a/x", "a/y", "b")
        assert list_templates(environment, include=["a/*", "b"]).names == ("a/x", "a/y", "b")
        assert list_templates(environment, exclude=["*x", "B"]).names == ("a/y", "b")
        assert list_templates(environment, include=["a/*"], exclude=["*y"]).names == ("a/x",)

    @pytest.mark.parametrize(
        "name",
        [
            *(".hidden", "a/.hidden.html", "x.html~", "#x.html#", "x.html.bak", "x.orig", "x.rej"),
            *(".x.html.swp", "x.swo", ".git/x.html", "a/.hg/x.html", ".svn/a/x.html"),
        ],
    )
    def test_hidden_files_and_backups_are_passed_over(self, name):
        listing = list_templates(Environment(loader=DictLoader({name: "", "x.html": ""})))
        assert (listing.names, listing.passed_over) == (("x.html",), (name,))

    @pytest.mark.parametrize("name", [".icons/x.svg", ".well-known/a.txt", "a~/x", "x.bak/y", "x"])
    def test_templates_below_an_odd_folder_are_not(self, name):
        listing = list_templates(Environment(loader=DictLoader({name: ""})))
        assert (listing.names, listing.passed_over) == ((name,), ())

    def test_nested_loaders_are_listed_and_those_that_cannot_list_are_named(self, tmp_path):
        loader = ChoiceLoader(
            [
                FunctionLoader(lambda name: None),
                PrefixLoader(
                    {
                        "a": ChoiceLoader([DictLoader({"x": ""}), ModuleLoader(tmp_path)]),
                        "b": PrefixLoader({"c": DictLoader({"y": ""})}),
                    },
                    delimiter=":",
                ),
                OddLoader(NotImplementedError()),
                DictLoader({"a:x": "", "z": ""}),
            ]
        )
        listing = list_templates(Environment(loader=loader))
        assert listing.names == ("a:x", "b:c/y", "z")
        assert listing.unlistable == ("FunctionLoader", "ModuleLoader", "OddLoader")

    def test_no_loader_has_no_templates(self):
        listing = list_templates(Environment())
        assert (listing.names, listing.passed_over, listing.unlistable) == ((), (), ())


class TestReadSource:
    def test_it_is_what_the_loader_hands_to_a_bytecode_cache(self, tmp_path):
        (tmp_path / "x.html").write_text("one\r\ntwo\n")
        environment = Environment(loader=PrefixLoader({"p": FileSystemLoader(tmp_path)}))
        asked = []

        class Spy(jinja2.BytecodeCache):
            def get_bucket(self, environment, name, filename, source):
                asked.append((name, filename, source))
                return super().get_bucket(environment, name, filename, source)

            def load_bytecode(self, bucket): ...
            def dump_bytecode(self, bucket): ...

        environment.bytecode_cache = Spy()
        environment.get_template("p/x.html")
        assert read_source(environment, "p/x.html") == Source("p/x.html", *asked[0])
        # Jinja2 3.1.0 keeps the line ends of a file.
        text, path, _ = FileSystemLoader(tmp_path).get_source(environment, "x.html")
        assert asked == [("x.html", path, text)]
        assert text.splitlines() == ["one", "two"]

    def test_it_neither_fills_nor_reads_what_jinja2_keeps_in_the_process(self):
        templates = {"x": "old"}
        environment = Environment(loader=DictLoader(templates), auto_reload=False)
        assert read_source(environment, "x").text == "old"
        assert len(environment.cache) == 0
        environment.get_template("x")
        templates["x"] = "new"
        assert read_source(environment, "x").text == "new"
        assert environment.get_template("x").render() == "old"

    def test_it_writes_nothing_and_leaves_the_environment_as_it_was(self, backend, request):
        one = cached_engine(DictLoader({"x": "x"}))
        read_source(one.environment, "x")
        assert raw_store(backend, request).keys() == []
        counts = one.cache.statistics
        assert (counts.hits, counts.misses, counts.stores, counts.errors) == (0, 0, 0, 0)
        assert one.environment.bytecode_cache is one.cache

    def test_it_does_not_compile(self):
        assert read_source(Environment(loader=DictLoader({"x": "{% if"})), "x").text == "{% if"

    def test_a_loader_with_a_way_of_its_own_is_asked_in_its_way(self):
        environment = Environment(loader=OwnWayLoader(DictLoader({"own/x": "text"})))
        assert read_source(environment, "x") == Source("x", "own/x", None, "text")

    def test_a_module_has_no_source(self, tmp_path):
        Environment(loader=DictLoader({"x": "x"})).compile_templates(tmp_path, zip=None)
        assert read_source(Environment(loader=ModuleLoader(tmp_path)), "x") is None

    @pytest.mark.parametrize("loader", [None, DictLoader({})])
    def test_what_is_not_there_is_not_found(self, loader):
        with pytest.raises(TemplateNotFound):
            read_source(Environment(loader=loader), "x")

    def test_what_is_not_text_cannot_be_read(self, tmp_path):
        (tmp_path / "img.png").write_bytes(b"\x89PNG")
        with pytest.raises(UnicodeDecodeError):
            read_source(Environment(loader=FileSystemLoader(tmp_path)), "img.png")

    def test_what_a_loader_raises_is_left_as_it_is(self):
        error = ZeroDivisionError("odd")
        with pytest.raises(ZeroDivisionError) as raised:
            read_source(Environment(loader=OddLoader(error)), "x")
        assert raised.value is error


class TestExists:
    @pytest.mark.parametrize(
        ("loader", "expected"),
        [
            (DictLoader({"x": "{% broken"}), True),
            (DictLoader({}), False),
            (FunctionLoader(lambda name: "text" if name == "x" else None), True),
            (FunctionLoader(lambda name: None), False),
            (ChoiceLoader([DictLoader({}), DictLoader({"x": ""})]), True),
            (PrefixLoader({"x": DictLoader({})}), False),
            (OddLoader(PermissionError("not for you")), True),
            (None, False),
        ],
    )
    def test_it_tells_whether_a_page_would_find_the_template(self, loader, expected):
        assert exists(Environment(loader=loader), "x") is expected

    def test_a_module_is_there(self, tmp_path):
        Environment(loader=DictLoader({"x": "x"})).compile_templates(tmp_path, zip=None)
        environment = Environment(loader=ModuleLoader(tmp_path))
        assert (exists(environment, "x"), exists(environment, "y")) == (True, False)
