"""Two environments have one fingerprint when, and only when, they make the same bytecode."""

import gc
import json
import weakref
from functools import partial
from typing import Any

import pytest
from jinja2 import DictLoader, Environment, StrictUndefined, Undefined, pass_context
from jinja2.nativetypes import NativeEnvironment
from jinja2.sandbox import SandboxedEnvironment

from django_jinja_bccache.fingerprint import _jinja_version, fingerprint, fingerprint_parts
from tests.packages import write_package
from tests.scripts import ROOT, run_script

EDITS = {
    "a method's body": ("tags.py", "next(parser.stream).lineno", "next(parser.stream).lineno + 0"),
    "an inherited method": ("tags.py", '"inherited"', '"edited"'),
    "a nested function": ("tags.py", '"nested function"', '"edited"'),
    "a decorated method": ("tags.py", 'return "decorated"', 'return "edited"'),
    "a decorator": ("tags.py", ".upper()", ".title()"),
    "a method decorated by a class": ("tags.py", '"decorated by a class"', '"edited"'),
    "a property": ("tags.py", '"property"', '"edited"'),
    "a cached property": ("tags.py", '"cached property"', '"edited"'),
    "a cached property of Django's": ("tags.py", '"Django\'s cached property"', '"edited"'),
    "a static method": ("tags.py", '"static"', '"edited"'),
    "a class method": ("tags.py", '"class"', '"edited"'),
    "a method behind lru_cache": ("tags.py", '"remembered"', '"edited"'),
    "a method that dispatches": ("tags.py", '"dispatched"', '"edited"'),
    "a method that is dispatched to": ("tags.py", '"dispatched int"', '"edited"'),
    "a lambda": ("tags.py", '"from a lambda"', '"edited"'),
    "a value in a closure": ("tags.py", '"closed value"', '"edited"'),
    "an argument of a partial": ("tags.py", '"partial value"', '"edited"'),
    "a default": ("tags.py", 'separator=", "', 'separator=";"'),
    "a keyword's default": ("tags.py", 'last="."', 'last=""'),
    "a class attribute": ("tags.py", '"green"', '"edited"'),
    "an enumeration's member": ("tags.py", "Mode.FAST", "Mode.SLOW"),
    "a table's function": ("tags.py", '"first"\n', '"edited"\n'),
    "a nested class": ("tags.py", '"nested class"', '"edited"'),
    "a class of the module": ("tags.py", '"near"', '"edited"'),
    "bytecode_cache_version": (
        "tags.py",
        "bytecode_cache_version = 1",
        "bytecode_cache_version = 2",
    ),
    "a constant": ("tags.py", "LIMIT = 10", "LIMIT = 11"),
    "a constant's items": ("tags.py", '"ivy"', '"edited"'),
    "a pattern": ("tags.py", '"a+b"', '"a*b"'),
    "a helper of the package": ("words.py", '"!"', '"edited"'),
    "a constant of another module": ("words.py", '"plain"', '"edited"'),
}
HARMLESS = {
    "a comment above": ("tags.py", "import enum", "# A comment\n\nimport enum"),
    "a name in lower case": ("tags.py", "lower_case = 1", "lower_case = 2"),
    "an annotation": ("tags.py", "class Near:", "class Near:\n    attribute: int"),
    "a function that nobody calls": ("words.py", '"nobody calls this"', '"edited"'),
    "a set's order": (
        "tags.py",
        '{"rose", "fern", "moss", "ivy"}',
        '{"ivy", "moss", "fern", "rose"}',
    ),
}


def of_package(module) -> str:
    return fingerprint(Environment(extensions=[module.Garden]))


@pytest.mark.parametrize("edit", EDITS.values(), ids=EDITS.keys())
def test_an_edit_of_an_extension_changes_the_fingerprint(import_package, edit):
    assert of_package(import_package(edit)) != of_package(import_package())


@pytest.mark.parametrize("edit", HARMLESS.values(), ids=HARMLESS.keys())
def test_an_edit_that_changes_nothing_leaves_the_fingerprint(import_package, edit):
    assert of_package(import_package(edit)) == of_package(import_package())


def changed(change: Any = None, base: Any = Environment, **options: Any) -> Environment:
    environment = base(**{"extensions": ["jinja2.ext.i18n"], **options})
    if change:
        change(environment)
    return environment


