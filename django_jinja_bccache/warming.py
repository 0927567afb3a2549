"""Filling and checking caches: reports out, nothing printed."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress

from django_jinja_bccache.archive import Archive, Held, batches
from django_jinja_bccache.bytecode import Label
from django_jinja_bccache.compiling import Reference
from django_jinja_bccache.directories import named_directories, root_and_path
from django_jinja_bccache.discovery import CachedEngine, Source, exists, read_source
from django_jinja_bccache.exceptions import NotSupported, ReleaseChanged, StoreError
from django_jinja_bccache.fingerprint import escapes, summary
from django_jinja_bccache.notes import note_newest, why_unpublished
from django_jinja_bccache.packs import Scope
from django_jinja_bccache.parallel import Compilers, Failure, failure_from
from django_jinja_bccache.publishing import Publishable, in_order, publish, refuse_change
from django_jinja_bccache.reports import Problem, Progress, WarmReport, unseen


def warm(
    engine: CachedEngine,
    *,
    include: Collection[str] = (),
    exclude: Collection[str] = (),
    dry_run: bool = False,
    jobs: int = 1,
    force: bool = False,
    progress: Progress = unseen,
) -> WarmReport:
    """Compile and store every template of an engine that is not stored yet, and publish them.

    With ``include`` nothing is published: packs hold all templates.

    Args:
        engine: The engine.
        include: Patterns of the templates' names; all templates if empty.
        exclude: Patterns of names to leave out.
        dry_run: Whether to change nothing and only tell what would be compiled.
        jobs: How many processes compile, 0 for as many as there are processors.
        force: Whether a published release may get other content.
        progress: Called with how many templates more are done, and how many there are.

    Raises:
        ReleaseChanged: The release is published with other content, also with ``dry_run``.
        StoreError: The store failed.
    """
    with Compilers(engine, jobs) as compilers:
        warming = _Warming(engine, compilers, write=not dry_run, force=force)
        report = warming.run(include, exclude, progress)
    report.jobs, report.remark = compilers.jobs, compilers.remark
    return report


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
    with Compilers(engine) as compilers:
        return _Warming(engine, compilers, write=False, fills=False).run(include, exclude)


class _Warming:
    """One run over one engine's templates.

    Args:
        engine: The engine.
        compilers: What compiles its templates.
        write: Whether to store anything.
        fills: Whether what is not stored counts as compiled, else as missing. It is compiled
            either way, to tell what would keep it from being stored.
        force: Whether a published release may get other content.
    """

    def __init__(
        self,
        engine: CachedEngine,
        compilers: Compilers,
        *,
        write: bool,
        fills: bool = True,
        force: bool = False,
    ) -> None:
        self._engine = engine
        self._compilers = compilers
        self._force = force
        self._write = write
        self._fills = fills
        self._report = WarmReport(engine.name)
        self._references: list[tuple[Source, Reference]] = []
        self._sizes: dict[str, int] = {}

    def run(
        self, include: Collection[str], exclude: Collection[str], progress: Progress = unseen
    ) -> WarmReport:
        began = time.perf_counter()
        report = self._report
        listing = self._engine.list_templates(include, exclude)
        report.passed_over += listing.passed_over
        report.unlistable += listing.unlistable
        keyed: list[tuple[str, Source]] = []
        waiting: Sequence[str] = listing.names
        known = set(waiting)
        self._compilers.progress = lambda count: progress(count, len(known))
        with Archive(self._engine.cache.storage) as archive:
            while waiting:
                for batch in batches(waiting):
                    found = self._sources(batch)
                    sources = [(self._engine.entry_key(item), item) for item in found]
                    self._warm_batch(archive, sources)
                    keyed += sources
                waiting = sorted(self._named().intersection(listing.left_to_others) - known)
                known.update(waiting)
            if report.bytes_stored:
                self._prove(archive, keyed)
            if not self._write and (
                report.missing or report.compiled or self._engine.cache.release
            ):
                with suppress(NotSupported):
                    archive.usage()  # fails with any node: what lies on one is not missing
            if not include:
                self._publish(archive, keyed)
        report.passed_over.sort()
        self._find_dangling(known)
        report.seconds = time.perf_counter() - began
        return report

    def _named(self) -> set[str]:
        """Return the names that the templates so far include, extend or import."""
        return {name for item in self._references for name in self._names(*item)}

    def _names(self, source: Source, reference: Reference) -> list[str]:
        return [self._engine.environment.join_path(name, source.name) for name in reference.names]

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
        to_compile: dict[str, Source] = {}
        for key, source in keyed:
            entry = held.get(key)
            if entry is not None and (entry.is_everywhere or self._fills):
                self._sizes[key] = entry.unsealed.size
                self._references += ((source, item) for item in entry.label.references)
                outcome = self._outcome_for(entry)
                outcome.append(source.template)
                if outcome is not self._report.present:
                    new[key] = bytes(entry.unsealed.payload), entry.label
            elif key in to_compile:  # the same source under the same name, behind another prefix
                self._report.present.append(source.template)
            else:
                to_compile[key] = source
        self._compilers.progress(len(keyed) - len(to_compile))
        new |= self._compile(to_compile)
        if self._write:
            self._store(archive, new, dict(keyed))

    def _outcome_for(self, held: Held) -> list[str]:
        """Return the list in the report for a template whose entry is held."""
        if not held.is_everywhere:
            return self._report.copied
        timeout = self._engine.cache.timeout
        young = timeout is None or time.time() - held.unsealed.created < timeout / 2
        return self._report.present if young and held.is_current else self._report.refreshed

    def _compile(self, sources: dict[str, Source]) -> dict[str, tuple[bytes, Label]]:
        compiled = {}
        outcomes = self._compilers.compile(list(sources.values()))
        for (key, source), outcome in zip(sources.items(), outcomes, strict=True):
            if isinstance(outcome, Failure):
                self._report.failed.append(Problem(source.template, *outcome))
            elif outcome is None:
                self._report.unshareable.append(source.template)
            else:
                payload, label = outcome
                self._references += ((source, item) for item in label.references)
                if self._fills:
                    self._report.compiled.append(source.template)
                    self._sizes[key] = len(payload)
                    compiled[key] = outcome
                else:
                    self._report.missing.append(source.template)
        return compiled

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

    def _publish(self, archive: Archive, keyed: Sequence[tuple[str, Source]]) -> None:
        """Put everything that is stored into packs, or tell what is not in them."""
        cache, report = self._engine.cache, self._report
        scope = cache.published.scope(self._engine.environment)
        templates = self._publishable(keyed)
        if not self._fills:
            report.unpublished = why_unpublished(
                archive,
                scope,
                templates if cache.packs else None,
                anything_missing=bool(report.missing),
            )
        elif cache.packs and templates:
            try:
                self._pack(archive, scope, templates)
            except ReleaseChanged as error:
                if not report.failed:
                    raise
                report.unpublished = str(error)  # what failed is to be told of, too
            except StoreError as error:
                report.unpublished = f"packs cannot be stored: {error}"

    def _publishable(self, keyed: Sequence[tuple[str, Source]]) -> list[Publishable]:
        environment = self._engine.environment
        directories = named_directories(environment.loader)
        gone = {*self._report.missing, *self._report.unshareable}
        gone.update(problem.template for problem in self._report.failed)
        return [
            Publishable(
                item.template,
                key,
                self._sizes.get(key, 0),
                *root_and_path(item.template, item.filename, directories),
                "" if item.name == item.template else item.name,
                escapes(environment, item.name),
            )
            for key, item in keyed
            if item.template not in gone
        ]

    def _pack(self, archive: Archive, scope: Scope, templates: Sequence[Publishable]) -> None:
        if not self._write:
            if scope.release and not self._force:
                refuse_change(archive, scope, templates)
            return
        references: dict[str, set[str]] = {}
        for source, reference in self._references:
            references.setdefault(source.template, set()).update(self._names(source, reference))
        items, lifetime = in_order(templates, references), self._engine.cache.timeout
        self._report.packs = publish(archive, scope, items, lifetime=lifetime, force=self._force)
        note_newest(archive, scope, summary(self._engine.environment), lifetime=lifetime)

    def _find_dangling(self, known: set[str]) -> None:
        environment = self._engine.environment
        for source, reference in self._references:
            if reference.optional:
                continue
            names = self._names(source, reference)
            if not any(name in known or exists(environment, name) for name in names):
                problem = f"names {' or '.join(map(repr, names))}, which does not exist"
                where = source.filename, reference.lineno
                self._report.dangling.append(Problem(source.template, problem, *where))

    def _fail(self, template: str, error: Exception, filename: str | None = None) -> None:
        self._report.failed.append(Problem(template, *failure_from(error, filename)))
