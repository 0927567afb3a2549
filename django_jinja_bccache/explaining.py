"""Why a template is served from the cache, or is not."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

from jinja2 import TemplateNotFound

from django_jinja_bccache.archive import Archive, moment
from django_jinja_bccache.discovery import CachedEngine, Source, read_source
from django_jinja_bccache.entry import unseal
from django_jinja_bccache.exceptions import EntryRejected
from django_jinja_bccache.fingerprint import FINGERPRINT_SIZE, summary
from django_jinja_bccache.loader import ReleaseLoader
from django_jinja_bccache.newest import Newest
from django_jinja_bccache.notes import newest_of
from django_jinja_bccache.packs import Scope
from django_jinja_bccache.parallel import Failure, compile_source
from django_jinja_bccache.publishes import holds, read_publishes

NOTHING = "(none)"
_REFUSED = {
    "corrupt": "it is damaged",
    "signature": "it was not signed with a key of this site",
    "version": "another version of Python or of this package made it",
}


class Difference(NamedTuple):
    """One part of a key that is not what it was when the engine was warmed last.

    Attributes:
        part: What differs.
        here: What it is in this process.
        there: What it was.
    """

    part: str
    here: str
    there: str


@dataclass
class Explanation:
    """Why a template is served from the cache, or is not.

    Attributes:
        engine: The engine's NAME.
        template: The template's name.
        key: Its entry key.
        parts: What the key is made of, by the names of its parts.
        found: Where it is found: ``pack``, ``entry`` or, if it is not, the empty string.
        created: When that was stored.
        reason: Why it is not found, or what is odd about what is, in a sentence; the empty
            string if there is nothing to say.
        differences: What of the key differs from what the engine was warmed with last, or from
            what the release holds.
        warmed: When the engine was warmed last; None if it is not known, or of no interest.
    """

    engine: str
    template: str
    key: str = ""
    parts: dict[str, str] = field(default_factory=dict)
    found: str = ""
    created: datetime | None = None
    reason: str = ""
    differences: list[Difference] = field(default_factory=list)
    warmed: datetime | None = None


def explain(engine: CachedEngine, template: str) -> Explanation:
    """Tell why a template of an engine is served from its cache, or is not.

    Args:
        engine: The engine.
        template: The template's name.

    Raises:
        jinja2.TemplateNotFound: The engine has no such template, nor has its release.
        UnicodeDecodeError: It is not text.
        StoreError: The store failed.
    """
    explanation = Explanation(engine.name, template)
    try:
        source = read_source(engine.environment, template)
    except TemplateNotFound:
        if not _is_released(engine, explanation):
            raise
        return explanation
    if source is None:
        explanation.reason = "Its loader has it compiled already: no cache is asked."
        return explanation
    bucket = engine.cache.empty_bucket(
        engine.environment, source.name, source.filename, source.text
    )
    explanation.key = engine.cache.entry_key(bucket)
    scope = engine.cache.published.scope(engine.environment)
    with Archive(engine.cache.storage) as archive:
        explanation.parts = {
            "environment": scope.fingerprint,
            "autoescape": "on" if bucket.key.endswith("+") else "off",
            "source": bucket.checksum,
            "signing keys": ", ".join(each.id for each in archive.signing_keys),
            "release": scope.release or NOTHING,
        }
        if not engine.cache.enabled:
            explanation.reason = "The cache is switched off in the process environment."
            return explanation
        _look(archive, engine, scope, explanation)
        if explanation.found != "pack" and not explanation.reason:
            _compare(archive, engine, scope, explanation)
        if not explanation.found:
            explanation.reason = _why_it_is_never_stored(engine, source) or explanation.reason
    return explanation


def _look(archive: Archive, engine: CachedEngine, scope: Scope, explanation: Explanation) -> None:
    """Find the template where a page would."""
    publish = read_publishes(archive, [scope.prefix]).get(scope.prefix)
    key = explanation.key
    if engine.cache.packs and publish is not None:
        if _serves_release(engine):
            key = publish.entry_keys.get(explanation.template, key)
        if holds(archive, publish, key):
            explanation.found, explanation.created = "pack", moment(publish.created)
    if not explanation.found:
        held = archive.read([key, explanation.key])
        if not held:
            return
        key = key if key in held else explanation.key
        explanation.found, explanation.created = "entry", moment(held[key].unsealed.created)
    if key != explanation.key:
        explanation.reason = (
            "Its source has changed since: the release is served as it was published."
        )
        explanation.differences = [_difference_of_sources(archive, explanation, key)]


def _is_released(engine: CachedEngine, explanation: Explanation) -> bool:
    """Say what a page would do with a template that has no source here; tell if it is served."""
    if not (engine.cache.enabled and engine.cache.packs and _serves_release(engine)):
        return False
    scope = engine.cache.published.scope(engine.environment)
    with Archive(engine.cache.storage) as archive:
        publish = read_publishes(archive, [scope.prefix]).get(scope.prefix)
        key = publish.entry_keys.get(explanation.template) if publish is not None else None
        if publish is None or key is None:
            return False
        if holds(archive, publish, key):
            explanation.found, explanation.created = "pack", moment(publish.created)
        elif (held := archive.read([key]).get(key)) is not None:
            explanation.found, explanation.created = "entry", moment(held.unsealed.created)
        else:
            return False
    explanation.key = key
    explanation.parts = {"environment": scope.fingerprint, "release": scope.release}
    explanation.reason = "It has no source here: the release is served as it was published."
    return True


def _serves_release(engine: CachedEngine) -> bool:
    """Tell whether pages are served from the cache's release, without a look at the source."""
    environment = engine.environment
    return isinstance(environment.loader, ReleaseLoader) and not environment.auto_reload


