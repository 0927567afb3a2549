"""What describes code and data is the same everywhere, and never fails or wakes anything up."""

import json
import re
from collections import OrderedDict, namedtuple
from enum import Enum
from functools import partial
from types import MethodType, ModuleType

import pytest
from django.utils.functional import SimpleLazyObject
from django.utils.translation import gettext_lazy
from markupsafe import Markup

from django_jinja_bccache.describing import describe, is_plain, plain, plain_attributes

Point = namedtuple("Point", "x y")


class Colour(Enum):
    RED = "red"


class Unhelpful:
    """Fails whatever it is asked."""

    def __getattribute__(self, name):
        raise RuntimeError(name)

    def __eq__(self, other):
        raise RuntimeError("==")

    __hash__ = None


def nested(depth: int) -> list:
    return [nested(depth - 1)] if depth else []


def circle() -> list:
    items: list = [{}]
    items[0]["items"] = items
    return items


def never() -> None:
    raise RuntimeError("a lazy object was evaluated")


DATA = [
    *(
        None,
        True,
        0,
        1.5,
        1j,
        "",
        "a",
        "\ud800",
        b"\xff",
        float("nan"),
        Markup("<b>"),
        Point(1, 2),
    ),
    *([], [1, [2]], (1,), {"a": {"b": 1}}, {1, 2}, frozenset({"a"}), OrderedDict(a=1)),
]
NOT_DATA = [
    *(object(), len, lambda: 1, [object()], {"a": len}, {len: 1}, {(1, len)}, re.compile("a")),
    *(Colour.RED, Unhelpful(), SimpleLazyObject(never), nested(20), circle()),
]


@pytest.mark.parametrize("value", DATA, ids=repr)
def test_data_is_plain(value):
    assert is_plain(value)
    assert plain_attributes({"name": value}) == {"name": plain(value)}


# By number, since pytest asks a parameter too much.
@pytest.mark.parametrize("number", range(len(NOT_DATA)))
def test_what_holds_anything_else_is_not_plain(number):
    assert not is_plain(NOT_DATA[number])
    assert plain_attributes({"name": NOT_DATA[number]}) == {}


def test_each_value_has_a_description_of_its_own():
    values = [
        *DATA,
        "1",
        1,
        2,
        1.0,
        False,
        "None",
        "true",
        ("a",),
        ["a"],
        {"a"},
        b"a",
        "<b>",
        "b'a'",
    ]
    texts = [json.dumps(plain(value)) for value in values]
    assert len(set(texts)) == len(values)


@pytest.mark.parametrize("number", range(len(DATA) + len(NOT_DATA)))
def test_anything_can_be_described_without_its_address(number):
    value = [*DATA, *NOT_DATA][number]
    for described in (plain(value), describe(value), describe(type("Own", (), {"it": value}))):
        assert not re.search(r"\b0x[0-9a-f]{6}", json.dumps(described))


def in_module(source: str, name: str = "shop.tags") -> ModuleType:
    module = ModuleType(name)
    exec(source, vars(module))
    return module


def test_a_function_has_no_path_and_no_line_numbers():
    source = "def f(x):\n    return [y + 1 for y in x]\n"
    codes = (compile("\n" * n + source, f"/srv/{n}/shop/tags.py", "exec") for n in range(2))
    modules = [in_module(code) for code in codes]
    assert describe(modules[0].f) == describe(modules[1].f)


def test_a_function_that_was_called_ten_thousand_times_is_described_as_before():
    module = in_module(
        "def f(x):\n"
        "    total = 0\n"
        "    for i in range(x):\n"
        "        total += i * 1.5\n"
        "    return total"
    )
    before = describe(module.f)
    for _ in range(10_000):
        module.f(3)
    assert describe(module.f) == before


def test_a_chain_of_functions_is_described_to_its_end():
    source = "\n".join(f"def f{n}(x): return f{n + 1}(x)" for n in range(2_000))
    ends = ("def f2000(x): return 1", "def f2000(x): return 2")
    one, other = (describe(in_module(f"{source}\n{end}").f0) for end in ends)
    assert one != other


def test_a_function_may_refer_to_what_its_maker_has_not_set_yet():
    module = in_module(
        "def made(late):\n"
        "    def f(self): return text\n"
        "    if late is not None: text = late\n"
        "    return f\n"
        "class C: f = made(None)\n"
        "class D: f = made(None)\n"
        "D.__qualname__ = 'C'\n"
        "class E: f = made('set')\n"
        "E.__qualname__ = 'C'\n"
    )
    assert describe(module.C) == describe(module.D) != describe(module.E)


def test_functions_that_call_each_other_are_described_once():
    module = in_module("def f(): return g()\ndef g(): return f()\nclass C: f = f; g = g")
    assert len(describe(module.C)) == 4


def test_what_refers_to_itself_is_described():
    module = in_module(
        "from functools import partial\n"
        "handlers = {}\n"
        "class C:\n"
        "    handlers = handlers\n"
        "    def __call__(self): pass\n"
        "C.itself = C()\n"
        "C.itself.call = partial(C.itself, C)\n"
    )
    module.handlers["self"] = partial(module.C, module.handlers, MethodType(module.C, module.C))
    assert describe(module.C) == describe(module.C)


@pytest.mark.parametrize("name", ["profile", "calendar", "site", "statistics"])
def test_a_projects_package_that_bears_a_name_of_pythons_own_is_described(name):
    source = "class Base:\n    def f(self): return {}\nclass Tag(Base): pass"
    one, other = (in_module(source.format(n), f"{name}.tags") for n in (1, 2))
    assert describe(one.Tag) != describe(other.Tag)


class Asleep:
    """Can be called, and fails whatever it is asked for."""

    def __call__(self):
        never()

    def __getattribute__(self, name):
        never()


def test_lazy_objects_stay_asleep():
    members = {"lazy": SimpleLazyObject(never), "text": gettext_lazy("Yes"), "lost": Unhelpful()}
    module = in_module("class C:\n    def f(self): return LAZY, lazy, asleep\n")
    lazy = SimpleLazyObject(never)
    vars(module).update(LAZY=SimpleLazyObject(never), lazy=lazy, asleep=Asleep())
    for name, value in members.items():
        setattr(module.C, name, value)
    assert json.dumps(describe(module.C))


def test_a_wrapped_function_counts_and_the_state_of_its_wrapper_does_not():
    module = in_module(
        "class Memo:\n"
        "    def __init__(self, function): self.function, self.known = function, {}\n"
        "    def __call__(self, x): return self.known.setdefault(x, self.function(x))\n"
        "def f(x): return x\n"
        "def g(x): return x + 1\n"
        "class C: pass\n"
    )
    module.C.f = module.Memo(module.f)
    before = describe(module.C)
    module.C.f(1)
    assert describe(module.C) == before
    module.C.f = module.Memo(module.g)
    assert describe(module.C) != before
