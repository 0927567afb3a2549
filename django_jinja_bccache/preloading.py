"""Everything into this process at once: for a master that forks, or at start-up."""

from __future__ import annotations

import gc
import logging
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from django_jinja_bccache.discovery import CachedEngine, cached_engines

logger = logging.getLogger("django_jinja_bccache")


@dataclass(frozen=True, slots=True)
class PreloadReport:
    """What ``preload()`` has loaded for one engine.

    Attributes:
        engine: The engine's NAME.
        templates: The number of templates that are now in the environment's memory.
        compiled: The number of templates that had to be compiled.
        left_out: The number of templates that were not loaded, because the environment's
            ``cache_size`` is too small to keep them.
        failed: The names of the templates that cannot be loaded, each with the reason.
        seconds: How long it took.
    """

    engine: str
    templates: int = 0
    compiled: int = 0
    left_out: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0


def preload(*engine_names: str, templates: bool = True) -> list[PreloadReport]:
    """Load all templates of the engines into this process, from packs as far as possible.

    Call it in a master process before it forks, or when a process starts. A failure of the store
    raises nothing: what it cannot deliver is compiled. The garbage collector is paused meanwhile.

    Args:
        engine_names: The NAMEs of the engines. Default: all engines that use a bytecode cache of
            this package.
        templates: If False, fetch the first packs only, and load no template. Default: True.

    Returns:
        A report for each engine.

    Raises:
        UnknownEngine: An engine does not exist, or uses no bytecode cache of this package.
    """
    engines = cached_engines(engine_names)
    with _collector_paused():
        return [_preload(engine, templates=templates) for engine in engines]


def _preload(engine: CachedEngine, *, templates: bool) -> PreloadReport:
    began = time.perf_counter()
    environment, recorder = engine.environment, engine.cache.storage.recorder
    published = engine.cache.published.expect_all(environment)
    if not templates:
        return PreloadReport(engine.name, seconds=time.perf_counter() - began)
    names = published
    if not published or engine.cache.release is None or environment.auto_reload:
        listing = engine.list_templates()
        listed = {*listing.names, *listing.left_to_others}
        names = [name for name in published if name in listed]
        names += sorted(set(listing.names).difference(published))
    room = _room(engine)
    if len(names) > room:
        logger.warning(
            "Engine %r keeps %d templates, but has %d. Raise cache_size in its OPTIONS, or the "
            "others are loaded by each process, again and again.",
            engine.name,
            room,
            len(names),
        )
    failed: dict[str, str] = {}
    compiled_before = recorder.count("miss")
    for name in names[:room]:
        try:
            environment.get_template(name)
        except Exception as error:  # noqa: BLE001 - one broken template stops no start-up
            failed[name] = str(error) or type(error).__name__
    return PreloadReport(
        engine.name,
        templates=len(names[:room]) - len(failed),
        compiled=(
            recorder.count("miss") - compiled_before
            if engine.cache.enabled
            else len(names[:room]) - len(failed)
        ),
        left_out=len(names[room:]),
        failed=failed,
        seconds=time.perf_counter() - began,
    )


def _room(engine: CachedEngine) -> int:
    """Return how many templates the environment keeps."""
    cache = engine.environment.cache
    if cache is None:
        return 0
    # A plain dict has no limit.
    return int(getattr(cache, "capacity", sys.maxsize))


@contextmanager
def _collector_paused() -> Iterator[None]:
    """Keep the garbage collector from looking through what is only just being loaded."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            if hasattr(gc, "freeze") and not gc.get_freeze_count():
                # All that is new counts as old now: else it would be looked through at once.
                gc.freeze()
                gc.unfreeze()
            gc.enable()
