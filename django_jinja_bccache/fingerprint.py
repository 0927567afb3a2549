"""What of an environment decides which bytecode Jinja2 makes of a source.

A description holds no address, no ``id()`` and no order of a set, so that it is the same in
every process, on every host and in every checkout.
"""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Mapping
from copy import deepcopy
from functools import lru_cache
from hashlib import blake2b
from itertools import chain
from typing import Any, cast

import jinja2
from jinja2 import ChainableUndefined, DebugUndefined, Environment, StrictUndefined, Undefined
from jinja2.filters import FILTERS
from jinja2.sandbox import SandboxedEnvironment
from jinja2.tests import TESTS
from markupsafe import Markup

from django_jinja_bccache.describing import describe, is_plain, plain, plain_attributes

#: Length of a fingerprint in characters.
FINGERPRINT_SIZE = 32

_OPTIONS = (
    "block_start_string",
    "block_end_string",
    "variable_start_string",
    "variable_end_string",
    "comment_start_string",
    "comment_end_string",
    "line_statement_prefix",
    "line_comment_prefix",
    "trim_blocks",
    "lstrip_blocks",
    "newline_sequence",
    "keep_trailing_newline",
    "optimized",
    "is_async",
    "sandboxed",
)
_HOMES_OF_BUILTINS = frozenset({"jinja2", "markupsafe", "builtins", "operator", "_operator"})
# The objects are kept beside their ids, which could otherwise pass to other objects.
_BUILTINS = {
    id(item): item
    for item in (
        *(*FILTERS.values(), *TESTS.values()),
        *(Undefined, ChainableUndefined, DebugUndefined, StrictUndefined),
    )
}


def is_builtin(function: object) -> bool:
    """Tell whether a filter, test or undefined type is Jinja2's own object."""
    if id(function) not in _BUILTINS:
        return False
    # The dictionaries that the built-in ones come from may have been added to, and functools.wraps
    # gives a wrapper the other function's __module__.
    within = getattr(function, "__globals__", {}).get("__name__")
    home = within or getattr(function, "__module__", None) or ""
    return home.partition(".")[0] in _HOMES_OF_BUILTINS


def escapes(environment: Environment, template: str) -> bool:
    """Tell whether an environment escapes a template, by the name that its own loader knows."""
    autoescape = environment.autoescape
    return bool(autoescape(template) if callable(autoescape) else autoescape)


def fingerprint(environment: Environment, salt: str = "") -> str:
    """Return what keeps the bytecode of unlike environments apart, 32 hexadecimal digits.

    It is computed once for an environment, and again after filters, tests, options or
    extensions have changed.
    """
    known = cast("_Fingerprint | None", vars(environment).get(_ATTRIBUTE))
    if known is None or not known.still_holds(environment):
        known = _Fingerprint(environment)
    return known.salted(salt)


def fingerprint_parts(environment: Environment) -> dict[str, object]:
    """Return what goes into the fingerprint, part by part, as JSON-able data."""
    attributes = list(vars(environment).items())  # another thread may add to them meanwhile
    return {
        "jinja2": _jinja_version(),
        # The one part of MarkupSafe that is folded into bytecode and differs by version.
        "striptags": describe(Markup.striptags),
        "python": [
            sys.implementation.cache_tag,
            importlib.util.MAGIC_NUMBER.hex(),
            sys.flags.optimize,
        ],
        "options": {name: plain(getattr(environment, name)) for name in _OPTIONS},
        "intercepted": [
            sorted(getattr(environment, "intercepted_binops", ())),
            sorted(getattr(environment, "intercepted_unops", ())),
        ],
        "environment": describe(type(environment)),
        "code_generator": describe(environment.code_generator_class),
        "undefined": describe(environment.undefined),
        "finalize": _callable_from_outside(environment.finalize),
        "filters": _functions(environment.filters),
        "tests": _functions(environment.tests),
        "policies": {name: plain(value) for name, value in list(environment.policies.items())},
        "extensions": [
            [describe(type(extension)), plain_attributes(dict(vars(extension)))]
            for extension in environment.iter_extensions()
        ],
        "attributes": plain_attributes(
            {name: value for name, value in attributes if name not in _attributes_of_jinja()}
        ),
    }


