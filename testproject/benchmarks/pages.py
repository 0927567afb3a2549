"""Which templates make up a page: those that it names, and those that these name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jinja2.meta import find_referenced_templates

if TYPE_CHECKING:
    import jinja2

    from testproject.benchmarks.corpus import Corpus

PAGE_SIZE = 18


def two_pages(corpus: Corpus, size: int = PAGE_SIZE) -> list[list[str]]:
    """Return the templates of two pages from different folders, in the order of their loading.

    Of each folder at the top it is the page that draws in most templates, though no more than
    ``size``, and of these the two that draw in most. Neighbours of the page fill up the rest.
    """
    names = corpus.names
    references = _references(corpus)
    closures = {name: _closure(name, references) for name in names}
    ordinary = sorted(
        (name for name in names if len(closures[name]) <= size),
        key=lambda name: (-len(closures[name]), name),
    )
    first = ordinary[0]
    elsewhere = [name for name in ordinary if _top(name) != _top(first)]
    pages = [first, *(elsewhere or ordinary[1:])[:1]]
    return [_filled_up(page, closures[page], names, size) for page in pages]


def _references(corpus: Corpus) -> dict[str, list[str]]:
    environment: jinja2.Environment = corpus.environment()
    names = corpus.names
    known = set(names)
    references = {}
    for name in names:
        source, _, _ = environment.loader.get_source(environment, name)
        found = find_referenced_templates(environment.parse(source, name))
        named = [environment.join_path(reference, name) for reference in found if reference]
        references[name] = [reference for reference in named if reference in known]
    return references


def _closure(name: str, references: dict[str, list[str]]) -> list[str]:
    """Return a template and all that it draws in, each before those that it names."""
    found: dict[str, None] = {}
    stack = [name]
    while stack:
        current = stack.pop()
        if current not in found:
            found[current] = None
            stack += reversed(references[current])
    return list(found)


def _filled_up(page: str, closure: list[str], names: list[str], size: int) -> list[str]:
    folder = page.rpartition("/")[0]
    near = [name for name in names if name.rpartition("/")[0] == folder]
    near += [name for name in names if _top(name) == _top(page)] + names
    others = [name for name in dict.fromkeys(near) if name not in set(closure)]
    return (closure + others)[:size]


def _top(name: str) -> str:
    return name.partition("/")[0]
