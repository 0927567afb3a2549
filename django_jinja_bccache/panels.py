"""A panel of Django Debug Toolbar: which templates a request loaded, and where from.

Put ``"django_jinja_bccache.panels.BytecodeCachePanel"`` into DEBUG_TOOLBAR_PANELS. No other module
needs the toolbar, which the extra ``debug-toolbar`` installs.
"""

# The toolbar is annotated only in part.
# mypy: allow-untyped-calls

from __future__ import annotations

import os
import threading
from collections.abc import Iterable
from contextvars import ContextVar
from dataclasses import asdict
from functools import partial
from typing import Any
from weakref import WeakSet

from debug_toolbar.panels import Panel
from django.http import HttpRequest, HttpResponse

from django_jinja_bccache.bccache import StoreBytecodeCache
from django_jinja_bccache.discovery import CachedEngine, cached_engines
from django_jinja_bccache.recording import Heard, Load, Recording, printable
from django_jinja_bccache.statistics import KEPT, Event

_DAY = 24 * 60 * 60
_SWITCH = "DJANGO_JINJA_BCCACHE"

_ORIGINS = (
    ("pack", "from packs"),
    ("store", "from the store"),
    ("local", "from the local tier"),
    ("shared", "from the shared tier"),
    ("compiled", "compiled"),
)
_TIMES = ("fetching", "loading", "compiling", "storing")
_SUMMED = [origin for origin, _ in _ORIGINS]
_SUMMED += [*_TIMES, "loads", "round_trips", "sized", "found", "down"]
_EXPLANATIONS = {
    "absent": "Nobody has stored this template's code yet, or the store has let go of it.",
    "corrupt": "The stored value is damaged.",
    "version": "The stored value is of another format, from another version of this package.",
    "signature": "The stored value is signed with a key that is none of this site's.",
    "store down": "The store failed, or is left alone for a while after it has failed.",
    KEPT: "An extension needed a filter's output to compile it, so nobody may share this code.",
}


_recording: ContextVar[Recording | None] = ContextVar("bytecode_cache_recording", default=None)
_listened_to: WeakSet[StoreBytecodeCache] = WeakSet()
_registering = threading.Lock()


class BytecodeCachePanel(Panel):
    """Shows for each template that a request loaded: from where, how fast, and why not faster."""

    title = "Bytecode cache"
    nav_icon = "debug_toolbar/img/cache.svg"  # type: ignore[assignment]
    template = "django_jinja_bccache/panel.html"
    is_async = True
    _recorded: Recording | None = None

    @property
    def nav_subtitle(self) -> str:
        """The request in one line."""
        total = self.get_stats().get("total", {})
        loads = total.get("loads", 0)
        if not loads:
            return "No template loaded"
        counts = [f"{loads} template{'' if loads == 1 else 's'}"]
        counts += [f"{total[origin]} {words}" for origin, words in _ORIGINS if total[origin]]
        line = ", ".join(counts)
        line += f" in {sum(total[time] for time in _TIMES):.1f} ms"
        return f"{line}, store down" if total["down"] else line

    def enable_instrumentation(self) -> None:
        """Record what the caches tell from now on, in this request's own context."""
        for engine in cached_engines():
            _listen_to(engine.cache)
        self._recorded = Recording()
        _recording.set(self._recorded)

    def disable_instrumentation(self) -> None:
        """Record nothing any more."""
        _recording.set(None)

    def generate_stats(self, request: HttpRequest, response: HttpResponse) -> None:  # noqa: ARG002
        """Hand the toolbar what was recorded.

        Args:
            request: The request.
            response: Its response.
        """
        recording = self._recorded or Recording()
        engines: dict[int, list[CachedEngine]] = {}
        for engine in cached_engines():
            engines.setdefault(id(engine.cache), []).append(engine)
        caches = [_cache_stats(each, recording.heard[key]) for key, each in engines.items()]
        reasons = {load["reason"] for cache in caches for load in cache["loads"]}
        self.record_stats(
            {
                "caches": caches,
                "total": _sum_of(cache["total"] for cache in caches),
                "explanations": [each for each in _EXPLANATIONS.items() if each[0] in reasons],
            }
        )

    def generate_server_timing(self, request: HttpRequest, response: HttpResponse) -> None:  # noqa: ARG002
        """Hand the toolbar the times for the header Server-Timing.

        Args:
            request: The request.
            response: Its response.
        """
        total = self.get_stats()["total"]
        for key in _TIMES:
            self.record_server_timing(key, f"Bytecode cache: {key}", round(total[key], 3))


