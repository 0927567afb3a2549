"""Django's Jinja2 template backend, with a bytecode cache."""

from __future__ import annotations

from typing import Any

from django.template.backends import jinja2 as django_jinja2

from django_jinja_bccache.bccache import StoreBytecodeCache
from django_jinja_bccache.conf import DEFAULT_ALIAS, bytecode_cache_from
from django_jinja_bccache.loader import ReleaseLoader
from django_jinja_bccache.published import engine_names


class Jinja2(django_jinja2.Jinja2):
    """Django's own Jinja2 backend, plus ``OPTIONS["bytecode_cache"]``.

    The option is an alias in CACHES, a dict with a cache's arguments, a dotted path, an instance,
    or None for no cache. Default: ``"default"``. All other OPTIONS are those of Django's backend
    and of ``jinja2.Environment``.

    Raises:
        ConfigurationError: The option cannot be used.
    """

    #: Tells the check at start-up that ``conf`` knows what this backend's option means.
    takes_bytecode_cache_option = True

    def __init__(self, params: dict[str, Any]) -> None:
        __traceback_hide__ = True
        options = dict(params["OPTIONS"])
        cache = bytecode_cache_from(
            options.pop("bytecode_cache", DEFAULT_ALIAS), engine=params["NAME"]
        )
        if cache is not None:
            options["bytecode_cache"] = cache
        super().__init__({**params, "OPTIONS": options})
        if isinstance(cache, StoreBytecodeCache):
            engine_names[self.env] = self.name
            if cache.release and self.env.loader is not None:
                # A factory may return an environment that has had one before.
                loader = getattr(self.env.loader, "source_loader", self.env.loader)
                self.env.loader = ReleaseLoader(loader, cache)
