"""``manage.py warm_bytecode``: compile and store what is not stored yet."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import Any

from django.core.management.base import CommandParser

from django_jinja_bccache.exceptions import BytecodeCacheError
from django_jinja_bccache.management.base import BROKEN, EngineCommand, amount, size
from django_jinja_bccache.warming import Problem, WarmReport, check, warm


class Command(EngineCommand):
    help = (
        "Compiles the Jinja2 templates whose bytecode is not stored yet, and stores it. "
        "Exit code 0: everything is stored; 1: something is missing or broken; 2: the "
        "arguments cannot be used."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        for option, meaning in (("include", "only templates"), ("exclude", "no templates")):
            parser.add_argument(
                f"--{option}",
                action="append",
                default=[],
                metavar="GLOB",
                help=f"{meaning} whose name matches, such as 'shop/*'; may be given several times",
            )
        what = parser.add_mutually_exclusive_group()
        what.add_argument(
            "--check",
            action="store_true",
            help="change nothing; exit with 1 unless every template is stored and valid",
        )
        what.add_argument(
            "--dry-run",
            action="store_true",
            help="change nothing; tell what would be compiled",
        )
        parser.add_argument(
            "--ignore-errors",
            action="store_true",
            help="exit with 0 although templates are missing or broken",
        )

    def handle(self, *_args: Any, **options: Any) -> None:
        patterns = {"include": options["include"], "exclude": options["exclude"]}
        reports = []
        for engine in self.engines(options["engines"]):
            try:
                if options["check"]:
                    report = check(engine, **patterns)
                else:
                    report = warm(engine, **patterns, dry_run=options["dry_run"])
            except BytecodeCacheError as error:
                raise self.failure(engine, error) from error
            reports.append(report)
            if options["format"] == "text":
                self._print(report, options)
        if options["format"] == "json":
            self.print_json(
                {
                    "ok": all(report.ok for report in reports),
                    "engines": [asdict(report) | {"ok": report.ok} for report in reports],
                }
            )
        if not options["ignore_errors"] and not all(report.ok for report in reports):
            sys.exit(BROKEN)

    def _print(self, report: WarmReport, options: dict[str, Any]) -> None:
        if options["verbosity"] > 0:
            self.stdout.write(f"{report.engine}: {self._summary(report, options)}")
            for line in self._remarks(report):
                self.stdout.write(f"  {line}")
        if options["verbosity"] > 1:
            for verb in ("compiled", "refreshed", "present"):
                for template in getattr(report, verb):
                    self.stdout.write(f"  {verb:9} {template}")
        for problem in (*report.failed, *report.dangling):
            self.problem(f"{report.engine}: {_located(problem)}: {problem.message}")
        for template in report.missing:
            self.problem(f"{report.engine}: {template}: not in the cache")

    def _summary(self, report: WarmReport, options: dict[str, Any]) -> str:
        templates = amount(len(report.templates), "template")
        stored = f"{len(report.present):,} stored already"
        if options["check"]:
            return f"{templates}, {stored}, {len(report.missing):,} missing"
        if options["dry_run"]:
            return f"{templates}, {stored}, {len(report.compiled):,} to compile"
        return (
            f"{templates}, {stored}, {len(report.compiled):,} compiled, "
            f"{size(report.bytes_stored)} in {report.seconds:.1f} s"
        )

    def _remarks(self, report: WarmReport) -> list[str]:
        remarks = {
            "stored again, past half of their time-out or sealed with an old key": len(
                report.refreshed
            ),
            "passed over: hidden, backups or not text": len(report.passed_over),
            "served by a loader that has them compiled already": len(report.without_source),
            "not storable: an extension needs a filter's output while compiling": len(
                report.unshareable
            ),
        }
        lines = [f"{count:,} {remark}" for remark, count in remarks.items() if count]
        return lines + [
            f"{loader} cannot list its templates; they are stored when first used"
            for loader in report.unlistable
        ]


def _located(problem: Problem) -> str:
    if problem.filename is None and problem.lineno is None:
        return problem.template
    place = problem.filename or "line"
    return f"{problem.template} ({place}{'' if problem.lineno is None else f':{problem.lineno}'})"
