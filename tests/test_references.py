"""Compiling a template tells which other templates it names."""

import pytest
from jinja2 import DictLoader, Environment

from django_jinja_bccache import FileSystemBytecodeCache
from django_jinja_bccache.archive import Archive
from django_jinja_bccache.compiling import Reference, compile_template

CASES = {
    "extends": ("a\n{% extends 'base' %}", [("base", 2)]),
    "include": ("{% include 'part' %}", [("part", 1)]),
    "import": ("{% import 'macros' as m %}", [("macros", 1)]),
    "from import": ("{% from 'macros' import a, b with context %}", [("macros", 1)]),
    "in a child": (
        "{% extends 'a' %}\n{% import 'b' as b %}{% block c %}\n{% include 'c' %}{% endblock %}",
        [("a", 1), ("b", 2), ("c", 3)],
    ),
    "in a loop": (
        "{% for i in x %}{% include 'a' %}{% else %}{% include 'b' %}{% endfor %}",
        [("a", 1), ("b", 1)],
    ),
    "in a branch": (
        "{% if false %}{% include 'a' %}{% else %}{% include 'b' %}{% endif %}",
        [("a", 1), ("b", 1)],
    ),
    "in a macro": ("{% macro m() %}{% include 'a' %}{% endmacro %}", [("a", 1)]),
    "in a call": ("{% call m() %}{% include 'a' %}{% endcall %}", [("a", 1)]),
    "in a set block": ("{% set x %}{% include 'a' %}{% endset %}", [("a", 1)]),
    "twice": ("{% include 'a' %}\n{% include 'a' %}", [("a", 1), ("a", 2)]),
    "expressions": ("{% include name %}{% extends layout or 'base' %}{% import m.n as o %}", []),
    "more of them": ("{% include 'a' if b else 'c' %}{% include 'x'|static %}", []),
    "numbers": ("{% include 1 %}{% include none %}", []),
    "nothing": (
        "{{ 'include' }}{# {% include 'a' %} #}{% raw %}{% include 'b' %}{% endraw %}",
        [],
    ),
}


def references(source: str, **options) -> list[Reference]:
    environment = Environment(**options)
    environment.filters["static"] = lambda value: value
    compiled = compile_template(environment, source, "page", None)
    assert compiled.shareable
    return list(compiled.references)


@pytest.mark.parametrize(("source", "expected"), CASES.values(), ids=CASES.keys())
def test_a_name_that_is_a_constant_is_a_reference(source, expected):
    assert references(source) == [Reference((name,), line, False) for name, line in expected]


@pytest.mark.parametrize("optimized", [True, False])
@pytest.mark.parametrize("names", ["['a', 'b']", "('a', 'b')"])
def test_a_list_is_one_reference_with_alternatives(names, optimized):
    expected = [Reference(("a", "b"), 1, False)]
    assert references(f"{{% include {names} %}}", optimized=optimized) == expected


@pytest.mark.parametrize("names", [["a", "name"], ["name"]])
def test_a_list_of_which_one_is_dynamic_is_none(names):
    listed = ", ".join("name" if name == "name" else f"'{name}'" for name in names)
    assert references(f"{{% include [{listed}] %}}") == []


def test_ignore_missing_makes_a_reference_optional():
    source = "{% include 'a' ignore missing %}{% include ['b', 'c'] ignore missing %}"
    expected = [Reference(("a",), 1, True), Reference(("b", "c"), 1, True)]
    assert references(source) == expected


def test_references_are_those_of_one_template_however_many_were_compiled():
    environment = Environment()
    for name in "abc":
        compiled = compile_template(environment, f"{{% include '{name}' %}}", "page", None)
        assert compiled.references == (Reference((name,), 1, False),)


def test_a_stored_entry_keeps_its_references_for_those_who_list(tmp_path):
    cache = FileSystemBytecodeCache(tmp_path, key="secret")
    sources = {"page": "{% extends 'base' %}\n{% include ['a', 'b'] ignore missing %}"}
    Environment(loader=DictLoader(sources), bytecode_cache=cache).get_template("page")
    with Archive(cache.storage) as archive:
        keys = [archive.entry_key(item.key) for item in archive.items()]
        [held] = archive.read(keys).values()
    assert held.label.references == (
        Reference(("base",), 1, False),
        Reference(("a", "b"), 2, True),
    )
