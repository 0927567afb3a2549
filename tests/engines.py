"""The test project's engines inside a test, as a process that has just started has them."""

from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from typing import Any

from django.conf import settings
from django.template import engines
from django.test import override_settings

from django_jinja_bccache.bccache import StoreBytecodeCache


def templates_with(**options: Any) -> list[dict[str, Any]]:
    """The site's TEMPLATES, with other OPTIONS for its Jinja2 engine."""
    templates = deepcopy(settings.TEMPLATES)
    templates[0]["OPTIONS"] |= options
    return templates


@contextmanager
def started_engines(**cache_options: Any) -> Iterator[StoreBytecodeCache]:
    """New engines over the present CACHES; gives the cache of the one for Jinja2.

    Nothing is left of templates loaded before, as in a new process.
    """
    # A busy machine may take longer than the default.
    options = {"deadline": 10.0, **cache_options}
    with override_settings(TEMPLATES=templates_with(bytecode_cache=options)):
        yield engines["jinja2"].env.bytecode_cache
