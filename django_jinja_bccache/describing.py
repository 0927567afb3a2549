"""Classes, functions and data as text that is the same everywhere.

It holds no address, no ``id()`` and no order of a set, so that it is equal in every process, on
every host and in every checkout.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from enum import Enum
from functools import partial, partialmethod
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any

# Their classes change only with versions that the fingerprint names itself. No project can have
# a module of such a name, as it can with others of the standard library (profile, calendar).
_FOUNDATIONS = frozenset(
    {"abc", "builtins", "collections", "enum", "jinja2", "markupsafe", "types", "typing"}
)
# What a class has without saying anything about what its methods do.
_NAMES_WITHOUT_MEANING = {
    *("__abstractmethods__", "_abc_impl", "__annotate__", "__annotate_func__"),
    *("__annotations__", "__annotations_cache__", "__dict__", "__doc__", "__firstlineno__"),
    *("__module__", "__orig_bases__", "__parameters__", "__qualname__", "__slots__"),
    *("__static_attributes__", "__weakref__"),
}
_PLAIN_ATOMS = (type(None), bool, int, float, complex, str, bytes)
_COLLECTIONS = (list, tuple, set, frozenset)
_CALLABLES = (FunctionType, MethodType, partial, partialmethod, staticmethod, classmethod)
_DEEPEST = 8


def is_plain(value: object, depth: int = 0) -> bool:
    """Tell whether a value is data through and through, and not too deep."""
    if _is(value, _PLAIN_ATOMS):
        return True
    if depth > _DEEPEST:
        return False
    if _is(value, _COLLECTIONS):
        items: Any = value
        return all(is_plain(item, depth + 1) for item in items)
    if _is(value, dict):
        pairs: Any = value
        return all(is_plain(item, depth + 1) for pair in pairs.items() for item in pair)
    return False


def plain(value: object) -> object:
    """Describe data; of anything else in it, the type."""
    return _data(value, _type_of)


def plain_attributes(attributes: Mapping[str, object]) -> dict[str, object]:
    """Describe those attributes that are data."""
    return {name: plain(value) for name, value in attributes.items() if is_plain(value)}


def describe(value: Any) -> list[object]:
    """Describe a class, a function or anything else, by what its code does and refers to.

    Classes of Jinja2 and of Python's innermost modules have a name only.
    """
    return _Description().of(value)


class _Description:
    """Classes, functions and instances, each once and in the order in which they were met."""

    def __init__(self) -> None:
        self._numbers: dict[int, int] = {}
        # Kept, so that none of their ids passes to another one meanwhile.
        self._met: list[tuple[Any, str | None]] = []

    def of(self, value: Any) -> list[object]:
        described = [self._value(value, None)]
        # One after the other, not one within the other: they may form long chains and circles.
        # The list grows meanwhile.
        for item, home in self._met:
            described.append(self._definition(item, home))
        return described

    def _value(self, value: Any, home: str | None) -> object:
        return _data(value, lambda item: self._leaf(item, home))

    def _leaf(self, value: Any, home: str | None) -> object:  # noqa: PLR0911
        if _is(value, (staticmethod, classmethod, MethodType)):
            return self._value(value.__func__, home)
        if _is(value, property):
            return [self._value(part, home) for part in (value.fget, value.fset, value.fdel)]
        if _is(value, re.Pattern):
            return ["pattern", plain(value.pattern), value.flags]
        if _is(value, Enum):
            return [_name(type(value)), plain(value.value)]
        if _is(value, BuiltinFunctionType):
            return _name(value)
        if _is(value, type) and home not in (None, value.__module__):
            return _name(value)
        return self._refer(value, home)

    def _refer(self, item: Any, home: str | None) -> str:
        name = _name(item if _is(item, (FunctionType, type)) else type(item))
        if _is(item, type) and _package(item.__module__) in _FOUNDATIONS:
            return name
        number = self._numbers.setdefault(id(item), len(self._met))
        if number == len(self._met):
            self._met.append((item, home))
        return f"{name} {number}"

    def _definition(self, item: Any, home: str | None) -> object:
        if _is(item, FunctionType):
            return self._function(item)
        if _is(item, type):
            return self._class(item)
        if _is(item, (partial, partialmethod)):
            return self._value([item.func, item.args, item.keywords], home)
        return self._instance(item, home)

    def _function(self, function: FunctionType) -> object:
        home = function.__module__
        return [
            _code(function.__code__),
            self._value(function.__defaults__, home),
            self._value(function.__kwdefaults__, home),
            [self._value(cell, home) for cell in _closure(function)],
            {name: self._value(item, home) for name, item in _globals_in_reach(function)},
        ]

    def _class(self, cls: type) -> object:
        return [
            [self._refer(base, None) for base in cls.__mro__[1:]],
            {
                name: self._value(member, cls.__module__)
                for name, member in sorted(vars(cls).items())
                if name not in _NAMES_WITHOUT_MEANING
            },
        ]

    def _instance(self, value: Any, home: str | None) -> object:
        """Describe its code, but not its state, which changes while a process runs."""
        try:
            attributes = list(vars(value).items())
        except Exception:  # noqa: BLE001 - a proxy may raise anything
            attributes = []
        # functools.cached_property and lru_cache wrap one, as do decorators that are classes.
        wrapped = {
            name: self._value(item, home) for name, item in attributes if _is(item, _CALLABLES)
        }
        near = _package(type(value).__module__) == _package(home)
        return [self._refer(type(value), None), wrapped] if near else wrapped


def _data(value: Any, leaf: Callable[[Any], object], depth: int = 0) -> object:
    if _is(value, _PLAIN_ATOMS):
        return _atom(value)
    if not _is(value, (*_COLLECTIONS, dict)):
        return leaf(value)
    name = type(value).__name__
    if depth > _DEEPEST:
        return [name, "deeper"]
    if _is(value, (set, frozenset)):
        # A leaf may be numbered as it is met, and a set has no order to meet it in.
        items = (_data(item, _type_of, depth + 1) for item in list(value))
        return [name, sorted(map(json.dumps, items))]
    # Copied first, as another thread may add to it.
    pairs = list(value.items()) if _is(value, dict) else [list(value)]
    return [name, *(_data(item, leaf, depth + 1) for pair in pairs for item in pair)]


def _atom(value: Any) -> object:
    if _is(value, (bytes, complex)):
        return [_name(type(value)), repr(value)]
    return value if type(value) in _PLAIN_ATOMS else [_name(type(value)), value]


def _code(code: CodeType) -> object:
    constants = [
        _code(item) if isinstance(item, CodeType) else plain(item) for item in code.co_consts
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

    These are constants (by their upper-case names) and functions of the same top-level package,
    also by way of its modules, and classes of the same module.
    """
    home = function.__module__ or ""
    names = sorted(_names_in(function.__code__))
    modules = [("", function.__globals__)]
    known = {id(function.__globals__)}
    for path, module in modules:
        for name in names:
            value: Any = module.get(name)
            if _is(value, ModuleType):
                if _package(value.__name__) == _package(home) and id(vars(value)) not in known:
                    known.add(id(vars(value)))
                    modules.append((f"{path}{name}.", vars(value)))
            elif name.isupper() or _is_near(value, home):
                yield path + name, value


def _is_near(value: Any, home: str) -> bool:
    if _is(value, type):
        return bool(value.__module__ == home)
    try:
        module = getattr(value, "__module__", None) if callable(value) else None
    except Exception:  # noqa: BLE001 - a lazy object may raise anything
        return False
    return isinstance(module, str) and _package(module) == _package(home)


def _names_in(code: CodeType) -> set[str]:
    names = set(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            names |= _names_in(constant)
    return names


def _is(value: object, kinds: type | tuple[type, ...]) -> bool:
    # isinstance() asks value.__class__ as well, upon which a lazy object wakes up.
    return issubclass(type(value), kinds)


def _type_of(value: object) -> object:
    return ["object", _name(type(value))]


def _name(item: Any) -> str:
    return f"{item.__module__}.{item.__qualname__}"


def _package(module: str | None) -> str:
    return (module or "").partition(".")[0]
