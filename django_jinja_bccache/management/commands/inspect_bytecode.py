"""``manage.py inspect_bytecode``: what the caches hold, and why a template is not among it."""

from __future__ import annotations

import sys
import textwrap
from dataclasses import asdict
from datetime import datetime
from typing import Any

from django.core.management.base import CommandError, CommandParser
from jinja2 import TemplateNotFound

from django_jinja_bccache.discovery import CachedEngine
from django_jinja_bccache.exceptions import BytecodeCacheError
from django_jinja_bccache.explaining import Explanation, explain
from django_jinja_bccache.inspection import Coverage, InspectReport, Inventory, inspect
from django_jinja_bccache.management.base import BROKEN, USAGE, EngineCommand, amount, size

_FOUND = {"pack": "would be served from a pack", "entry": "would be served from its own entry"}


class Command(EngineCommand):
    help = (
        "Tells what the bytecode caches hold of each engine's templates, or with --explain why "
        "one template is served from its cache or is not. Nothing is changed. Exit code 0: "
        "done; 1: a store failed; 2: the arguments cannot be used."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument(
            "--explain",
            metavar="TEMPLATE",
            help="tell of this template whether it would be found, and if not, what differs "
            "from what the engine was warmed with last",
        )

    def handle(self, *_args: Any, **options: Any) -> None:
        engines = self.engines(options["engines"])
        if options["explain"] is not None:
            results = self._explain_all(engines, options)
        else:
            results = [self._run(engine, options) for engine in engines]
        ok = not any("error" in result for result in results)
        if options["format"] == "json":
            self.print_json({"ok": ok, "engines": results})
        if not ok:
            sys.exit(BROKEN)

    def _run(self, engine: CachedEngine, options: dict[str, Any]) -> dict[str, Any]:
        try:
            report = inspect(engine)
        except BytecodeCacheError as error:
            return self.cannot_use("the cache", engine, error)
        if options["format"] == "text" and options["verbosity"] > 0:
            self._print(report, options["verbosity"])
        return asdict(report) | {"ok": True}

    def _explain_all(
        self, engines: list[CachedEngine], options: dict[str, Any]
    ) -> list[dict[str, Any]]:
        template, results = options["explain"], []
        for engine in engines:
            try:
                explanation = explain(engine, template)
            except TemplateNotFound:
                continue
            except UnicodeDecodeError as error:
                raise CommandError(f"{template!r} is not text.", returncode=USAGE) from error
            except BytecodeCacheError as error:
                results.append(self.cannot_use("the cache", engine, error))
                continue
            if options["format"] == "text" and options["verbosity"] > 0:
                self._print_explanation(explanation)
            differences = [each._asdict() for each in explanation.differences]
            results.append(asdict(explanation) | {"differences": differences, "ok": True})
        if not results:
            names = ", ".join(engine.name for engine in engines)
            raise CommandError(f"No template {template!r} in {names}.", returncode=USAGE)
        return results

    def _print(self, report: InspectReport, verbosity: int) -> None:
        self.stdout.write(f"{report.engine}: {report.cache}")
        if report.remark:
            self._sentence(report.remark)
        self._row("templates", f"{report.templates:,}")
        for what in ("stored", "stale", "missing", "broken"):
            names = getattr(report, what)
            self._row(f"  {what}", f"{len(names):,}")
            if verbosity > 1 and (what != "stored" or verbosity > 2):
                for name in names:
                    self.stdout.write(f"      {name}")
        if report.inventory is None:
            self._row("in the store", "it cannot list its keys")
        else:
            self._print_inventory(report.inventory)
        if report.size is not None:
            limit = "" if report.max_size is None else f" of {size(report.max_size)}"
            self._row("whole store", size(report.size) + limit)
        self._print_published(report.published)

    def _sentence(self, text: str) -> None:
        indented = textwrap.wrap(text, 80, initial_indent="  ", subsequent_indent="  ")
        self.stdout.write("\n".join(indented))

    def _row(self, name: str, value: str) -> None:
        self.stdout.write(f"  {name:14}{value}")

    def _print_inventory(self, inventory: Inventory) -> None:
        entries = amount(inventory.entries, "entry")
        packs = amount(inventory.packs, "pack")
        refused = f", {inventory.refused:,} of them refused" if inventory.refused else ""
        self._row("in the store", f"{entries}, {size(inventory.entry_bytes)}{refused}")
        self._row("", f"{packs}, {size(inventory.pack_bytes)}")
        for name, when in (
            ("  oldest", inventory.oldest),
            ("  newest", inventory.newest),
            ("  last read", inventory.last_access),
        ):
            if when is not None:
                self._row(name, _text(when))

    def _print_published(self, published: list[Coverage]) -> None:
        if not published:
            self._row("published", "nothing")
            return
        heads = ("stored", "stale", "missing", "packs")
        columns = "".join(f"{head:>9}" for head in heads)
        self.stdout.write(f"  {'published':25}{columns}  release")
        for coverage in published:
            packs = f"{coverage.packs - coverage.lost:,}/{coverage.packs:,}"
            mark = "*" if coverage.serves else " "
            self.stdout.write(
                f"{mark} {_text(coverage.created):25}{coverage.stored:9,}{coverage.stale:9,}"
                f"{coverage.missing:9,}{packs:>9}  {coverage.release or '-'}"
            )
        if any(coverage.serves for coverage in published):
            self.stdout.write("* is what this process would be served from")

    def _print_explanation(self, explanation: Explanation) -> None:
        verdict = _FOUND.get(explanation.found, "would be compiled")
        when = f", stored {_text(explanation.created)}" if explanation.created else ""
        self.stdout.write(f"{explanation.engine}: {explanation.template}: {verdict}{when}")
        if explanation.reason:
            self._sentence(explanation.reason)
        for name, value in explanation.parts.items():
            self._row(name, value)
        if explanation.differences:
            when = f", {_text(explanation.warmed)}" if explanation.warmed else ""
            what = "the release" if explanation.found == "pack" else f"what was warmed last{when}"
            self.stdout.write(f"  What differs from {what}:")
        for part, here, there in explanation.differences:
            self.stdout.write(f"    {part}")
            self.stdout.write(f"      here   {here}")
            self.stdout.write(f"      there  {there}")


def _text(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%d %H:%M:%S UTC")
