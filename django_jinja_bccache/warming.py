"""Filling and checking caches: reports out, nothing printed."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field

from jinja2 import TemplateSyntaxError

from django_jinja_bccache.archive import Archive, Held, batches
from django_jinja_bccache.bytecode import Label, payload_of
from django_jinja_bccache.compiling import Reference, compile_template
from django_jinja_bccache.discovery import (
    CachedEngine,
    Source,
    exists,
    list_templates,
    read_source,
)


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
    bytes_stored: int = 0
    seconds: float = 0.0

    @property
    def ok(self) -> bool:
        """Whether every template is stored, and names none that does not exist."""
        return not (self.missing or self.failed or self.dangling)


def warm(
    engine: CachedEngine,
    *,
    include: Collection[str] = (),
    exclude: Collection[str] = (),
    dry_run: bool = False,
) -> WarmReport:
    """Compile and store every template of an engine that is not stored yet.

    Args:
        engine: The engine.
        include: Patterns of the templates' names; all templates if empty.
        exclude: Patterns of names to leave out.
        dry_run: Whether to change nothing and only tell what would be compiled.

    Raises:
        StoreError: The store failed.
    """
    return _Warming(engine, write=not dry_run).run(include, exclude)


def check(
    engine: CachedEngine, *, include: Collection[str] = (), exclude: Collection[str] = ()
) -> WarmReport:
    """Tell whether every template of an engine is stored and valid; change nothing.

    Args:
        engine: The engine.
        include: Patterns of the templates' names; all templates if empty.
        exclude: Patterns of names to leave out.

    Raises:
        StoreError: The store failed.
    """
    return _Warming(engine, write=False, fills=False).run(include, exclude)


class _Warming:
    """One run over one engine's templates.

    Args:
        engine: The engine.
        write: Whether to store anything.
        fills: Whether what is not stored counts as compiled, else as missing. It is compiled
            either way, to tell what would keep it from being stored.
    """

    def __init__(self, engine: CachedEngine, *, write: bool, fills: bool = True) -> None:
        self._engine = engine
        self._write = write
        self._fills = fills
        self._report = WarmReport(engine.name)
        self._references: list[tuple[Source, Reference]] = []

    def run(self, include: Collection[str], exclude: Collection[str]) -> WarmReport:
        began = time.perf_counter()
        report = self._report
        listing = list_templates(self._engine.environment, include, exclude)
        report.passed_over += listing.passed_over
        report.unlistable += listing.unlistable
        keyed: list[tuple[str, Source]] = []
        with Archive(self._engine.cache.storage) as archive:
            for batch in batches(listing.names):
                sources = [(self._engine.entry_key(item), item) for item in self._sources(batch)]
                self._warm_batch(archive, sources)
                keyed += sources
            if self._write:
                self._prove(archive, keyed)
        report.passed_over.sort()
        self._find_dangling(set(listing.names))
        report.seconds = time.perf_counter() - began
        return report

    def _sources(self, templates: Sequence[str]) -> Iterator[Source]:
        for template in templates:
            try:
                source = read_source(self._engine.environment, template)
            except UnicodeDecodeError:
                self._report.passed_over.append(template)
                continue
            except Exception as error:  # noqa: BLE001 - a loader may raise anything
                self._fail(template, error)
                continue
            self._report.templates.append(template)
            if source is None:
                self._report.without_source.append(template)
            else:
                yield source

    def _warm_batch(self, archive: Archive, keyed: Sequence[tuple[str, Source]]) -> None:
        held = archive.read([key for key, _ in keyed])
        new: dict[str, tuple[bytes, Label]] = {}
        for key, source in keyed:
            entry = held.get(key)
            if entry is not None and (entry.is_everywhere or self._fills):
                self._references += ((source, item) for item in entry.label.references)
                outcome = self._outcome_for(entry)
                outcome.append(source.template)
                if outcome is not self._report.present:
                    new[key] = bytes(entry.unsealed.payload), entry.label
            elif key in new:  # the same source under the same name, behind another prefix
                self._report.present.append(source.template)
            else:
                self._compile_missing(key, source, new)
        if self._write:
            self._store(archive, new, dict(keyed))

    def _compile_missing(
        self, key: str, source: Source, new: dict[str, tuple[bytes, Label]]
    ) -> None:
        compiled = self._compile(source)
        if compiled is None:
            return
        if self._fills:
            self._report.compiled.append(source.template)
            new[key] = compiled
        else:
            self._report.missing.append(source.template)

    def _outcome_for(self, held: Held) -> list[str]:
        """Return the list in the report for a template whose entry is held."""
        if not held.is_everywhere:
            return self._report.copied
        timeout = self._engine.cache.timeout
        young = timeout is None or time.time() - held.unsealed.created < timeout / 2
        return self._report.present if young and held.is_current else self._report.refreshed

    def _compile(self, source: Source) -> tuple[bytes, Label] | None:
        try:
            compiled = compile_template(
                self._engine.environment, source.text, source.name, source.filename
            )
        except Exception as error:  # noqa: BLE001 - an extension may raise anything
            self._fail(source.template, error, source.filename)
            return None
        if not compiled.shareable:
            self._report.unshareable.append(source.template)
            return None
        self._references += ((source, item) for item in compiled.references)
        checksum = self._engine.cache.get_source_checksum(source.text)
        label = Label(source.name, checksum, compiled.references)
        return payload_of(compiled.code, source.name), label

    def _store(
        self,
        archive: Archive,
        entries: dict[str, tuple[bytes, Label]],
        sources: dict[str, Source],
    ) -> None:
        refused = archive.store(entries)
        for key, error in refused.items():
            self._fail(sources[key].template, error, sources[key].filename)
        self._report.bytes_stored += sum(
            len(payload) for key, (payload, _) in entries.items() if key not in refused
        )

    def _prove(self, archive: Archive, keyed: Sequence[tuple[str, Source]]) -> None:
        """Look whether everything is there now: a store may drop what it has accepted."""
        excused = {problem.template for problem in self._report.failed}
        excused.update(self._report.unshareable)
        expected = [(key, item.template) for key, item in keyed if item.template not in excused]
        held = archive.read([key for key, _ in expected])
        self._report.missing += [
            template
            for key, template in expected
            if key not in held or not held[key].is_everywhere
        ]

    def _find_dangling(self, known: set[str]) -> None:
        environment = self._engine.environment
        for source, reference in self._references:
            if reference.optional:
                continue
            names = [environment.join_path(name, source.name) for name in reference.names]
            if not any(name in known or exists(environment, name) for name in names):
                wanted = " or ".join(repr(name) for name in names)
                self._report.dangling.append(
                    Problem(
                        source.template,
                        f"names {wanted}, which does not exist",
                        source.filename,
                        reference.lineno,
                    )
                )

    def _fail(self, template: str, error: Exception, filename: str | None = None) -> None:
        lineno = None
        if isinstance(error, TemplateSyntaxError):
            filename, lineno = error.filename or filename, error.lineno
        message = getattr(error, "message", None) or str(error) or type(error).__name__
        self._report.failed.append(Problem(template, message, filename, lineno))
