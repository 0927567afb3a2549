"""What a contender does in its own process, told by one line of JSON and telling in such lines.

After each line of its own the process waits for one of its reader's, who looks at the proxy's
counters meanwhile. Everything is imported, and Django set up, before a clock starts.
"""

from __future__ import annotations

import gc
import json
import marshal
import os
import sys
import time
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import django
import jinja2

from testproject.benchmarks import contenders
from testproject.benchmarks.corpus import Corpus, placed
from testproject.benchmarks.process import (
    compiled,
    count_compilations,
    import_all,
    peak_memory,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

MODULE_PREFIX = ("_jinja2_module_templates", "tmpl_")


class Opened:
    """A contender's environment, and what loads a template into it.

    Attributes:
        environment: The environment.
        load: Loads one template.
        preload: What is done before the first template, under the clock.
    """

    def __init__(
        self,
        environment: jinja2.Environment,
        *,
        load: Callable[[str], Any] | None = None,
        preload: Callable[[], Any] | None = None,
    ) -> None:
        self.environment = environment
        self.load = load or environment.get_template
        self.preload = preload

    def load_all(self, names: Sequence[str]) -> float:
        """Load templates; return the seconds that it took."""
        # Whatever came before this: a collection of it is nobody's cost.
        gc.collect()
        began = time.perf_counter()
        if self.preload:
            self.preload()
        for name in names:
            self.load(name)
        return time.perf_counter() - began


def open_contender(job: dict[str, Any]) -> Opened:
    """Return what a job's contender loads with."""
    kind, directory = job["kind"], Path(job["directory"])
    if kind == contenders.OURS:
        return _open_ours(job)
    if kind in {contenders.FLOOR, contenders.PAUSED_FLOOR}:
        return _open_floor(job)
    options: dict[str, Any] = {}
    if kind in {contenders.MODULES, contenders.BARE_MODULES}:
        options["loader"] = jinja2.ModuleLoader(directory)
    elif kind == contenders.JINJA2_FILES:
        options["bytecode_cache"] = jinja2.FileSystemBytecodeCache(str(directory))
    elif kind == contenders.JINJA2_MEMCACHED:
        from pymemcache.client.base import Client

        client = Client(job["address"], no_delay=True)
        options["bytecode_cache"] = jinja2.MemcachedBytecodeCache(client)
    elif kind == contenders.DJANGO_JINJA:
        from django_jinja.cache import BytecodeCache

        options["bytecode_cache"] = BytecodeCache("default")
    return Opened(_environment(job, **options))


def _open_ours(job: dict[str, Any]) -> Opened:
    from django.template import engines

    from django_jinja_bccache import preload

    environment = engines[job["corpus"]].env
    if job["mode"] == contenders.PRELOADED:
        return Opened(environment, preload=lambda: preload(job["corpus"]))
    return Opened(environment)


def _open_floor(job: dict[str, Any]) -> Opened:
    environment = _environment(job)
    stored: dict[str, bytes] = marshal.loads((Path(job["directory"]) / "floor").read_bytes())
    if job["kind"] == contenders.PAUSED_FLOOR:
        gc.disable()
    templates: dict[str, jinja2.Template] = {}

    def load(name: str) -> None:
        if name in templates:
            return
        code = marshal.loads(stored[name])
        templates[name] = environment.template_class.from_code(
            environment, code, environment.make_globals(None)
        )

    return Opened(environment, load=load)


def _corpus(job: dict[str, Any]) -> Corpus:
    return placed(job["corpus"], Path(job["root"]))


def _environment(job: dict[str, Any], **options: Any) -> jinja2.Environment:
    return _corpus(job).environment(**({"cache_size": -1, "auto_reload": False} | options))


def fill(job: dict[str, Any]) -> None:
    """Put everything where the contender will look for it."""
    kind, directory, names = job["kind"], Path(job["directory"]), job["names"]
    directory.mkdir(parents=True, exist_ok=True)
    if kind == contenders.OURS:
        tell(warm(job, jobs=1))
        return
    if kind == contenders.FLOOR:
        environment = _environment(job)
        stored = {}
        for name in names:
            source, filename, _ = environment.loader.get_source(environment, name)
            stored[name] = marshal.dumps(environment.compile(source, name, filename))
        # Others reuse it, and must not find half of it.
        unfinished = directory / "unfinished"
        unfinished.write_bytes(marshal.dumps(stored))
        unfinished.rename(directory / "floor")
    if kind in {contenders.MODULES, contenders.BARE_MODULES}:
        _environment(job).compile_templates(directory, zip=None, ignore_errors=False)
    # Python keeps the modules' bytecode when they are first imported, if it keeps any.
    opened = open_contender(job)
    if job["compiled"] and kind != contenders.FLOOR:
        _reuse(opened.environment, Path(job["compiled"]))
    tell({"seconds": opened.load_all(names)})


def _reuse(environment: jinja2.Environment, floor: Path) -> None:
    """Fill Jinja2's caches with what the floor's have compiled, which is the same and sooner."""
    stored = marshal.loads(floor.read_bytes())
    environment.compile = lambda source, name, filename: marshal.loads(stored[name])


def load(job: dict[str, Any]) -> None:
    """Load all templates."""
    opened = open_contender(job)
    before, modules = peak_memory(), set(sys.modules)
    seconds = opened.load_all(job["names"])
    tell(
        {
            "seconds": seconds,
            "compiled": len(compiled),
            "memory": peak_memory(),
            "memory_before": before,
            "imported": sorted(
                name for name in set(sys.modules) - modules if not name.startswith(MODULE_PREFIX)
            ),
        }
    )


def load_pages(job: dict[str, Any]) -> None:
    """Load the templates of one page, and then those of another."""
    opened = open_contender(job)
    for names in job["pages"]:
        tell({"seconds": opened.load_all(names), "compiled": len(compiled)})


def fork(job: dict[str, Any]) -> None:
    """Preload, fork, and load everything again in the child, which should have it all."""
    opened = open_contender(job)
    tell({"seconds": opened.load_all(job["names"])})
    recorder = opened.environment.bytecode_cache.storage.recorder
    before = _outcomes(recorder)
    opened.preload = None
    receiver, sender = os.pipe()
    pid = os.fork()
    if pid == 0:
        compiled.clear()
        seconds = opened.load_all(job["names"])
        loads = _outcomes(recorder) - before + len(compiled)
        os.write(sender, json.dumps({"seconds": seconds, "loads": loads}).encode())
        os._exit(0)
    os.close(sender)
    with open(receiver, encoding="utf-8") as answer:
        text = answer.read()
    os.waitpid(pid, 0)
    tell(json.loads(text))


def _outcomes(recorder: Any) -> int:
    return sum(recorder.count(kind) for kind in ("hit", "miss", "store", "error", "unshareable"))


def warm_once(job: dict[str, Any]) -> None:
    tell(warm(job, jobs=job["jobs"]))


def warm(job: dict[str, Any], *, jobs: int) -> dict[str, Any]:
    """Run ``warm_bytecode``; return its own time, and that of compiling alone."""
    from django.core.management import call_command

    from django_jinja_bccache.parallel import Compilers

    compiling = 0.0
    original = Compilers.compile

    def timed(self: Compilers, sources: Any) -> Any:
        nonlocal compiling
        began = time.perf_counter()
        try:
            return original(self, sources)
        finally:
            compiling += time.perf_counter() - began

    Compilers.compile = timed
    output = StringIO()
    arguments = ["--engine", job["corpus"], "--format", "json", "--jobs", str(jobs)]
    try:
        call_command("warm_bytecode", *arguments, stdout=output)
    except SystemExit:
        raise RuntimeError(f"warm_bytecode failed: {output.getvalue()[-2000:]}") from None
    finally:
        Compilers.compile = original
    [report] = json.loads(output.getvalue())["engines"]
    return {
        "seconds": report["seconds"],
        "compiling": compiling,
        "compiled": len(report["compiled"]),
        "templates": len(report["templates"]),
        "jobs": report["jobs"],
    }


TASKS: dict[str, Callable[[dict[str, Any]], None]] = {
    "fill": fill,
    "load": load,
    "pages": load_pages,
    "fork": fork,
    "warm": warm_once,
}


def tell(result: dict[str, Any]) -> None:
    """Hand a result over, and go on when it has been read."""
    print(json.dumps(result), flush=True)
    sys.stdin.readline()


def main() -> None:
    job = json.loads(sys.stdin.readline())
    import_all()
    django.setup()
    count_compilations()
    TASKS[job["task"]](job)


if __name__ == "__main__":
    main()
