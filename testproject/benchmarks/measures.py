"""The measurements of a run: each a function over the ground, returning what the tables need."""

from __future__ import annotations

import statistics
import sys
from random import Random
from typing import TYPE_CHECKING, Any

from testproject.benchmarks import contenders
from testproject.benchmarks.contenders import NEAR, OURS, PRELOADED, Contender, Place
from testproject.benchmarks.ground import MeasuringError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from testproject.benchmarks.ground import Ground, Site

CHECKED_MEMCACHED = Contender(OURS, contenders.CHECKED, Place("memcached", NEAR))
PRELOADED_MEMCACHED = Contender(OURS, PRELOADED, Place("memcached", NEAR))
CHANGE = "\n{# changed #}\n"
SMALL, LARGE = 1_000, 10_000


def summary(values: Sequence[float]) -> dict[str, Any]:
    """Return the median and the quartiles of what was measured, and all of it."""
    ordered = sorted(values)
    low, _, high = (
        statistics.quantiles(ordered, n=4, method="inclusive") if len(ordered) > 1 else ordered * 3
    )
    return {
        "median": statistics.median(ordered),
        "low": low,
        "high": high,
        "values": list(values),
    }


def summaries(results: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return a summary of the seconds, and of all other numbers the median."""
    summarized: dict[str, Any] = {"seconds": summary([result["seconds"] for result in results])}
    for name, value in results[0].items():
        if name != "seconds" and isinstance(value, int | float):
            summarized[name] = statistics.median(result[name] for result in results)
    # One compilation in one of many runs is one too many.
    if "compiled" in results[0]:
        summarized["compiled"] = max(result["compiled"] for result in results)
    imported = {name for result in results for name in result.get("imported", ())}
    warnings = {result["warnings"] for result in results if result.get("warnings")}
    if imported:
        summarized["imported"] = sorted(imported)
    if warnings:
        summarized["warnings"] = sorted(warnings)
    return summarized


def say(message: str) -> None:
    print(message, file=sys.stderr, flush=True)


def in_turns(
    ground: Ground,
    site: Site,
    wanted: Sequence[Contender],
    repeat: int,
    task: str,
    left_out: dict[str, str],
    **job: Any,
) -> list[dict[str, Any]]:
    """Have every contender do a task once, and then all of them again.

    Returns:
        For each stage of the task the contenders' summaries. One that failed is in none of them,
        but in ``left_out``, with the reason.
    """
    results: dict[str, list[list[dict[str, Any]]]] = {contender.key: [] for contender in wanted}
    for turn in range(repeat):
        say(f"{task}: turn {turn + 1} of {repeat}")
        # Nobody has the same neighbours in each turn.
        for contender in Random(turn).sample(wanted, len(wanted)):
            if contender.key in left_out:
                continue
            try:
                results[contender.key].append(ground.measure(site, contender, task, **job))
            except MeasuringError as error:
                left_out[contender.key] = str(error)
    measured = {key: runs for key, runs in results.items() if key not in left_out}
    stages = max((len(runs[0]) for runs in measured.values()), default=0)
    return [
        {key: summaries([run[stage] for run in runs]) for key, runs in measured.items()}
        for stage in range(stages)
    ]


def warms(ground: Ground, name: str, repeat: int) -> dict[str, Any]:
    """Run ``warm_bytecode`` over an empty memcached, again, after a change, in two processes."""
    site = ground.site(name, "warms")
    changed = next(path for path in sorted(site.root.rglob("*.*")) if path.is_file())
    results: dict[str, list[dict[str, Any]]] = {}

    def warm(label: str, jobs: int = 1) -> None:
        results.setdefault(label, []).extend(_on_blank(ground, site, "warm", jobs=jobs))

    for turn in range(repeat):
        say(f"warm, turn {turn + 1} of {repeat}")
        ground.blank.flush()
        warm("from nothing")
        warm("nothing changed")
        text = changed.read_text(encoding="utf-8")
        changed.write_text(f"{text}{CHANGE}", encoding="utf-8")
        warm("one template changed")
        changed.write_text(text, encoding="utf-8")
        ground.blank.flush()
        warm("from nothing, --jobs 2", jobs=2)
    return {label: summaries(measured) for label, measured in results.items()}


def forked(ground: Ground, site: Site, repeat: int) -> dict[str, Any]:
    """Preload, fork, and count what a worker has left to do."""
    say("forked workers")
    stages = [
        ground.measure(site, PRELOADED_MEMCACHED, "fork")[1] for _ in range(max(1, repeat // 2))
    ]
    return summaries(stages) | {"loads": max(stage["loads"] for stage in stages)}


def growth(ground: Ground, repeat: int, sizes: Sequence[int] = (SMALL, LARGE)) -> dict[str, Any]:
    """Warm and preload sites of very unlike sizes; the seconds are those of one template."""
    found: dict[str, Any] = {}
    for size in sizes:
        say(f"growth: {size:,} templates")
        site = ground.site(f"synthetic-{size}")
        # The warm of a large site takes most of a minute.
        warmed = []
        for _ in range(min(repeat, 3) if size <= SMALL else 1):
            ground.blank.flush()
            warmed += _on_blank(ground, site, "warm", contender=PRELOADED_MEMCACHED, jobs=1)
        loaded = []
        for _ in range(repeat):
            loaded += _on_blank(ground, site, "load", contender=PRELOADED_MEMCACHED)
        found[str(size)] = {
            "warm": summary([result["seconds"] / size for result in warmed]),
            "preload": summary([result["seconds"] / size for result in loaded]),
            "compiled": max(result["compiled"] for result in loaded),
        }
    return found


def _on_blank(
    ground: Ground, site: Site, task: str, contender: Contender = CHECKED_MEMCACHED, **job: Any
) -> list[dict[str, Any]]:
    distance = ground.distances["blank", NEAR]
    return ground.measure(
        site, contender, task, address=distance.address, distance=distance, **job
    )
