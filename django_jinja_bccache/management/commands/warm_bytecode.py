"""``manage.py warm_bytecode``: compile and store what is not stored yet."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import CommandError, CommandParser
from django.template import engines

from django_jinja_bccache.checks import aliases_in_memory
from django_jinja_bccache.directories import named_directories
from django_jinja_bccache.discovery import CachedEngine
from django_jinja_bccache.exceptions import BytecodeCacheError, ReleaseChanged
from django_jinja_bccache.management.base import (
    BROKEN,
    USAGE,
    EngineCommand,
    amount,
    not_negative,
    progress_bar,
    size,
)
from django_jinja_bccache.reports import Problem, WarmReport
from django_jinja_bccache.warming import check, warm

_NOT_THERE = "no valid entry in the cache"
_NOT_IN_BOTH = "no valid entry in one of the two tiers"
_GONE = "stored, but gone from the cache"
# So many templates with the same problem are named one by one.
_FEW = 3


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
            "--jobs",
            type=not_negative,
            default=1,
            metavar="N",
            help="compile in N processes; 0 for as many as there are processors "
            "(default: %(default)s)",
        )
        parser.add_argument(
            "--force",
            action="store_true",
            help="let a published release get other content",
        )
        parser.add_argument(
            "--ignore-errors",
            action="store_true",
            help="exit with 0 although templates are missing or broken",
        )

    def handle(self, *_args: Any, **options: Any) -> None:
        if options["check"] and options["force"]:
            raise CommandError(
                "--check changes nothing, so --force is not for it.", returncode=USAGE
            )
        chosen = self.engines(options["engines"])
        for pattern in options["include"]:
            if not any(engine.list_templates([pattern]).names for engine in chosen):
                raise CommandError(f"No template matches {pattern!r}.", returncode=USAGE)
        results = [self._run(engine, options) for engine in chosen]
        ok = all(result["ok"] for result in results)
        if options["format"] == "json":
            self.print_json({"ok": ok, "engines": results})
        # What is not published is no template's fault.
        failed = any("error" in result or result.get("unpublished") for result in results)
        if failed or not (ok or options["ignore_errors"]):
            sys.exit(BROKEN)

    def _run(self, engine: CachedEngine, options: dict[str, Any]) -> dict[str, Any]:
        if not engine.cache.enabled:
            if _is_watched(options):
                self.stdout.write(f"{engine.name}: switched off in the process environment")
            return asdict(WarmReport(engine.name)) | {"ok": True}
        patterns = {"include": options["include"], "exclude": options["exclude"]}
        try:
            if options["check"]:
                report = check(engine, **patterns)
            else:
                with progress_bar(engine.name, wanted=_is_watched(options)) as progress:
                    report = warm(
                        engine,
                        **patterns,
                        dry_run=options["dry_run"],
                        jobs=options["jobs"],
                        force=options["force"],
                        progress=progress,
                    )
        except ReleaseChanged as error:
            return self.cannot_use("the release", engine, error)
        except BytecodeCacheError as error:
            return self.cannot_use("the cache", engine, error)
        if options["format"] == "text":
            self._print(engine, report, options)
        return asdict(report) | {"ok": report.ok}

    def _print(self, engine: CachedEngine, report: WarmReport, options: dict[str, Any]) -> None:
        if options["verbosity"] > 0:
            self.stdout.write(f"{report.engine}: {self._summary(report, options)}")
            for line in (*self._remarks(report, options), *_surprises(engine, report, options)):
                self.stdout.write(f"  {line}")
        if options["verbosity"] > 1:
            for verb, templates in self._listing(report, options).items():
                for template in templates:
                    self.stdout.write(f"  {verb:16}{template}")
        self._print_problems(report, every=options["verbosity"] > 1)
        if report.unpublished:
            self.problem(f"{report.engine}: {report.unpublished}")
        there_is_none = _NOT_IN_BOTH if engine.cache.nested_caches else _NOT_THERE
        missing = there_is_none if options["check"] else _GONE
        for template in report.missing:
            self.problem(f"{report.engine}: {template}: {missing}")

    def _print_problems(self, report: WarmReport, *, every: bool) -> None:
        # A store that takes nothing has the same to say of every template.
        alike = Counter(problem.message for problem in report.failed if problem.lineno is None)
        told: set[str] = set()
        for problem in (*report.failed, *report.dangling):
            more = alike[problem.message] - 1 if problem.lineno is None and not every else 0
            if more > _FEW and problem.message in told:
                continue
            text = f"{report.engine}: {problem.template}: {problem.message}"
            if more > _FEW:
                told.add(problem.message)
                text += f" (and {more:,} more templates: the same)"
            self.problem(text, _place(problem))

    def _summary(self, report: WarmReport, options: dict[str, Any]) -> str:
        templates = amount(len(report.templates), "template")
        stored = f"{len(report.present):,} stored already"
        if options["check"]:
            stored = f"{len(report.present) + len(report.refreshed):,} stored"
            return f"{templates}, {stored}, {len(report.missing):,} missing"
        if options["dry_run"]:
            return f"{templates}, {stored}, {len(report.compiled):,} to compile"
        packs = f", {amount(report.packs, 'pack')}" if report.packs else ""
        return (
            f"{templates}, {stored}, {len(report.compiled):,} compiled, "
            f"{size(report.bytes_stored)}{packs} in {report.seconds:.1f} s"
        )

    def _remarks(self, report: WarmReport, options: dict[str, Any]) -> list[str]:
        copied = "copied" if _writes(options) else "to copy"
        refreshed = "stored again" if _writes(options) else "to store again"
        remarks = {
            "failed": len(report.failed),
            "naming a template that does not exist": len(
                {item.template for item in report.dangling}
            ),
            _GONE: 0 if options["check"] else len(report.missing),
            f"{copied}: in one of the two tiers only": len(report.copied),
            f"{refreshed}: past half of their time-out, or sealed with an old key": len(
                report.refreshed
            ),
            "passed over: hidden, backups or not text": len(report.passed_over),
            "without source: their loader has them compiled already": len(report.without_source),
            "unshareable: an extension needs a filter's output while compiling": len(
                report.unshareable
            ),
        }
        lines = [f"{count:,} {remark}" for remark, count in remarks.items() if count]
        if report.remark:
            lines.append(f"--jobs made {report.jobs}: {report.remark}")
        return lines + [
            f"{loader} cannot list its templates: none of them was looked at"
            for loader in report.unlistable
        ]

    def _listing(self, report: WarmReport, options: dict[str, Any]) -> dict[str, list[str]]:
        writes = _writes(options)
        return {
            "compiled" if writes else "to compile": report.compiled,
            "copied" if writes else "to copy": report.copied,
            "stored again" if writes else "to store again": report.refreshed,
            "stored already": report.present,
            "unshareable": report.unshareable,
            "without source": report.without_source,
            "passed over": report.passed_over,
        }


def _surprises(engine: CachedEngine, report: WarmReport, options: dict[str, Any]) -> Iterator[str]:
    """Yield what somebody who has only just begun may not expect."""
    if not (report.templates or report.failed or report.unlistable):
        directories = named_directories(engine.environment.loader).values()
        yield "no template is in its directories:" if directories else "it has no directories"
        yield from (f"  {directory}" for directory in directories)
        if folder := _folder_in_apps(engine.name):
            yield f"with APP_DIRS an app's templates are in its folder {folder!r}"
    for alias in aliases_in_memory(engine.cache) if _writes(options) else ():
        yield f"no other process has it: CACHES[{alias!r}] is in this one's memory"


def _folder_in_apps(engine_name: str) -> str:
    try:
        return str(engines[engine_name].app_dirname)
    except (AttributeError, ImproperlyConfigured):  # its backend does not look into apps
        return ""


def _is_watched(options: dict[str, Any]) -> bool:
    return bool(options["format"] == "text" and options["verbosity"] > 0)


def _writes(options: dict[str, Any]) -> bool:
    return not (options["check"] or options["dry_run"])


def _place(problem: Problem) -> str:
    if problem.lineno is None:
        return problem.filename or ""
    return f"{problem.filename}:{problem.lineno}" if problem.filename else f"line {problem.lineno}"