def _compare(
    archive: Archive, engine: CachedEngine, scope: Scope, explanation: Explanation
) -> None:
    """Say what differs from what the engine was warmed with last, and what follows from that."""
    newest = newest_of(archive, scope)
    if explanation.found:
        if newest is None or newest.fingerprint == scope.fingerprint or not engine.cache.packs:
            return
        explanation.reason = "It is not in a pack: another environment was warmed last."
    if newest is not None:
        explanation.warmed = moment(newest.created) if newest.fingerprint else None
        explanation.differences = list(_differences(archive, engine, scope, explanation, newest))
    explanation.reason = explanation.reason or _reason(archive, explanation, newest)


def _reason(archive: Archive, explanation: Explanation, newest: Newest | None) -> str:
    for reason in _refusals(archive, explanation.key):
        return f"What is stored under its key is refused: {_REFUSED[reason]}."
    if newest is None:
        return "It is not stored, and this engine has not been warmed."
    if explanation.differences:
        return "It is not stored under its present key."
    return "It was stored under its present key, and is gone: dropped, or never accepted."


def _why_it_is_never_stored(engine: CachedEngine, source: Source) -> str:
    """Return why nobody can store a template's code, the empty string if somebody can."""
    outcome = compile_source(engine, source)
    if outcome is None:
        return "It is never stored: an extension needs a filter's output while compiling."
    if not isinstance(outcome, Failure):
        return ""
    line = f", line {outcome.lineno}" if outcome.lineno is not None else ""
    return f"It does not compile: {outcome.message.rstrip('.')}{line}."


def _refusals(archive: Archive, key: str) -> Iterator[str]:
    for signing_key, value in archive.values(key):
        try:
            unseal(key, value, signing_key)
        except EntryRejected as rejected:
            yield rejected.reason


def _differences(
    archive: Archive,
    engine: CachedEngine,
    scope: Scope,
    explanation: Explanation,
    newest: Newest,
) -> Iterator[Difference]:
    if not newest.fingerprint:
        yield Difference("signing key", explanation.parts["signing keys"], newest.key_id)
        return
    if newest.fingerprint != scope.fingerprint:
        here, there = summary(engine.environment), newest.parts
        parts = [part for part in {**here, **there} if here.get(part) != there.get(part)]
        for part in parts:
            yield Difference(part, here.get(part, NOTHING), there.get(part, NOTHING))
        if not parts:
            yield Difference("salt", repr(engine.cache.salt), "another")
    then = Scope(scope.engine, newest.fingerprint, scope.release)
    publish = read_publishes(archive, [then.prefix]).get(then.prefix)
    if publish is None:  # the cache has no packs, or has them no more
        return
    key = publish.entry_keys.get(explanation.template)
    if key is None:
        yield Difference("template", "present", "not published")
    elif key[FINGERPRINT_SIZE:] != explanation.key[FINGERPRINT_SIZE:]:
        yield _difference_of_sources(archive, explanation, key)


def _difference_of_sources(archive: Archive, explanation: Explanation, key: str) -> Difference:
    """Return what differs between two keys of a template in the same environment."""
    held = archive.read([key]).get(key)
    now, before = explanation.parts["source"], held.label.checksum if held else "another"
    if now != before:
        return Difference("source", now, before)
    escapes = explanation.parts["autoescape"]
    return Difference("autoescape", escapes, "off" if escapes == "on" else "on")
