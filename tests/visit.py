"""Renders pages in a process of its own and prints what that took: python -m tests.visit NAME…

A name that begins with a slash is the path of a page; any other is the name of a template.
"""

import json
import sys
from collections import Counter
from typing import Any

import django
from django.template import engines
from django.template.loader import get_template
from jinja2 import Environment

from django_jinja_bccache.bccache import StoreBytecodeCache

compiled: list[str] = []
_compile = Environment.compile


def _noting_compile(self: Environment, source: Any, name: str, *rest: Any, **more: Any) -> Any:
    compiled.append(name)
    return _compile(self, source, name, *rest, **more)


def render(name: str) -> str:
    if not name.startswith("/"):
        return get_template(name).render({})
    from django.test import Client  # takes longer to import than a small site takes to run

    response = Client().get(name)
    assert response.status_code == 200, f"{name} answered {response.status_code}"
    return response.content.decode()


def outcomes() -> Counter[str]:
    """What all caches counted, together."""
    total: Counter[str] = Counter()
    for engine in engines.all():
        cache = getattr(getattr(engine, "env", None), "bytecode_cache", None)
        if isinstance(cache, StoreBytecodeCache):
            counts = cache.statistics
            total.update(hits=counts.hits, misses=counts.misses, stores=counts.stores)
    return total


def main(names: list[str]) -> None:
    Environment.compile = _noting_compile  # type: ignore[method-assign]
    django.setup()
    pages = {name: render(name) for name in names}
    print(json.dumps({"pages": pages, "compiled": compiled, **outcomes()}))


if __name__ == "__main__":
    main(sys.argv[1:] or json.load(sys.stdin))
