"""``manage.py clear_bytecode``: remove what this package stored, and nothing else."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from django.core.management.base import CommandError, CommandParser

from django_jinja_bccache.clearing import ClearReport, clear, clear_stale
from django_jinja_bccache.discovery import CachedEngine
from django_jinja_bccache.exceptions import BytecodeCacheError
from django_jinja_bccache.management.base import USAGE, EngineCommand, amount, size


class Command(EngineCommand):
    help = (
        "Removes the Jinja2 bytecode that this site has stored. No other key or file is "
        "touched. Exit code 0: done; 1: a store failed; 2: the arguments cannot be used."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument(
            "--stale",
            action="store_true",
            help="keep the entries of the present templates",
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
        engines = self.engines(options["engines"])
        if options["interactive"] and not options["dry_run"]:
            self._confirm(engines, stale=options["stale"])
        reports = [self._clear(engine, engines, options) for engine in engines]
        if options["format"] == "json":
            self.print_json({"engines": [asdict(report) for report in reports]})
        elif options["verbosity"] > 0:
            for report in reports:
                self._print(report, dry_run=options["dry_run"])

    def _confirm(self, engines: list[CachedEngine], *, stale: bool) -> None:
        what = "the stale" if stale else "all"
        names = ", ".join(engine.name for engine in engines)
        try:
            answer = input(f"Remove {what} bytecode of {names} from the cache? [y/N] ")
        except EOFError:
            answer = ""
        if answer.strip().lower() not in {"y", "yes"}:
            raise CommandError(
                "Nothing was removed; --noinput removes without asking.", returncode=USAGE
            )

    def _clear(
        self, engine: CachedEngine, selected: list[CachedEngine], options: dict[str, Any]
    ) -> ClearReport:
        try:
            if options["stale"]:
                return clear_stale(engine, others=self.engines(()), dry_run=options["dry_run"])
            spare = [other for other in self.engines(()) if other not in selected]
            return clear(engine, spare=spare, dry_run=options["dry_run"])
        except BytecodeCacheError as error:
            raise self.failure(engine, error) from error

    def _print(self, report: ClearReport, *, dry_run: bool) -> None:
        verb = "would remove" if dry_run else "removed"
        self.stdout.write(
            f"{report.engine}: {verb} {amount(report.entries, 'entry')}, {size(report.bytes)}"
        )
        if not report.listed:
            self.stdout.write(
                "  The store cannot list its keys: these are the entries of the present "
                "templates, older ones stay until they expire."
            )
