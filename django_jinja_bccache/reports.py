"""What warming tells."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

#: Told how many templates more are done, and how many there are.
Progress = Callable[[int, int], None]


def unseen(_count: int, _total: int) -> None:
    """Show no progress."""


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that keeps a template from being served from the cache.

    Attributes:
        template: The template's name.
        message: What is wrong.
        filename: The path of its file, None if it has none or none was found.
        lineno: The line, None if no single one is wrong.
    """

    template: str
    message: str
    filename: str | None = None
    lineno: int | None = None


@dataclass
class WarmReport:
    """What warming, or checking, found and did for one engine.

    Attributes:
        engine: The engine's NAME.
        templates: Names of the templates that were looked at.
        present: Those that were stored already.
        compiled: Those that were compiled; with ``dry_run`` those that would have been.
        copied: Those that only one of two tiers held, stored in both without compiling.
        refreshed: Those stored again without compiling: past half of their time-out, or
            sealed with a key that is on its way out.
        missing: Those that the store does not hold in the end.
        unshareable: Those whose code holds the output of a filter, because an extension
            needs it while compiling; they are compiled in each process.
        without_source: Those that their loader serves compiled already.
        passed_over: Names of hidden files, editors' backups and files that are not text.
        unlistable: Loaders that cannot tell their templates' names.
        failed: Templates that do not compile or cannot be stored.
        dangling: References to templates that do not exist.
        packs: How many packs were written.
        unpublished: Why nothing is published, the empty string if there is no reason to tell.
        jobs: How many processes compiled.
        remark: Why those were fewer than asked for, the empty string if they were not.
        bytes_stored: Bytes of bytecode that were stored.
        seconds: How long it took.
    """

    engine: str
    templates: list[str] = field(default_factory=list)
    present: list[str] = field(default_factory=list)
    compiled: list[str] = field(default_factory=list)
    copied: list[str] = field(default_factory=list)
    refreshed: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    unshareable: list[str] = field(default_factory=list)
    without_source: list[str] = field(default_factory=list)
    passed_over: list[str] = field(default_factory=list)
    unlistable: list[str] = field(default_factory=list)
    failed: list[Problem] = field(default_factory=list)
    dangling: list[Problem] = field(default_factory=list)
    packs: int = 0
    unpublished: str = ""
    jobs: int = 1
    remark: str = ""
    bytes_stored: int = 0
    seconds: float = 0.0

    @property
    def ok(self) -> bool:
        """Whether every template is stored, and names none that does not exist."""
        return not (self.missing or self.failed or self.dangling or self.unpublished)