class Other(Environment):
    pass


OPTIONS = {
    "block_start_string": "<%",
    "block_end_string": "%>",
    "variable_start_string": "${",
    "variable_end_string": "]]",
    "comment_start_string": "<#",
    "comment_end_string": "#>",
    "line_statement_prefix": "%",
    "line_comment_prefix": "##",
    "trim_blocks": True,
    "lstrip_blocks": True,
    "newline_sequence": "\r\n",
    "keep_trailing_newline": True,
    "optimized": False,
    "enable_async": True,
    "undefined": StrictUndefined,
    "finalize": str,
    "extensions": [],
}
CHANGES = {
    **{name: partial(changed, **{name: value}) for name, value in OPTIONS.items()},
    "another class": partial(changed, base=Other),
    "sandboxed": partial(changed, base=SandboxedEnvironment),
    "native": partial(changed, base=NativeEnvironment),
    "a filter": partial(changed, lambda it: it.filters.update(a=str)),
    "a test": partial(changed, lambda it: it.tests.update(a=str)),
    "a filter gone": partial(changed, lambda it: it.filters.pop("upper")),
    "a filter in place of Jinja2's": partial(
        changed, lambda it: it.filters.update(upper=str.upper)
    ),
    "a filter of Jinja2's in another's place": partial(
        changed, lambda it: it.filters.update(upper=it.filters["lower"])
    ),
    "a filter that is None": partial(changed, lambda it: it.filters.update(upper=None)),
    "a policy": partial(changed, lambda it: it.policies.update({"urlize.rel": "nofollow"})),
    "a policy that is a function": partial(
        changed, lambda it: it.policies.update({"json.dumps_function": json.dumps})
    ),
    "newstyle gettext": partial(changed, lambda it: it.install_null_translations(newstyle=True)),
    "an attribute": partial(changed, lambda it: it.extend(panel_level=2)),
    "an extension's attribute": partial(
        changed, lambda it: vars(*it.extensions.values()).update(level=2)
    ),
    "a class of generators": partial(
        changed,
        lambda it: setattr(it, "code_generator_class", NativeEnvironment.code_generator_class),
    ),
}


def test_each_change_of_an_environment_gives_a_fingerprint_of_its_own():
    everyone = {"nothing": changed, **CHANGES}
    names: dict[str, str] = {}
    for name, make in everyone.items():
        assert fingerprint(make()) == fingerprint(make()), name
        assert names.setdefault(fingerprint(make()), name) == name
    assert len(names) == len(everyone)


def test_what_decides_nothing_while_compiling_is_left_out():
    def other_body(environment: Environment) -> None:
        environment.filters["a"] = lambda value: value * 2
        environment.tests["b"] = lambda value: True
        environment.globals["c"] = object()

    def body(environment: Environment) -> None:
        environment.filters["a"] = partial(str.replace, "a")
        environment.tests["b"] = "abc".startswith
        environment.globals["c"] = 1

    one = changed(body, finalize=str, loader=DictLoader({}), cache_size=0, auto_reload=False)
    other = changed(other_body, finalize=repr, autoescape=lambda name: True)
    assert fingerprint(one) == fingerprint(other)


def test_pass_flags_count():
    def plain(*_):
        return ""

    one = changed(lambda it: it.filters.update(a=plain))
    other = changed(lambda it: it.filters.update(a=pass_context(lambda *_: "")))
    assert fingerprint(one) != fingerprint(other)


@pytest.mark.parametrize(
    ("owner", "name", "value"),
    [
        ("importlib.util", "MAGIC_NUMBER", b"3.99"),
        ("sys.implementation", "cache_tag", "cpython-399"),
        ("django_jinja_bccache.fingerprint", "_jinja_version", lambda: "3.99"),
        ("markupsafe.Markup", "striptags", lambda self: "another way"),
    ],
)
def test_what_python_jinja2_and_markupsafe_make_of_a_template_counts(
    monkeypatch, owner, name, value
):
    before = fingerprint(Environment())
    with monkeypatch.context() as patch:
        patch.setattr(f"{owner}.{name}", value)
        later = fingerprint(Environment())
    assert later != before == fingerprint(Environment())


