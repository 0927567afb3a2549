"""Measure this package and its peers, side by side, each time in a new process.

The cores should have nothing else to do. Installed have to be the packages of the dependency
group "test", memcached and Redis.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from testproject.benchmarks import contenders, importing, measures, pages, restart, tables
from testproject.benchmarks.corpus import CorpusError, placed
from testproject.benchmarks.facts import facts
from testproject.benchmarks.ground import Ground, MeasuringError
from tests.servers.server import ServerError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from testproject.benchmarks.contenders import Contender

DOCS = Path(__file__).resolve().parents[2] / "docs"
PARTS = ("load", "pages", "warm", "fork", "growth", "restart", "import")
QUICK_PARTS = ("load", "pages", "warm", "fork")


def measure(
    corpus: str, wanted: Sequence[Contender], parts: Sequence[str], repeat: int
) -> dict[str, Any]:
    """Run the parts that are wanted; return all that was measured."""
    found: dict[str, Any] = {"facts": facts(repeat) | {"corpus": corpus}}
    paged = [contender for contender in wanted if contender.page]
    with Ground() as ground:
        site = ground.site(corpus)
        found["facts"]["templates"] = len(site.names)
        read = [*(wanted if "load" in parts else ()), *(paged if "pages" in parts else ())]
        measures.say(f"{corpus}: {len(site.names)} templates; filling the caches")
        forks = [measures.PRELOADED_MEMCACHED] if "fork" in parts else []
        left_out = ground.fill(site, [*read, *forks])
        found["left_out"] = left_out
        if "load" in parts:
            [found["load"]] = measures.in_turns(ground, site, wanted, repeat, "load", left_out)
        if "pages" in parts:
            chosen = pages.two_pages(placed(site.name, site.root))
            found["pages"] = chosen
            found["first"], found["later"] = measures.in_turns(
                ground, site, paged, repeat, "pages", left_out, pages=chosen
            )
        if "fork" in parts:
            found["fork"] = measures.forked(ground, site, repeat)
        if "warm" in parts:
            found["warm"] = measures.warms(ground, corpus, min(repeat, 3))
        if "restart" in parts:
            found["restart"] = restart.restarts(ground, repeat)
        if "import" in parts:
            found["import"] = importing.imports(repeat)
        if "growth" in parts:
            found["growth"] = measures.growth(ground, repeat)
        found["facts"]["round_trips"] = {
            f"{store} at {distance}": way.round_trip()
            for (store, distance), way in ground.distances.items()
            if store != "blank"
        }
    return found


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeat", type=int, help="how often each is measured (default: 5)")
    parser.add_argument(
        "--corpus",
        default="indico",
        help='"indico" (the default), "material" or "synthetic-COUNT", which needs no download',
    )
    parser.add_argument(
        "--quick", action="store_true", help="once, fewer contenders, no growth, no restart"
    )
    parser.add_argument(
        "--only", default="", metavar="TEXT", help="contenders whose name contains this"
    )
    parser.add_argument(
        "--parts",
        type=lambda text: text.split(","),
        help=f"some of these, separated by commas: {','.join(PARTS)}",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all numbers there")
    parser.add_argument(
        "--write", action="store_true", help="write docs/benchmarks.md, .json and the plots"
    )
    options = parser.parse_args(arguments)
    parts = options.parts or (QUICK_PARTS if options.quick else PARTS)
    if unknown := set(parts) - set(PARTS):
        parser.error(f"--parts: {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    repeat = options.repeat or (1 if options.quick else 5)
    wanted = contenders.chosen(quick=options.quick, only=options.only)
    if not wanted:
        parser.error(f"--only: no contender's name contains {options.only!r}")
    try:
        found = measure(options.corpus, wanted, parts, repeat)
    except (CorpusError, MeasuringError, ServerError) as error:
        print(error, file=sys.stderr)
        return 1
    print(tables.report(found))
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    if options.write:
        tables.write(found, DOCS)
    return 1 if found["left_out"] else 0


if __name__ == "__main__":
    sys.exit(main())
