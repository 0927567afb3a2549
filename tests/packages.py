"""A project's package with an extension, written to disk anew with edits."""

import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

FILES = {
    "__init__.py": "",
    "words.py": """\
HELLO = "hello"
TONE = "plain"

def ending():
    return "!"

def unused():
    return "nobody calls this"
""",
    "tags.py": """\
import enum
import functools
import re
from functools import cached_property, lru_cache, partial, partialmethod, singledispatchmethod

from django.utils.functional import cached_property as django_cached_property
from jinja2 import nodes
from jinja2.ext import Extension

from garden import words
from garden.words import ending

LIMIT = 10
NAMES = {"rose", "fern", "moss", "ivy"}
PATTERN = re.compile("a+b")
lower_case = 1


class Mode(enum.Enum):
    FAST = 1
    SLOW = 2


def loud(function):
    @functools.wraps(function)
    def inner(*arguments):
        return function(*arguments).upper()
    return inner


class Decorator:
    def __init__(self, function):
        self.function = function

    def __get__(self, instance, owner):
        return partial(self.function, instance)


class Near:
    def method(self):
        return "near"


def made(value):
    def closed_over(self):
        return value
    return closed_over


def first():
    return "first"


class Base(Extension):
    def inherited(self):
        return "inherited"


class Garden(Base):
    tags = frozenset({"garden", "plant", "flower"})
    bytecode_cache_version = 1
    colour = "green"
    table = {"first": first}
    chosen = Mode.FAST
    closed = made("closed value")
    in_lambda = lambda self: "from a lambda"
    partially = partialmethod(made, "partial value")
    render = Near()

    class Nested:
        def method(self):
            return "nested class"

    def parse(self, parser):
        lineno = next(parser.stream).lineno
        text = self.text() + ending() + words.ending() + str(LIMIT) + words.TONE
        return nodes.Output([nodes.TemplateData(text)]).set_lineno(lineno)

    def text(self, separator=", ", *, last="."):
        def nested():
            return "nested function"
        names = {"a", "b", "c"}
        return Near().method() if self.colour in NAMES and PATTERN.match("ab") else nested()

    @loud
    def decorated(self):
        return "decorated"

    @Decorator
    def decorated_by_a_class(self):
        return "decorated by a class"

    @property
    def as_property(self):
        return "property"

    @cached_property
    def as_cached_property(self):
        return "cached property"

    @django_cached_property
    def as_django_cached_property(self):
        return "Django's cached property"

    @staticmethod
    def as_staticmethod():
        return "static"

    @classmethod
    def as_classmethod(cls):
        return "class"

    @lru_cache
    def remembered(self):
        return "remembered"

    @singledispatchmethod
    def dispatched(self, value):
        return "dispatched"

    @dispatched.register
    def _(self, value: int):
        return "dispatched int"
""",
}

#: Changes a file's text: (file, old, new).
Edit = tuple[str, str, str]
Import = Callable[..., ModuleType]


def write_package(directory: Path, *edits: Edit) -> Path:
    """Write the package ``garden`` into a directory of its own; return that directory."""
    files = dict(FILES)
    for name, old, new in edits:
        assert old in files[name], f"{name} has no {old!r}"
        files[name] = files[name].replace(old, new)
    for name, text in files.items():
        file = directory / "garden" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return directory


@pytest.fixture
def import_package(tmp_path_factory: pytest.TempPathFactory, monkeypatch) -> Iterator[Import]:
    """Imports ``garden.tags`` out of a checkout of its own, with edits."""

    def forget() -> None:
        for name in [name for name in sys.modules if name.partition(".")[0] == "garden"]:
            del sys.modules[name]

    def import_(*edits: Edit) -> ModuleType:
        forget()
        monkeypatch.syspath_prepend(write_package(tmp_path_factory.mktemp("checkout"), *edits))
        return importlib.import_module("garden.tags")

    yield import_
    forget()
