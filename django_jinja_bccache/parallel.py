"""Compiling templates for the store, in several processes at once.

The workers are new interpreters, which inherit no client, lock or connection. They get their
work, and give it back, through a pipe of their own: what the settings print is not in it.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from typing import TYPE_CHECKING, NamedTuple

from django.conf import settings
from jinja2 import TemplateSyntaxError

from django_jinja_bccache.bytecode import Label, payload_of
from django_jinja_bccache.compiling import compile_template
from django_jinja_bccache.discovery import CachedEngine, Source, cached_engines
from django_jinja_bccache.fingerprint import fingerprint

if TYPE_CHECKING:
    from typing_extensions import Self

# How many templates a worker gets at once: enough that it seldom waits, little enough that all
# end together.
_AT_ONCE = 8
# Fewer templates than this are compiled before another process could begin.
_WORTH_A_WORKER = 50

# The first place to import from, with -c, is the present directory: whatever lies there is not
# among what the parent imports.
_WORKER = """
import sys
if not getattr(sys.flags, "safe_path", False):
    del sys.path[0]
from django_jinja_bccache.parallel import work
work()
"""


class Failure(NamedTuple):
    """Why a template does not compile.

    Attributes:
        message: What is wrong.
        filename: The path of the file, None if it has none.
        lineno: The line, None if no single one is wrong.
    """

    message: str
    filename: str | None
    lineno: int | None


#: Code to be stored; what is wrong; None for code that must stay in the process that compiled it.
Outcome = tuple[bytes, Label] | Failure | None


def failure_from(error: Exception, filename: str | None = None) -> Failure:
    """Return what is to be told of an error."""
    lineno = None
    if isinstance(error, TemplateSyntaxError):
        filename, lineno = error.filename or filename, error.lineno
    message = getattr(error, "message", None) or str(error) or type(error).__name__
    return Failure(message, filename, lineno)


def compile_source(engine: CachedEngine, source: Source) -> Outcome:
    """Compile one template for the store."""
    try:
        compiled = compile_template(engine.environment, source.text, source.name, source.filename)
    except Exception as error:  # noqa: BLE001 - an extension may raise anything
        return failure_from(error, source.filename)
    if not compiled.shareable:
        return None
    checksum = engine.cache.get_source_checksum(source.text)
    label = Label(source.name, checksum, compiled.references)
    return payload_of(compiled.code, source.name), label


class Compilers:
    """What compiles one engine's templates: this process, and workers that help it.

    Args:
        engine: The engine.
        jobs: How many processes in all, 0 for as many as there are processors.

    Attributes:
        jobs: How many processes there are.
        remark: Why they are not as many as were asked for.
        progress: Called with how many templates more have been compiled.
    """

    def __init__(self, engine: CachedEngine, jobs: int = 1) -> None:
        self._engine = engine
        self.progress: Callable[[int], None] = lambda _count: None
        self._wanted = jobs or len(os.sched_getaffinity(0))
        self._workers: list[_Worker] = []
        self.jobs = 1
        self.remark = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        for worker in self._workers:
            worker.stop()

    def compile(self, sources: Sequence[Source]) -> list[Outcome]:
        """Return what became of each source, in their order."""
        if self._wanted > self.jobs and len(sources) >= _WORTH_A_WORKER and not self.remark:
            self._start_workers()
        outcomes: dict[int, Outcome] = {}
        todo = deque(range(len(sources)))
        while todo or any(worker.numbers for worker in self._workers):
            for worker in self._workers:
                if todo and worker.is_idle:
                    numbers = [todo.popleft() for _ in range(min(_AT_ONCE, len(todo)))]
                    worker.give(numbers, [sources[number] for number in numbers])
            if todo:
                number = todo.pop()
                outcomes[number] = compile_source(self._engine, sources[number])
                self.progress(1)
            for worker in self._that_answered(at_once=bool(todo)):
                try:
                    answered = worker.answer()
                except _WorkerFailed as failed:
                    todo.extend(worker.numbers)
                    self._dismiss(worker, str(failed))
                    continue
                outcomes |= answered
                self.progress(len(answered))
        return [outcomes[number] for number in range(len(sources))]

    def _that_answered(self, *, at_once: bool) -> list[_Worker]:
        busy = [worker for worker in self._workers if not worker.is_idle]
        connections = [worker.connection for worker in busy]
        answered = wait(connections, timeout=0 if at_once else None) if busy else []
        return [worker for worker in busy if worker.connection in answered]

    def _start_workers(self) -> None:
        # settings.configure() and override_settings are invisible to another process.
        if getattr(settings, "SETTINGS_MODULE", None) is None:
            self.remark = "the settings are not a module that another process could import"
            return
        self._workers = [_Worker(self._engine) for _ in range(self._wanted - 1)]
        self.jobs = self._wanted

    def _dismiss(self, worker: _Worker, why: str) -> None:
        worker.stop()
        self._workers.remove(worker)
        self.jobs -= 1
        self.remark = why


class _WorkerFailed(Exception):
    """A worker is of no use (any more)."""


class _Worker:
    """Another process that compiles.

    Attributes:
        connection: The pipe to it.
        numbers: The numbers of the sources that it has.
        is_idle: Whether it waits for sources.
    """

    def __init__(self, engine: CachedEngine) -> None:
        self.connection, theirs = Pipe()
        self.numbers: list[int] = []
        self.is_idle = False  # before it has said that it would compile as this process does
        self._expected: str | None = fingerprint(engine.environment, engine.cache.salt)
        with theirs:
            descriptor = theirs.fileno()
            self._process = subprocess.Popen(  # noqa: S603 - nothing of it is a user's
                [sys.executable, "-c", _WORKER, str(descriptor), engine.name],
                env={
                    **os.environ,
                    "DJANGO_SETTINGS_MODULE": settings.SETTINGS_MODULE,
                    "PYTHONPATH": os.pathsep.join(sys.path),
                    "PYTHONOPTIMIZE": str(sys.flags.optimize or ""),
                },
                pass_fds=[descriptor],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C is for its parent, which ends it
            )

    def give(self, numbers: list[int], sources: list[Source]) -> None:
        """Have it compile sources."""
        self.numbers, self.is_idle = numbers, False
        with suppress(OSError):  # it is gone, as its answer will tell
            self.connection.send(sources)

    def answer(self) -> dict[int, Outcome]:
        """Return what became of the sources that it had.

        Raises:
            _WorkerFailed: It is gone, or would compile otherwise than this process.
        """
        try:
            answer = self.connection.recv()
        except (EOFError, OSError):
            raise _WorkerFailed("a process that compiled templates ended early") from None
        if self._expected is not None:
            if answer != self._expected:
                raise _WorkerFailed("another process would have other options of the environment")
            self._expected = None
        outcomes = dict(zip(self.numbers, answer, strict=False))
        self.numbers, self.is_idle = [], True
        return outcomes

    def stop(self) -> None:
        """Let it end."""
        self.connection.close()
        self._process.terminate()
        self._process.wait()


def work() -> None:
    """Compile what comes through the pipe until it is closed: a worker's whole life."""
    import django

    connection = Connection(int(sys.argv[1]))
    django.setup()
    [engine] = cached_engines([sys.argv[2]])
    connection.send(fingerprint(engine.environment, engine.cache.salt))
    while True:
        try:
            sources: list[Source] = connection.recv()
        except EOFError:
            return
        connection.send([compile_source(engine, source) for source in sources])
