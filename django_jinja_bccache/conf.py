"""From ``TEMPLATES[…]["OPTIONS"]["bytecode_cache"]`` to a cache object."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from typing import Any

from django.conf import settings
from django.template import engines
from django.utils.module_loading import import_string
from jinja2 import BytecodeCache

from django_jinja_bccache.bccache import StoreBytecodeCache
from django_jinja_bccache.caches import DjangoBytecodeCache
from django_jinja_bccache.exceptions import ConfigurationError
from django_jinja_bccache.options import naming

#: The alias that our template backend uses when it is not told any.
DEFAULT_ALIAS = "default"
_OPTION = 'OPTIONS["bytecode_cache"]'
_ACCEPTED = (
    "an alias in CACHES, the dotted path of a bytecode cache, a dict with a class's own "
    'arguments (and "class", unless it is DjangoBytecodeCache), an instance, or None'
)
_STOCK = "django.template.backends.jinja2.Jinja2"
_ENVIRONMENT = "jinja2.Environment"
_CATCH_ALL = {inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD}


def bytecode_cache_from(value: object, *, engine: str) -> BytecodeCache | None:
    """Return the cache that an engine's option means.

    Args:
        value: The option's value.
        engine: The engine's NAME, for messages.

    Raises:
        ConfigurationError: The value cannot be used; the message names the engine and lists
            what is accepted.
    """
    __traceback_hide__ = True
    with naming(f"TEMPLATES engine {engine!r}, {_OPTION}"):
        return _cache_from(value)


def validate_settings() -> None:
    """Check every engine's option without making an engine or touching a cache.

    Raises:
        ConfigurationError: An option cannot be used.
    """
    for engine, params in engines.templates.items():
        with naming(f"TEMPLATES engine {engine!r}, {_OPTION}"):
            _check_stock_option(params["BACKEND"], params["OPTIONS"])
    for engine, cache in caches_in_settings():
        with naming(f"TEMPLATES engine {engine!r}, {_OPTION}"):
            cache.validate()


def caches_in_settings() -> Iterator[tuple[str, StoreBytecodeCache]]:
    """Yield the engines that have a bytecode cache of this package, by their NAMEs, and it.

    Raises:
        ConfigurationError: An option cannot be used.
    """
    for engine, cache in all_caches_in_settings():
        if isinstance(cache, StoreBytecodeCache):
            yield engine, cache


def all_caches_in_settings() -> Iterator[tuple[str, BytecodeCache | None]]:
    """Yield the engines whose option is this package's business, by their NAMEs, and its value.

    Raises:
        ConfigurationError: An option cannot be used.
    """
    for engine, value in _options_in_settings():
        with naming(f"TEMPLATES engine {engine!r}, {_OPTION}"):
            cache = _cache_from(value)
        yield engine, cache


def _options_in_settings() -> Iterator[tuple[str, object]]:
    for name, params in engines.templates.items():
        options = params["OPTIONS"]
        value = options.get("bytecode_cache")
        if _takes_our_option(params["BACKEND"]):
            yield name, options.get("bytecode_cache", DEFAULT_ALIAS)
        elif isinstance(value, StoreBytecodeCache):  # with Django's own backend
            yield name, value


def _check_stock_option(backend: str, options: Mapping[str, Any]) -> None:
    """Refuse what Django's own backend would hand to Jinja2 as it is, for each page to fail.

    An environment of the site's own may make something of it.
    """
    value = options.get("bytecode_cache")
    is_stock = backend == _STOCK and options.get("environment", _ENVIRONMENT) == _ENVIRONMENT
    if is_stock and isinstance(value, str | Mapping | type):
        shown = "a dict" if isinstance(value, Mapping) else repr(value)  # it may hold a key
        raise ConfigurationError(
            f"{shown} is not accepted by {_STOCK}; it must be an instance, such as "
            "django_jinja_bccache.DjangoBytecodeCache('default'), unless the engine's BACKEND is "
            "django_jinja_bccache.jinja2.Jinja2."
        )


def _takes_our_option(backend: str) -> bool:
    try:
        return getattr(import_string(backend), "takes_bytecode_cache_option", False)
    except ImportError:  # Django says so itself, when the engine is first used
        return False


def _cache_from(value: object) -> BytecodeCache | None:
    __traceback_hide__ = True
    if value is None or isinstance(value, BytecodeCache):
        return value
    if isinstance(value, Mapping):
        return _from_mapping(value)
    if isinstance(value, str):
        # An alias may hold a dot, too.
        return DjangoBytecodeCache(value) if value in settings.CACHES else _from_path(value)
    raise ConfigurationError(
        f"{value!r} (of type {type(value).__name__}) is not accepted; it must be {_ACCEPTED}."
    )


def _from_path(path: str) -> BytecodeCache:
    if "." not in path:
        raise ConfigurationError(
            f"there is no alias {path!r} in CACHES; there are: {_listed(settings.CACHES)}."
        )
    made = _imported(path)
    if isinstance(made, type) and issubclass(made, BytecodeCache):
        return _made(made, {})
    if isinstance(made, BytecodeCache):
        return made
    raise ConfigurationError(f"{path!r} is no bytecode cache; it must be {_ACCEPTED}.")


def _from_mapping(value: Mapping[Any, Any]) -> BytecodeCache:
    __traceback_hide__ = True
    arguments = dict(value)
    cls = arguments.pop("class", DjangoBytecodeCache)
    if isinstance(cls, str):
        cls = _imported(cls)
    if not isinstance(cls, type) or not issubclass(cls, BytecodeCache):
        raise ConfigurationError(
            f'"class": {value["class"]!r} is not accepted; it must be a subclass of '
            "jinja2.BytecodeCache or its dotted path."
        )
    return _made(cls, arguments)


def _imported(path: str) -> Any:
    try:
        return import_string(path)
    except (ImportError, TypeError, ValueError) as error:  # the latter two for odd dots
        raise ConfigurationError(f"{path!r} cannot be imported: {error}.") from error


def _made(cls: type[BytecodeCache], arguments: Mapping[Any, Any]) -> BytecodeCache:
    __traceback_hide__ = True
    accepted = _accepted_arguments(cls)
    unknown = [name for name in arguments if accepted is not None and name not in accepted]
    if unknown:
        raise ConfigurationError(
            f"unknown {'options' if len(unknown) > 1 else 'option'} {_listed(unknown)} for "
            f"{cls.__name__}; accepted are: {_listed(accepted)}."
        )
    missing = [name for name in _required_arguments(cls) if name not in arguments]
    if missing:
        options = f"; accepted are: {_listed(accepted)}" if accepted else ""
        raise ConfigurationError(
            f"{cls.__name__}: required, but missing: {_listed(missing)}{options}."
        )
    nested = getattr(cls, "nested_caches", ())
    values = {
        name: _nested_cache_from(name, value) if name in nested else value
        for name, value in arguments.items()
    }
    try:
        return cls(**values)
    except TypeError as error:
        raise ConfigurationError(f"{cls.__name__}: {error}.") from error


def _nested_cache_from(option: str, value: object) -> BytecodeCache | None:
    __traceback_hide__ = True
    with naming(f'"{option}"'):
        return _cache_from(value)


def _accepted_arguments(cls: type[BytecodeCache]) -> list[str] | None:
    """Return the names of a class's arguments, None if it does not tell them all.

    What ``**options`` takes are the arguments of the base classes.
    """
    names: dict[str, None] = {}
    for base in cls.__mro__[:-1]:
        if "__init__" not in vars(base):
            continue
        _, *parameters = inspect.signature(vars(base)["__init__"]).parameters.values()
        kinds = {item.kind for item in parameters}
        names |= {item.name: None for item in parameters if item.kind not in _CATCH_ALL}
        if inspect.Parameter.VAR_KEYWORD not in kinds:
            return list(names)
    return None


def _required_arguments(cls: type[BytecodeCache]) -> list[str]:
    return [
        item.name
        for item in inspect.signature(cls).parameters.values()
        if item.default is inspect.Parameter.empty and item.kind not in _CATCH_ALL
    ]


def _listed(names: Any) -> str:
    return ", ".join(repr(name) for name in names)
