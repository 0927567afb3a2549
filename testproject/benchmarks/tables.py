"""What a run has measured, as Markdown, JSON and plots."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from testproject.benchmarks import contenders as c
from testproject.benchmarks.plots import (
    FLOOR_COLOUR,
    OURS_COLOUR,
    PEER_COLOUR,
    Bar,
    milliseconds,
    plot,
)
from testproject.benchmarks.targets import (
    FLOOR,
    JINJA2_FILES,
    JINJA2_MEMCACHED,
    MISSED,
    TIMES,
    targets,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

ABOUT = """\
# Benchmarks

How long a new process takes to load its templates: with this package, with Jinja2's own bytecode
caches, with django-jinja's, and with Jinja2's `ModuleLoader`. The *floor* is what `marshal.loads`
and `Template.from_code` take for bytecode that is already in memory: no cache can be faster.

"""
HOW = """\
## How it is measured

- Each measurement is a process of its own. All contenders are measured once, in random order,
  then all of them again, so that a machine that slows down slows all of them. Tables show the
  median and, in parentheses, the quartiles.
- All contenders have the same environment: the filters, globals and options of the corpus,
  `cache_size=-1` and `auto_reload=False`. Imports, `django.setup()` and the creation of the
  environment are not timed; opening the store and connecting to it are. The garbage collector is
  left as each contender has it: only `preload()` pauses it, and there is a floor with a paused
  one.
- An earlier process has filled the caches. The column *compiled* says how many templates a
  process compiled nevertheless.
- A page is a template, all the templates that it uses and, up to 18, templates next to it. The
  later page is loaded after the first one, in the same process.
- "loopback" is a connection to the server itself. For "0.8 ms", a proxy in a process of its own
  delays what it passes on, until a round trip takes that long. "1 Gbit/s" also limits the rate
  in each direction. The proxy counts round trips and bytes, and its own work is part of the
  time.
- `ModuleLoader` imports Python modules, whose bytecode Python keeps in `.pyc` files. "without
  .pyc" is a process with `PYTHONDONTWRITEBYTECODE`, as on a read-only file system.
- Files are in the operating system's page cache.
- Modes of this package ("ours"): *release* serves what `warm_bytecode` has published, without
  reading sources. *source-checked* reads every source. With `packs=False`, each template is
  fetched by itself.
- `jinja2 MemcachedBytecodeCache` uses pymemcache's `Client(no_delay=True)`. django-jinja and
  this package use Django's `PyMemcacheCache` with the option `no_delay`.

## Run it yourself

```console
$ python -m testproject.benchmarks.run            # about ten minutes, on an idle machine
$ python -m testproject.benchmarks.run --quick    # less than a minute
$ python -m testproject.benchmarks.run --write    # writes this page, too
```