def _listen_to(cache: StoreBytecodeCache) -> None:
    with _registering:
        if cache not in _listened_to:
            cache.listeners.append(partial(_hear, cache))
            _listened_to.add(cache)


def _hear(cache: StoreBytecodeCache, event: Event) -> None:
    if recording := _recording.get():
        recording.add(cache, event)


def _cache_stats(engines: list[CachedEngine], heard: Heard) -> dict[str, Any]:
    cache = engines[0].cache
    return {
        "engines": ", ".join(engine.name for engine in engines),
        "enabled": cache.enabled,
        "release": cache.release or "",
        "loads": [asdict(load) for load in heard.loads],
        "troubles": heard.troubles.most_common(),
        "total": _sum_of(map(_share_of, heard.loads)),
        "facts": [
            ("this process since its start", _process_rows(engines)),
            ("settings of its cache", _settings_rows(engines)),
        ],
    }


def _share_of(load: Load) -> dict[str, float]:
    return {
        "loads": 1,
        load.origin: 1,
        "fetching": load.fetching,
        "round_trips": load.round_trips,
        "loading": load.loading,
        "compiling": load.compiling or 0.0,
        "storing": load.storing or 0.0,
        "sized": load.size is not None,
        "found": load.origin in {"store", "local", "shared"},
        "down": load.reason == "store down",
    }


def _sum_of(shares: Iterable[dict[str, float]]) -> dict[str, float]:
    total: dict[str, float] = dict.fromkeys(_SUMMED, 0)
    for share in shares:
        for name, value in share.items():
            total[name] += value
    return total


def _process_rows(engines: list[CachedEngine]) -> list[tuple[str, str]]:
    counts = engines[0].cache.storage.recorder.snapshot(None, None)
    reasons = ", ".join(f"{count} {reason}" for reason, count in counts.miss_reasons.items())
    in_memory = sum(len(engine.environment.cache or ()) for engine in engines)
    return [
        ("Found", f"{counts.hits} of {counts.hits + counts.misses} ({counts.hit_ratio:.0%})"),
        ("Compiled", f"{counts.misses} ({reasons})" if reasons else f"{counts.misses}"),
        ("Stored", f"{counts.stores}"),
        ("Too large to store", f"{counts.oversize}"),
        ("Refused values", f"{counts.rejected}"),
        ("Failures of the store", f"{counts.errors}"),
        ("Templates in memory now", f"{in_memory}"),
    ]


def _settings_rows(engines: list[CachedEngine]) -> list[tuple[str, str]]:
    cache = engines[0].cache
    tiers = [getattr(cache, name) for name in cache.nested_caches] or [cache]
    return [
        ("Cache", printable(repr(cache))),
        ("prefix", printable(", ".join(repr(each.prefix) for each in tiers))),
        ("timeout", ", ".join(_duration(each.timeout) for each in tiers)),
        ("deadline", ", ".join(_duration(each.deadline) for each in tiers)),
        ("cooldown", ", ".join(_duration(each.cooldown) for each in tiers)),
        ("packs", _yes_or_no(cache.packs)),
        ("release", printable(cache.release or "none")),
        ("read_only", ", ".join(_yes_or_no(each.storage.read_only) for each in tiers)),
        ("ignore_errors", _yes_or_no(cache.ignore_errors)),
        ("auto_reload", ", ".join(_yes_or_no(each.environment.auto_reload) for each in engines)),
        (f"{_SWITCH} in the environment", os.environ.get(_SWITCH) or "not set"),
    ]


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return "for ever"
    return f"{seconds / _DAY:g} days" if seconds > _DAY else f"{seconds:g} s"


def _yes_or_no(value: bool) -> str:
    return "yes" if value else "no"
