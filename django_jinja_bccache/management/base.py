"""What the commands have in common."""

from __future__ import annotations

import io
import json
import os
import sys
import textwrap
from argparse import ArgumentTypeError
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from django_jinja_bccache.discovery import CachedEngine, cached_engines
from django_jinja_bccache.exceptions import BytecodeCacheError, UnknownEngine

_WIDTH = 80

#: Exit code: something is missing or broken.
BROKEN = 1
#: Exit code: the arguments cannot be used.
USAGE = 2
#: Exit code: Ctrl-C.
INTERRUPTED = 130


class EngineCommand(BaseCommand):
    """A command about the engines that use a bytecode cache of this package.

    It prints its report to standard output, as text or as one JSON document, and problems to
    standard error.
    """

    requires_system_checks: tuple[str, ...] = ()

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--engine",
            action="append",
            default=[],
            dest="engines",
            metavar="NAME",
            help="NAME of a template engine; may be given several times (default: all that "
            "use a bytecode cache of django_jinja_bccache)",
        )
        parser.add_argument(
            "--format",
            choices=["text", "json"],
            default="text",
            help="format of the report (default: %(default)s)",
        )

    def run_from_argv(self, argv: list[str]) -> None:
        """Run the command as ``manage.py`` does; print whatever the names of files are."""
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors="backslashreplace")
        try:
            try:
                super().run_from_argv(argv)
            finally:
                if sys.stdout is not None:
                    sys.stdout.flush()
        except BrokenPipeError:  # whoever read it is gone, such as head
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(BROKEN)

    def execute(self, *args: Any, **options: Any) -> str | None:
        """Run the command; Ctrl-C ends it in one line."""
        try:
            return super().execute(*args, **options)
        except KeyboardInterrupt:
            self.stderr.write("Interrupted. Nothing is half done: run it again to go on.")
            sys.exit(INTERRUPTED)

    def engines(self, names: Collection[str]) -> list[CachedEngine]:
        """Return the engines of these names, or all.

        Raises:
            CommandError: There is no such engine, or none at all.
        """
        try:
            engines = cached_engines(names)
        except UnknownEngine as error:
            message = (
                f"No engine {_quoted(error.names)} uses a bytecode cache.\n"
                f"There are: {_quoted(error.known)}."
            )
            raise CommandError(message, returncode=USAGE) from error
        if not engines:
            raise CommandError(
                "No template engine has a bytecode cache of django_jinja_bccache.\n"
                'See OPTIONS["bytecode_cache"] in TEMPLATES.',
                returncode=BROKEN,
            )
        return engines

    def cannot_use(
        self, what: str, engine: CachedEngine, error: BytecodeCacheError
    ) -> dict[str, Any]:
        """Print what of an engine cannot be used, and why; return the same for machines."""
        self.problem(f"{engine.name}: {what} cannot be used: {error}")
        return {"engine": engine.name, "ok": False, "error": str(error)}

    def print_json(self, document: Any) -> None:
        """Print a report for machines."""
        self.stdout.write(json.dumps(document, indent=2, default=datetime.isoformat))

    def problem(self, text: str, place: str = "") -> None:
        """Print a problem, and on a line of its own the place that it is about."""
        lines = textwrap.wrap(
            text, _WIDTH, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False
        )
        self.stderr.write("\n".join([*lines, *([f"  {place}"] if place else [])]))


@contextmanager
def progress_bar(title: str, *, wanted: bool) -> Iterator[Callable[[int, int], None]]:
    """Show on a terminal how far a command is, if tqdm is installed.

    Args:
        title: What stands before the bar.
        wanted: Whether there is to be one.

    Yields:
        What is to be told how many more are done, and how many there are.
    """
    try:
        from tqdm import tqdm
    except ImportError:
        wanted = False
    if not wanted:
        yield lambda _count, _total: None
        return
    # None has it look for a terminal itself.
    with tqdm(desc=title, unit=" templates", disable=None, leave=False) as bar:

        def advance(count: int, total: int) -> None:
            bar.total = total
            bar.update(count)

        yield advance


def not_negative(text: str) -> int:
    """Return an argument's number.

    Raises:
        argparse.ArgumentTypeError: It is none, or negative.
    """
    if not (text.isascii() and text.isdigit()):
        raise ArgumentTypeError(f"{text!r} is not accepted; it must be a number from 0 on")
    return int(text)


def _quoted(names: Sequence[str]) -> str:
    return ", ".join(repr(name) for name in names) or "none"


def amount(count: int, noun: str) -> str:
    """Return a count with its noun: ``1 template``, ``2 templates``."""
    plural = f"{noun[:-1]}ies" if noun.endswith("y") else f"{noun}s"
    return f"{count:,} {noun if count == 1 else plural}"


def size(count: int) -> str:
    """Return a number of bytes for people: ``812 B``, ``9.4 KB``, ``3.1 MB``, ``1.2 GB``."""
    for unit, bytes_in_it in (("GB", 1_000_000_000), ("MB", 1_000_000), ("KB", 1_000)):
        if count >= bytes_in_it:
            return f"{count / bytes_in_it:.1f} {unit}"
    return f"{count} B"
