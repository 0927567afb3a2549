"""Whatever loader finds a template: it is stored once and never mistaken for another one."""

import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from jinja2 import (
    BaseLoader,
    ChoiceLoader,
    DictLoader,
    Environment,
    FileSystemLoader,
    FunctionLoader,
    ModuleLoader,
    PackageLoader,
    PrefixLoader,
)

from django_jinja_bccache import DjangoBytecodeCache

#: Makes a loader of files below a directory.
Make = Callable[[Path], BaseLoader]


def written(directory: Path, sources: Mapping[str, str]) -> Path:
    for name, source in sources.items():
        file = directory / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(source)
    return directory


def in_package(directory: Path) -> PackageLoader:
    written(directory, {"orchard/__init__.py": "", "orchard/pages/x.html": "package x"})
    sys.path.insert(0, str(directory))
    try:
        return PackageLoader("orchard", "pages")
    finally:
        sys.path.remove(str(directory))
        del sys.modules["orchard"]


def in_files(directory: Path) -> FileSystemLoader:
    first = written(directory / "first", {"x.html": "first x", "both.html": "first both"})
    second = written(directory / "second", {"y.html": "second y", "both.html": "second both"})
    return FileSystemLoader([first, second])


def by_function(result: Callable[[str], Any]) -> FunctionLoader:
    sources = {"x.html": "function x", "deep/y.html": "function y"}
    return FunctionLoader(lambda name: result(sources[name]) if name in sources else None)


def prefixed() -> PrefixLoader:
    # Jinja2's own key is that of the name behind the prefix: each overwrites the other's entry.
    inner = {"a": DictLoader({"i.html": "a's i"}), "b": DictLoader({"i.html": "b's i"})}
    return PrefixLoader(inner)


LOADERS: dict[str, tuple[Make, dict[str, str]]] = {
    "DictLoader": (
        lambda _: DictLoader({"x.html": "dict x", "y.html": "dict y"}),
        {"x.html": "dict x", "y.html": "dict y"},
    ),
    "FunctionLoader, sources": (
        lambda _: by_function(lambda source: source),
        {"x.html": "function x", "deep/y.html": "function y"},
    ),
    "FunctionLoader, triples": (
        lambda _: by_function(lambda source: (source, None, lambda: True)),
        {"x.html": "function x", "deep/y.html": "function y"},
    ),
    "FileSystemLoader": (
        in_files,
        {"x.html": "first x", "y.html": "second y", "both.html": "first both"},
    ),
    "PackageLoader": (in_package, {"x.html": "package x"}),
    "PrefixLoader": (lambda _: prefixed(), {"a/i.html": "a's i", "b/i.html": "b's i"}),
    "PrefixLoader in a PrefixLoader": (
        lambda _: PrefixLoader({"p": prefixed(), "q": DictLoader({"i.html": "q's i"})}),
        {"p/a/i.html": "a's i", "p/b/i.html": "b's i", "q/i.html": "q's i"},
    ),
    "ChoiceLoader": (
        lambda directory: ChoiceLoader(
            [DictLoader({"x.html": "chosen x"}), in_files(directory), prefixed()]
        ),
        {"x.html": "chosen x", "y.html": "second y", "a/i.html": "a's i"},
    ),
}


def rendered(loader: BaseLoader, *names: str, **options: Any) -> tuple[dict[str, str], str]:
    """What a new process renders, and what its cache counted."""
    cache = DjangoBytecodeCache(deadline=10)
    environment = Environment(loader=loader, bytecode_cache=cache, **options)
    texts = {name: environment.get_template(name).render(x="<") for name in names}
    counted = cache.statistics
    return texts, f"{counted.hits} hits, {counted.stores} stores"


@pytest.mark.parametrize(("make", "expected"), LOADERS.values(), ids=LOADERS.keys())
def test_every_template_is_stored_once_and_then_found(backend, tmp_path, make, expected):
    count = len(expected)
    assert rendered(make(tmp_path), *expected) == (expected, f"0 hits, {count} stores")
    for _ in range(2):
        assert rendered(make(tmp_path), *expected) == (expected, f"{count} hits, 0 stores")


def test_a_module_loader_needs_no_cache(backend, tmp_path):
    sources = DictLoader({"x.html": "module x"})
    Environment(loader=sources).compile_templates(tmp_path, zip=None)
    loader = ChoiceLoader([ModuleLoader(tmp_path), DictLoader({"y.html": "dict y"})])
    expected = {"x.html": "module x", "y.html": "dict y"}
    assert rendered(loader, *expected) == (expected, "0 hits, 1 stores")
    assert rendered(loader, *expected) == (expected, "1 hits, 0 stores")


def test_a_template_that_another_one_hides_is_not_mistaken_for_it(backend):
    def loader(**first: str) -> ChoiceLoader:
        return ChoiceLoader([DictLoader(first), DictLoader({"page": "below"})])

    assert rendered(loader(page="above"), "page")[0] == {"page": "above"}
    assert rendered(loader(), "page") == ({"page": "below"}, "0 hits, 1 stores")
    assert rendered(loader(page="above"), "page") == ({"page": "above"}, "1 hits, 0 stores")


def test_one_source_under_two_names_is_two_templates(backend):
    source = "{{ x }}{{ self }}"
    sources = {"a.html": source, "a.txt": source}
    expected = {
        "a.html": "&lt;&lt;TemplateReference &#39;a.html&#39;&gt;",
        "a.txt": "<<TemplateReference 'a.txt'>",
    }
    for counted in ("0 hits, 2 stores", "2 hits, 0 stores"):
        found = rendered(
            DictLoader(sources), *sources, autoescape=lambda name: name.endswith(".html")
        )
        assert found == (expected, counted)


NO_FILE_NAME = re.compile("[\0\ud800-\udfff]")
ODD = {
    "an empty template": {"page": ""},
    "an empty name": {"": "{{ x }}"},
    "a lone surrogate in the source": {"page": "\ud800{{ '\udcff' }}{{ x }}"},
    "lone surrogates in names": dict.fromkeys(["\udcff", "\ud800", "\ufffd", "?"], "{{ self }}"),
    "names that no store takes": {
        "a b\n\0\r\nset x 0 0 1": "{{ x }}",
        "é" * 300: "a",
        "../x": "b",
    },
    "names that look alike": {"a/b": "1", "a\\b": "2", "a//b": "3", "A/b": "4", "a/b ": "5"},
    "a name of 100,000 characters": {"n" * 100_000: "{{ x }}"},
    "two megabytes of text": {"page": "{{ x }}" + "some text " * 200_000},
    "two thousand expressions": {"page": "".join(f"{{{{ x }}}}{n}" for n in range(2_000))},
    "three thousand references": {
        "page": "{% if false %}"
        + "".join(f"{{% include 'a/rather/long/name/{n}.html' %}}" for n in range(3_000))
        + "{% endif %}"
    },
}


@pytest.mark.parametrize(
    "sources",
    [
        pytest.param(
            sources,
            id=what,
            marks=[pytest.mark.untraceable] if NO_FILE_NAME.search("".join(sources)) else [],
        )
        for what, sources in ODD.items()
    ],
)
def test_odd_names_and_sources_are_cached_like_others(backend, sources):
    plain = Environment(loader=DictLoader(sources))
    expected = {name: plain.get_template(name).render(x="<") for name in sources}
    count = len(sources)
    assert rendered(DictLoader(sources), *sources) == (expected, f"0 hits, {count} stores")
    assert rendered(DictLoader(sources), *sources) == (expected, f"{count} hits, 0 stores")