This needs the packages of the dependency group "test", memcached and Redis. The templates are
downloaded once; `--corpus synthetic-100` needs no download. `--help` lists all options.
"""


def report(run: dict[str, Any], *, plots: Iterable[str] = ()) -> str:
    """Return all tables of a run."""
    parts = [_facts(run["facts"])]
    parts += [f"**Left out:** {key}: {why}" for key, why in run.get("left_out", {}).items()]
    if "load" in run:
        title = f"All {run['facts']['templates']:,} templates of {run['facts']['corpus']}"
        parts += [f"## {title}", *_images(plots, "all"), _all_templates(run["load"])]
    for name, title in (("first", "The first page"), ("later", "A later page")):
        if name in run:
            page = run["pages"][name == "later"]
            about = f"`{page[0]}` and other templates, {len(page)} in all."
            parts += [f"## {title}", about, *_images(plots, name), _page(run[name])]
    if "warm" in run:
        parts += ["## warm_bytecode", WARM, _warm(run["warm"])]
    if "fork" in run:
        fork = run["fork"]
        parts += [
            "## Workers of a preloaded master",
            FORK.format(fork["loads"], fork["round_trips"], _time(fork)),
        ]
    if "restart" in run:
        parts += ["## Restart of gunicorn", RESTART, _restart(run["restart"])]
    if "import" in run:
        parts += ["## Import", IMPORT, _import(run["import"])]
    if "growth" in run:
        parts += ["## Growth", GROWTH, _growth(run["growth"])]
    if any(target.measured is not None for target in targets(run)):
        parts += ["## Targets", _targets(run), MISSED]
    return "\n\n".join(parts)


FORK = (
    "A worker that was forked after `preload()` has {} templates left to load, and makes {:.0f} "
    "round trips. It requests all templates in {}."
)
WARM = (
    "Over memcached at 0.8 ms, source-checked. The start of the interpreter and `django.setup()` "
    "are not included."
)
RESTART = (
    "From the start of gunicorn with one worker to the first byte of a page of the test project, "
    "including all imports."
)
IMPORT = (
    "By `python -X importtime`, in a process that has loaded Django, its Jinja2 backend and "
    "Jinja2 before."
)
GROWTH = (
    "Generated templates of about 10 KB of bytecode each, over memcached at 0.8 ms, as a release. "
    "Times are per template. Warming the larger site is measured once."
)


def write(run: dict[str, Any], directory: Path) -> None:
    """Write ``benchmarks.md``, ``benchmarks.json`` and ``benchmarks-*.svg``."""
    drawn = _plots(run)
    for name, svg in drawn.items():
        (directory / f"benchmarks-{name}.svg").write_text(svg, encoding="utf-8")
    text = f"{ABOUT}{report(run, plots=drawn)}\n\n{HOW}"
    (directory / "benchmarks.md").write_text(text, encoding="utf-8")
    numbers = json.dumps(run, indent=1)
    (directory / "benchmarks.json").write_text(f"{numbers}\n", encoding="utf-8")


def _facts(facts: dict[str, Any]) -> str:
    trips = ", ".join(
        f"{way}: {seconds * 1e3:.2f} ms" for way, seconds in facts.get("round_trips", {}).items()
    )
    packages = ", ".join(
        f"{name} {facts[name.lower()]}"
        for name in ("Python", "Django", "Jinja2", "pymemcache", "redis", "django-jinja")
    )
    return (
        f"Recorded on {facts['date']} with {packages}; {facts['memcached']}, "
        f"{facts['redis_server']}; zstd for packs: {facts['zstd']}; on {facts['cpu_count']} CPUs "
        f"({facts['cpu']}), {facts['system']}, with a load average of {facts['load_average']} "
        f"before the run. The corpus is {facts['corpus']}, with {facts['repeat']} measurements of "
        f"each contender. Round trips after the run: {trips}."
    )


def _targets(run: dict[str, Any]) -> str:
    rows = []
    for target in targets(run):
        sign = "≤ " if target.at_most else "≥ "
        shown = "not measured"
        if target.measured is not None:
            shown = (
                f"{target.measured:.2f}{target.unit}" if target.unit else f"{target.measured:g}"
            )
        bounds = [
            "" if bound is None else f"{sign}{bound:g}{target.unit} {_mark(target.reaches(bound))}"
            for bound in (target.must, target.aim)
        ]
        rows.append([target.what, shown, *(bound.rstrip() for bound in bounds)])
    return _table(["target", "measured", "must", "aim"], rows)


def _mark(reached: bool | None) -> str:
    return "" if reached is None else "✓" if reached else "✗"


def _all_templates(load: dict[str, Any]) -> str:
    rows = [
        [
            *_name(key),
            _time(row),
            _times(row, load.get(FLOOR)),
            _faster(row, load.get(JINJA2_FILES)),
            _faster(row, load.get(JINJA2_MEMCACHED)),
            _network(row),
            f"{row['memory'] / 2**20:.0f} (+{(row['memory'] - row['memory_before']) / 2**20:.0f})",
            _compiled(row),
        ]
        for key, row in load.items()
    ]
    head = ["cache", "store", "time", "against the floor", "faster than jinja2 files"]
    head += ["faster than jinja2 memcached", "round trips, KB", "peak memory, MiB", "compiled"]
    return _table(head, rows)


def _page(page: dict[str, Any]) -> str:
    rows = [
        [
            *_name(key),
            _time(row),
            _faster(row, page.get(JINJA2_FILES)),
            _faster(row, page.get(JINJA2_MEMCACHED)),
            _network(row),
            _compiled(row),
        ]
        for key, row in page.items()
    ]
    head = ["cache", "store", "time", "faster than jinja2 files"]
    return _table(
        [*head, "faster than jinja2 memcached", "round trips, KB", "compiled"],
        rows,
    )


def _warm(warm: dict[str, Any]) -> str:
    rows = [
        [
            label,
            _time(row),
            milliseconds(row["compiling"] * 1e3),
            f"{row['compiled']:,}",
            f"{row['round_trips']:.0f}",
        ]
        for label, row in warm.items()
    ]
    return _table(["warm", "time", "of that compiling", "compiled", "round trips"], rows)


def _restart(restart: dict[str, Any]) -> str:
    return _table(
        ["cache", "store", "first byte after"],
        [[*_name(key), _time(row)] for key, row in restart.items()],
    )


def _import(imports: dict[str, Any]) -> str:
    return _table(["import of", "time"], [[key, _time(row)] for key, row in imports.items()])


def _growth(growth: dict[str, Any]) -> str:
    rows = [
        [f"{int(size):,}", *(_time({"seconds": row[what]}) for what in ("warm", "preload"))]
        for size, row in growth.items()
    ]
    return _table(["templates", "warm, per template", "preload(), per template"], rows)


def _name(key: str) -> list[str]:
    who, _, where = key.partition(" @ ")
    return [who, where]


def _time(row: dict[str, Any]) -> str:
    seconds = row["seconds"]
    low, high = (milliseconds(seconds[end] * 1e3).removesuffix(" ms") for end in ("low", "high"))
    parts = milliseconds(seconds["median"] * 1e3), f"({low} to {high})"
    # A narrow column breaks between the two and nowhere else.
    return " ".join(part.replace(" ", "\N{NO-BREAK SPACE}") for part in parts)


def _faster(row: dict[str, Any], than: dict[str, Any] | None) -> str:
    return _ratio(than, row)


def _times(row: dict[str, Any], of: dict[str, Any] | None) -> str:
    return _ratio(row, of)


def _ratio(row: dict[str, Any] | None, by: dict[str, Any] | None) -> str:
    if row is None or by is None:
        return ""
    return f"{row['seconds']['median'] / by['seconds']['median']:.2f}{TIMES}"


def _network(row: dict[str, Any]) -> str:
    if "round_trips" not in row:
        return ""
    return f"{row['round_trips']:.0f}, {row['bytes'] / 1e3:,.0f}"


def _compiled(row: dict[str, Any]) -> str:
    return f"{row['compiled']:.0f}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _images(plots: Iterable[str], name: str) -> list[str]:
    return [f"![The times of the table below](benchmarks-{name}.svg)"] if name in plots else []


def _plots(run: dict[str, Any]) -> dict[str, str]:
    titles = {
        "all": ("load", f"All {run['facts']['templates']:,} templates in a new process"),
        "first": ("first", "The first page of a new process: 18 templates"),
        "later": ("later", "A later page: 18 templates"),
    }
    drawn = {}
    for name, (part, title) in titles.items():
        # Compiling takes so long that it would leave the others no length.
        bars = [
            Bar(
                key,
                *(row["seconds"][number] * 1e3 for number in ("median", "low", "high")),
                _colour(key),
            )
            for key, row in run.get(part, {}).items()
            if key != c.NONE and c.LOOPBACK not in key and c.SHAPED not in key
        ]
        if bars:
            drawn[name] = plot(title, bars)
    return drawn


def _colour(key: str) -> str:
    if key.startswith(c.FLOOR):
        return FLOOR_COLOUR
    return OURS_COLOUR if key.startswith(c.OURS) else PEER_COLOUR