def summary(environment: Environment) -> dict[str, str]:
    """Return what tells this environment from others, a line for each part, fit to be stored.

    Jinja2's own options are there as they are; of anything that may hold a secret, such as the
    attributes of an environment, there is a digest and no more.
    """
    parts: dict[str, Any] = fingerprint_parts(environment)
    lines = {
        "Jinja2": parts["jinja2"],
        "MarkupSafe": _digest(parts["striptags"]),
        "Python": " ".join(map(str, parts["python"])),
        "finalize": parts["finalize"],
        "intercepted operators": " ".join(chain(*parts["intercepted"])),
        "extensions": " ".join(_class_name(described) for described, _ in parts["extensions"]),
    }
    for name in ("environment", "code_generator", "undefined"):
        lines[name] = f"{_class_name(parts[name])} {_digest(parts[name])}"
    lines |= {name: json.dumps(value) for name, value in parts["options"].items()}
    for kind in ("filters", "tests"):
        lines |= {f"{kind}[{name!r}]": text for name, text in parts[kind].items()}
    for kind in ("policies", "attributes"):
        lines |= {f"{kind}[{name!r}]": _digest(value) for name, value in parts[kind].items()}
    for described, attributes in parts["extensions"]:
        lines[_class_name(described)] = _digest([described, attributes])
    return lines


def _class_name(described: list[Any]) -> str:
    """Return the name in a class's description, without the number of its definition."""
    name: str = described[0]
    return name.partition(" ")[0]


def _digest(part: object) -> str:
    return blake2b(json.dumps(part, sort_keys=True).encode(), digest_size=4).hexdigest()


class _Fingerprint:
    """One environment's fingerprint, and what it looked like at that moment.

    It lies in the environment itself: kept anywhere else, what it remembers of the environment
    (extensions, templates) would keep that one alive. An overlay inherits it, and differs.
    """

    def __init__(self, environment: Environment) -> None:
        self._mappings = _snapshot(environment)
        self._attributes = {**vars(environment), _ATTRIBUTE: self}
        parts = json.dumps(fingerprint_parts(environment), sort_keys=True)
        self._digest = blake2b(parts.encode(), digest_size=16).digest()
        self._by_salt: dict[str, str] = {}
        vars(environment)[_ATTRIBUTE] = self

    def still_holds(self, environment: Environment) -> bool:
        filters, tests, policies, extensions = self._mappings
        # Dictionaries compare the identity of their values first, which is all it takes here.
        return (
            environment.filters == filters
            and environment.tests == tests
            and environment.policies == policies
            and environment.extensions == extensions
            and vars(environment) == self._attributes
        )

    def salted(self, salt: str) -> str:
        found = self._by_salt.get(salt)
        if found is None:
            salted = self._digest + salt.encode("utf-8", "surrogatepass")
            found = self._by_salt[salt] = blake2b(salted, digest_size=16).hexdigest()
        return found


_ATTRIBUTE = "_django_jinja_bccache_fingerprint"


def _snapshot(environment: Environment) -> tuple[dict[Any, Any], ...]:
    policies = list(environment.policies.items())
    return (
        dict(environment.filters),
        dict(environment.tests),
        {name: deepcopy(value) if is_plain(value) else value for name, value in policies},
        dict(environment.extensions),
    )


@lru_cache
def _jinja_version() -> str:
    # importlib.metadata takes longer to import than this whole package.
    known: object = getattr(jinja2, "__version__", None)
    if isinstance(known, str):
        return known
    from importlib.metadata import version

    return version("jinja2")


@lru_cache
def _attributes_of_jinja() -> frozenset[str]:
    inherited_by_overlays = {"overlayed", "linked_to", "shared"}
    return frozenset(vars(SandboxedEnvironment())) | inherited_by_overlays


def _functions(functions: Mapping[str, Any]) -> dict[str, str]:
    # Another thread may add to them meanwhile.
    return {name: _callable_from_outside(function) for name, function in list(functions.items())}


def _callable_from_outside(function: Any) -> str:
    """Describe a callable that is never called while compiling, unless it is Jinja2's own."""
    if function is None:
        return "none"
    flag = getattr(function, "jinja_pass_arg", None)
    passed = getattr(flag, "name", str(flag))
    if is_builtin(function):
        return f"jinja2 {function.__module__}.{function.__qualname__} {passed}"
    return f"foreign {passed}"
