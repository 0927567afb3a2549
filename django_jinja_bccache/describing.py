"""Classes, functions and data as text that is the same everywhere.

It holds no address, no ``id()`` and no order of a set, so that it is equal in every process, on
every host and in every checkout.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Mapping
from functools import partial
from types import CodeType, FunctionType, MethodType
from typing import Any

# Their classes change only with versions that the fingerprint names itself.
_FOUNDATIONS = frozenset({"builtins", "jinja2", "markupsafe"}) | sys.stdlib_module_names
# What a class has without saying anything about what its methods do.
_NAMES_WITHOUT_MEANING = {
    *("__abstractmethods__", "_abc_impl", "__annotate__", "__annotate_func__"),
    *("__annotations__", "__annotations_cache__", "__dict__", "__doc__", "__firstlineno__"),
    *("__module__", "__orig_bases__", "__parameters__", "__qualname__", "__slots__"),
    *("__static_attributes__", "__weakref__"),
}
_PLAIN_ATOMS = (type(None), bool, int, float, str, bytes)
_DEEPEST = 8


def is_plain(value: object, depth: int = 0) -> bool:
    """Tell whether a value is data through and through, and not too deep."""
    if isinstance(value, _PLAIN_ATOMS):
        return True
    if depth > _DEEPEST:
        return False
    if isinstance(value, list | tuple | set | frozenset):
        return all(is_plain(item, depth + 1) for item in value)
    if isinstance(value, dict):
        return all(is_plain(item, depth + 1) for pair in value.items() for item in pair)
    return False


class Describer:
    """Turns classes, functions and data into text that is the same everywhere."""

    def __init__(self) -> None:
        self._described: set[int] = set()

    def class_(self, cls: Any) -> object:
        """Describe a class by its name and what its own, non-Jinja2 code does."""
        if not isinstance(cls, type):
            return self.value(cls)
        return [
            [_name(base), {} if _is_foundation(base) else self._members(base)]
            for base in cls.__mro__
            if base is not object
        ]

    def plain_attributes(self, attributes: Mapping[str, object]) -> dict[str, object]:
        """Describe those attributes that are data."""
        return {name: self.plain(value) for name, value in attributes.items() if is_plain(value)}

    def plain(self, value: object) -> object:
        """Describe data; of anything else in it, the type."""
        if isinstance(value, set | frozenset):
            return ["set", sorted(json.dumps(self.plain(item), default=repr) for item in value)]
        if isinstance(value, list | tuple):
            return [type(value).__name__, *(self.plain(item) for item in value)]
        if isinstance(value, dict):
            pairs = ([self.plain(key), self.plain(item)] for key, item in value.items())
            return ["dict", sorted(pairs, key=lambda pair: json.dumps(pair, default=repr))]
        if isinstance(value, bytes):
            return ["bytes", value.hex()]
        return value if isinstance(value, _PLAIN_ATOMS) else ["object", _name(type(value))]

    def value(self, value: Any) -> object:  # noqa: PLR0911
        """Describe anything that a class holds or a function refers to."""
        if isinstance(value, staticmethod | classmethod | MethodType):
            return self.value(value.__func__)
        if isinstance(value, property):
            return [self.value(part) for part in (value.fget, value.fset, value.fdel)]
        if isinstance(value, partial):
            return [self.value(value.func), self.plain(value.args), self.plain(value.keywords)]
        if isinstance(value, FunctionType):
            return self._function(value)
        if isinstance(value, type):
            return _name(value)
        if isinstance(value, re.Pattern):
            return ["pattern", self.plain(value.pattern), value.flags]
        wrapped = getattr(value, "__wrapped__", None)
        if isinstance(wrapped, FunctionType):  # functools.lru_cache, for one
            return [_name(type(value)), self._function(wrapped)]
        return self.plain(value)

    def _members(self, cls: type) -> dict[str, object]:
        if id(cls) in self._described:
            return {}
        self._described.add(id(cls))
        members = sorted(vars(cls).items())
        return {
            name: self.value(member)
            for name, member in members
            if name not in _NAMES_WITHOUT_MEANING
        }

    def _function(self, function: FunctionType) -> object:
        if id(function) in self._described:
            return _name(function)
        self._described.add(id(function))
        return [
            _name(function),
            self._code(function.__code__),
            self.plain(function.__defaults__),
            self.plain(function.__kwdefaults__),
            [self.value(cell) for cell in _closure(function)],
            {name: self._global(item) for name, item in _globals_in_reach(function)},
        ]

    def _global(self, value: Any) -> object:
        return self.class_(value) if isinstance(value, type) else self.value(value)

    def _code(self, code: CodeType) -> object:
        constants = [
            self._code(item) if isinstance(item, CodeType) else self.plain(item)
            for item in code.co_consts
        ]
        return [
            code.co_code.hex(),
            [code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags],
            [code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars],
            getattr(code, "co_exceptiontable", b"").hex(),
            constants,
        ]


def _closure(function: FunctionType) -> Iterator[object]:
    for cell in function.__closure__ or ():
        try:
            yield cell.cell_contents
        except ValueError:  # not filled yet
            yield None


def _globals_in_reach(function: FunctionType) -> Iterator[tuple[str, object]]:
    """Yield what a function uses of its own package, where edits would go unseen otherwise.

    These are functions of the same top-level package, and classes and constants (by their
    upper-case names) of the same module.
    """
    module = function.__module__ or ""
    for name in sorted(_names_in(function.__code__)):
        value = function.__globals__.get(name)
        home = getattr(value, "__module__", None) or ""
        if isinstance(value, type):
            near = home == module
        elif callable(value):
            near = home.partition(".")[0] == module.partition(".")[0]
        else:
            near = name.isupper() and is_plain(value)
        if near:
            yield name, value


def _names_in(code: CodeType) -> set[str]:
    names = set(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            names |= _names_in(constant)
    return names


def _name(item: Any) -> str:
    return f"{item.__module__}.{item.__qualname__}"


def _is_foundation(cls: type) -> bool:
    return cls.__module__.partition(".")[0] in _FOUNDATIONS