def test_jinja2s_version_is_the_same_however_it_is_told(monkeypatch):
    before = fingerprint(Environment())
    _jinja_version.cache_clear()
    monkeypatch.delattr("jinja2.__version__")
    assert fingerprint(Environment()) == before


def test_pythons_level_of_optimization_counts():
    script = """
        from jinja2 import Environment
        from django_jinja_bccache.fingerprint import fingerprint
        print('["%s"]' % fingerprint(Environment()))
    """
    found = [run_script(script, PYTHONOPTIMIZE=level).result[0] for level in ("0", "1", "2")]
    assert len(set(found)) == 3


def test_salts_keep_apart():
    environment = Environment()
    found = {fingerprint(environment, salt) for salt in ("", "a", "b", "\ud800")}
    assert len(found) == 4
    assert fingerprint(environment, "a") == fingerprint(Environment(), "a")


def test_a_filter_or_an_option_that_comes_later_counts():
    environment = Environment()
    before = fingerprint(environment)
    environment.filters["late"] = str
    later = fingerprint(environment)
    assert later == fingerprint(changed(lambda it: it.filters.update(late=str), extensions=[]))
    assert later != before
    del environment.filters["late"]
    assert fingerprint(environment) == before


def test_an_overlay_has_its_own_and_leaves_its_parents_alone():
    parent = Environment()
    before = fingerprint(parent)
    assert fingerprint(parent.overlay(trim_blocks=True)) == fingerprint(
        Environment(trim_blocks=True)
    )
    assert fingerprint(parent.overlay()) == before == fingerprint(parent)


@pytest.mark.parametrize("extensions", [[], ["jinja2.ext.i18n"]])
def test_an_environment_is_freed_when_nobody_uses_it(extensions):
    environment = Environment(extensions=extensions, loader=DictLoader({"a": "a"}))
    environment.get_template("a")
    environment.filters["own"] = environment.get_template
    fingerprint(environment)
    overlay = environment.overlay()
    fingerprint(overlay)
    references = [weakref.ref(environment), weakref.ref(overlay)]
    del environment, overlay
    gc.collect()
    assert [reference() for reference in references] == [None, None]


def test_the_parts_are_json_and_tell_nothing_of_this_process():
    environment = changed(lambda it: it.extend(a={1, 2}, b=b"\xff", c="\ud800", d=object()))
    environment.undefined = type("Own", (Undefined,), {"table": {"x": object()}})
    text = json.dumps(fingerprint_parts(environment))
    assert "0x" not in text
    assert str(ROOT) not in text


SCRIPT = """
    import sys
    from functools import partial

    import django
    from django.conf import settings
    settings.configure(SECRET_KEY="s", TEMPLATES=[{
        "BACKEND": "django_jinja.backend.Jinja2", "APP_DIRS": True,
    }], INSTALLED_APPS=["django_jinja"])
    django.setup()

    from django.template import engines
    from jinja2 import Environment, pass_context
    from django_jinja_bccache.fingerprint import fingerprint
    sys.path.insert(0, sys.argv[1])
    from garden.tags import Garden, Near

    class Callable:
        def __call__(self, value):
            return value

    def decorate(function):
        marker = object()
        return pass_context(lambda *arguments: (function(*arguments), marker))

    environment = Environment(extensions=[Garden, "jinja2.ext.i18n"], finalize=Callable())
    environment.filters |= {
        "lambda": lambda value: value, "partial": partial(int, base=2), "object": Callable(),
        "method": Callable().__call__, "decorated": decorate(lambda *_: object()), "type": Near,
    }
    environment.tests |= environment.filters
    environment.extend(numbers={"c", "b", "a"}, near=Near(), ordered={"z": {"y", "x"}})
    print('["%s", "%s"]' % (fingerprint(environment), fingerprint(next(iter(engines.all())).env)))
"""


def test_every_process_and_every_checkout_has_the_same_fingerprints(tmp_path):
    # Jinja2's i18n extension iterates a set while compiling, so the bytecode itself may differ.
    found = set()
    for checkout, seed in (("one", "0"), ("one", "1"), ("other", "random"), ("other", "random")):
        directory = write_package(tmp_path / checkout)

        result = run_script(SCRIPT, directory, PYTHONHASHSEED=seed).result
        found.add(tuple(result))
    assert len(found) == 1
    assert len(set(*found)) == 2
