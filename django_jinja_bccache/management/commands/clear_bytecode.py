"""``manage.py clear_bytecode``: remove what this package stored, and nothing else."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import Any

from django.core.management.base import CommandError, CommandParser

from django_jinja_bccache.clearing import ClearReport, Counted, clear, clear_stale
from django_jinja_bccache.discovery import CachedEngine
from django_jinja_bccache.exceptions import BytecodeCacheError, NotSupported
from django_jinja_bccache.management.base import (
    BROKEN,
    USAGE,
    EngineCommand,
    amount,
    not_negative,
    size,
)

_KEPT_RELEASES = 3


class Command(EngineCommand):
    help = (
        "Removes the Jinja2 bytecode that this site has stored. No other key or file is "
        "touched. Exit code 0: done; 1: a store failed; 2: the arguments cannot be used, or "
        "nobody said yes."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument(
            "--stale",
            action="store_true",
            help="keep the entries of the present templates, and what was published lately",
        )
        parser.add_argument(
            "--keep-releases",
            type=not_negative,
            metavar="N",
            help="only with --stale: keep the newest N publishes of each engine, beside the "
            f"present one (default: {_KEPT_RELEASES})",
        )
        parser.add_argument(
            "--dry-run",
            action="store_true",
            help="change nothing; tell what would be removed",
        )
        parser.add_argument(
            "--noinput",
            "--no-input",
            action="store_false",
            dest="interactive",
            help="do not ask for confirmation",
        )

    def handle(self, *_args: Any, **options: Any) -> None:
        if options["keep_releases"] is None:
            options["keep_releases"] = _KEPT_RELEASES
        elif not options["stale"]:
            raise CommandError(
                "--keep-releases goes with --stale; without that, everything is removed.",
                returncode=USAGE,
            )
        engines = self.engines(options["engines"])
        if options["interactive"] and not options["dry_run"]:
            self._confirm(engines, stale=options["stale"])
        counted: Counted = set()
        results = [self._run(engine, options, counted) for engine in engines]
        ok = all(result["ok"] for result in results)
        if options["format"] == "json":
            self.print_json({"ok": ok, "engines": results})
        if not ok:
            sys.exit(BROKEN)

    def _confirm(self, engines: list[CachedEngine], *, stale: bool) -> None:
        what = "the stale" if stale else "all"
        names = ", ".join(engine.name for engine in engines)
        question = f"Remove {what} bytecode of {names} from the cache? [y/N] "
        # Standard output is for the report, which may be a JSON document.
        self.stderr.write(question, style_func=str, ending="")
        self.stderr.flush()
        try:
            answer = input()
        except EOFError:
            self.stderr.write("")
            answer = ""
        if answer.strip().lower() not in {"y", "yes"}:
            raise CommandError(
                "Nothing was removed; --noinput removes without asking.", returncode=USAGE
            )

    def _run(
        self, engine: CachedEngine, options: dict[str, Any], counted: Counted
    ) -> dict[str, Any]:
        others = [other for other in self.engines(()) if other.name != engine.name]
        how = {"others": others, "dry_run": options["dry_run"], "counted": counted}
        try:
            if options["stale"]:
                report = clear_stale(engine, keep_releases=options["keep_releases"], **how)
            else:
                report = clear(engine, **how)
        except BytecodeCacheError as error:
            cannot_list = options["stale"] and isinstance(error, NotSupported)
            return self.cannot_use("--stale" if cannot_list else "the cache", engine, error)
        if options["format"] == "text" and options["verbosity"] > 0:
            self._print(engine, report, dry_run=options["dry_run"])
        return asdict(report) | {"ok": True}

    def _print(self, engine: CachedEngine, report: ClearReport, *, dry_run: bool) -> None:
        verb = "would remove" if dry_run else "removed"
        packs = f" and {amount(report.packs, 'pack')}" if report.packs else ""
        self.stdout.write(
            f"{report.engine}: {verb} {amount(report.entries, 'entry')}{packs}, "
            f"{size(report.bytes)}"
        )
        if not report.listed:
            until = " until they expire" if engine.cache.timeout is not None else ""
            self.stdout.write(
                "  Only those of the present templates: this cache cannot list its keys.\n"
                f"  Older ones stay{until}."
            )
