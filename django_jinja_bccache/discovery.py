"""From the settings' template engines to the sources of all their templates."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from django.template import engines
from jinja2 import (
    BaseLoader,
    BytecodeCache,
    ChoiceLoader,
    Environment,
    PrefixLoader,
    TemplateNotFound,
)
from jinja2.bccache import Bucket

from django_jinja_bccache.bccache import StoreBytecodeCache
from django_jinja_bccache.exceptions import UnknownEngine

_BACKUP_ENDINGS = ("~", ".bak", ".orig", ".rej", ".swp", ".swo")
_VERSION_CONTROL = frozenset({".git", ".hg", ".svn"})


def any_template(_name: str) -> bool:
    """Leave no template to other engines."""
    return True


@dataclass(frozen=True)
class CachedEngine:
    """A template engine whose environment uses a bytecode cache of this package.

    Attributes:
        name: Its NAME in TEMPLATES.
        environment: Its Jinja2 environment.
        cache: The bytecode cache.
        renders: Tells of a template's name whether the engine renders it, or leaves it to others,
            as django-jinja's does with ``match_extension``.
    """

    name: str
    environment: Environment
    cache: StoreBytecodeCache
    renders: Callable[[str], bool] = any_template

    def list_templates(
        self, include: Collection[str] = (), exclude: Collection[str] = ()
    ) -> Listing:
        """Return the names of the engine's templates; see ``list_templates``."""
        return list_templates(self.environment, include, exclude, renders=self.renders)

    def entry_key(self, source: Source) -> str:
        """Return the key under which the engine's cache keeps a template's code."""
        bucket = self.cache.empty_bucket(
            self.environment, source.name, source.filename, source.text
        )
        return self.cache.entry_key(bucket)


@dataclass(frozen=True, slots=True)
class Source:
    """A template's source, as its loader hands it to a bytecode cache.

    Attributes:
        template: The name by which the environment knows it.
        name: The name by which its own loader knows it; a ``PrefixLoader`` cuts its prefix off.
        filename: The path of its file, None if it has none.
        text: The source itself.
    """

    template: str
    name: str
    filename: str | None
    text: str


@dataclass(frozen=True)
class Listing:
    """What an environment's loader lists.

    Attributes:
        names: The names of templates.
        left_to_others: Names that other engines render. The templates of ``names`` may still
            include or extend them.
        passed_over: Names of hidden files and of editors' backups.
        unlistable: The loaders that cannot tell their templates' names.
    """

    names: tuple[str, ...]
    left_to_others: tuple[str, ...]
    passed_over: tuple[str, ...]
    unlistable: tuple[str, ...]


def cached_engines(names: Collection[str] = ()) -> list[CachedEngine]:
    """Return the engines that use a bytecode cache of this package, by all kinds of backends.

    Args:
        names: Their NAMEs; all of them if empty.

    Raises:
        UnknownEngine: A name is not among them; the message lists those that are.
    """
    found = {}
    for name in engines:
        environment = getattr(engines[name], "env", None)
        cache = getattr(environment, "bytecode_cache", None)
        if isinstance(environment, Environment) and isinstance(cache, StoreBytecodeCache):
            renders = getattr(engines[name], "match_template", any_template)
            found[name] = CachedEngine(name, environment, cache, renders)
    unknown = [name for name in names if name not in found]
    if unknown:
        raise UnknownEngine(unknown, tuple(found))
    return [engine for name, engine in found.items() if not names or name in names]


def list_templates(
    environment: Environment,
    include: Collection[str] = (),
    exclude: Collection[str] = (),
    *,
    renders: Callable[[str], bool] = any_template,
) -> Listing:
    """Return the names of an environment's templates.

    Args:
        environment: The environment.
        include: Patterns as of ``fnmatch``, one of which a name must match, unless empty.
        exclude: Patterns of which a name must match none.
        renders: Tells which names the environment's engine renders.
    """
    unlistable: list[str] = []
    names = set() if environment.loader is None else _names(environment.loader, unlistable)
    passed_over = {name for name in names if _is_no_template(name)}
    wanted = [
        name
        for name in sorted(names - passed_over)
        if (not include or _matches(name, include)) and not _matches(name, exclude)
    ]
    rendered = [name for name in wanted if renders(name)]
    left_to_others = [name for name in wanted if not renders(name)]
    return Listing(
        tuple(rendered), tuple(left_to_others), tuple(sorted(passed_over)), tuple(unlistable)
    )


def read_source(environment: Environment, template: str) -> Source | None:
    """Return the source that the environment's loader would have compiled for a name.

    The loader is asked as Jinja2 asks it, so that every loader hands over the very name, path
    and text that it hands to the bytecode cache when a page is rendered.

    Returns:
        None if the loader serves the template without its source, as ``ModuleLoader`` does.

    Raises:
        jinja2.TemplateNotFound: There is no such template.
        UnicodeDecodeError: It is not text.
    """
    if environment.loader is None:
        raise TemplateNotFound(template)
    loader = source_loader(environment.loader)
    probe: Any = object.__new__(type(environment))
    probe.__dict__.update(environment.__dict__)
    probe.bytecode_cache = _SourceCatcher()
    try:
        loader.load(probe, template)
    except _Caught as caught:
        return Source(template, *caught.arguments)
    return None


def exists(environment: Environment, template: str) -> bool:
    """Tell whether the environment's loader has a template; True if it cannot tell."""
    try:
        read_source(environment, template)
    except TemplateNotFound:
        return False
    except Exception:  # noqa: BLE001 - whatever is wrong with it, it is there
        return True
    return True


def source_loader(loader: BaseLoader) -> BaseLoader:
    """Return the loader that reads sources, behind one that serves a release."""
    behind: BaseLoader = getattr(loader, "source_loader", loader)
    return behind


class _Caught(Exception):
    """Carries a source out of a loader."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__()
        self.arguments = arguments


class _SourceCatcher(BytecodeCache):
    """Stands in for a bytecode cache to learn what a loader asks of one."""

    def get_bucket(
        self,
        environment: Environment,  # noqa: ARG002
        name: str,
        filename: str | None,
        source: str,
    ) -> Bucket:
        raise _Caught(name, filename, source)


def _names(loader: BaseLoader, unlistable: list[str]) -> set[str]:
    loader = source_loader(loader)
    # The listings of these two fail as a whole if one of their loaders cannot list.
    if isinstance(loader, ChoiceLoader):
        return set().union(*(_names(each, unlistable) for each in loader.loaders))
    if isinstance(loader, PrefixLoader):
        return {
            f"{prefix}{loader.delimiter}{name}"
            for prefix, each in loader.mapping.items()
            for name in _names(each, unlistable)
        }
    try:
        return set(loader.list_templates())
    except (TypeError, NotImplementedError):
        unlistable.append(type(loader).__name__)
        return set()


def _is_no_template(name: str) -> bool:
    *folders, base = name.split("/")
    hidden = base.startswith((".", "#")) or not _VERSION_CONTROL.isdisjoint(folders)
    return hidden or base.endswith(_BACKUP_ENDINGS)


def _matches(name: str, patterns: Collection[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)
