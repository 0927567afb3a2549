"""The loader that serves a published release without reading template source."""

from __future__ import annotations

import os
from collections.abc import Callable, MutableMapping
from typing import Any

from jinja2 import BaseLoader, Environment, Template
from jinja2.utils import internalcode

from django_jinja_bccache.bccache import StoreBytecodeCache
from django_jinja_bccache.compiling import NO_FILE
from django_jinja_bccache.directories import named_directories
from django_jinja_bccache.packs import Place


class ReleaseLoader(BaseLoader):
    """Serves what a cache's release holds, and leaves all else to another loader.

    No source file of a published template is opened, looked for or hashed. Names that are not
    published, a release that is not there, and environments with ``auto_reload`` take the
    ordinary path.

    Args:
        loader: The loader that the environment was given.
        cache: The environment's bytecode cache.
    """

    def __init__(self, loader: BaseLoader, cache: StoreBytecodeCache) -> None:
        #: The loader that reads sources.
        self.source_loader = loader
        self._cache = cache
        self._directories = {
            name: os.path.join(directory, "")
            for name, directory in named_directories(loader).items()
        }
        self.has_source_access = loader.has_source_access

    def get_source(
        self, environment: Environment, template: str
    ) -> tuple[str, str | None, Callable[[], bool] | None]:
        """Return what the other loader returns."""
        return self.source_loader.get_source(environment, template)

    def list_templates(self) -> list[str]:
        """Return what the other loader returns."""
        return self.source_loader.list_templates()

    @internalcode
    def load(
        self,
        environment: Environment,
        name: str,
        globals: MutableMapping[str, Any] | None = None,  # noqa: A002 - Jinja2's name
    ) -> Template:
        """Return the published template, or else what the other loader returns."""
        found = (
            None if environment.auto_reload else self._cache.published.released(environment, name)
        )
        if found is None:
            return self.source_loader.load(environment, name, globals)
        code, place = found
        code = code.replace(co_filename=self._filename(name, place))
        return environment.template_class.from_code(
            environment, code, {} if globals is None else globals, None
        )

    def _filename(self, name: str, place: Place) -> str:
        directory = self._directories.get(place.root)
        return NO_FILE if directory is None else f"{directory}{place.path or name}"
