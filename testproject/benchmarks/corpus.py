"""Real templates to measure with: Indico's, mkdocs-material's, or any number of made-up ones.

``python -m testproject.benchmarks.corpus`` fetches the real ones and says what there is.
"""

from __future__ import annotations

import argparse
import marshal
import sys
import tempfile
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

import jinja2
from jinja2.meta import find_referenced_templates

from testproject.benchmarks import synthetic as made_up
from testproject.benchmarks.environments import indico_environment, material_environment
from testproject.benchmarks.wheels import CorpusError, place_indico, place_material, unpacked

if TYPE_CHECKING:
    from collections.abc import Callable

DIRECTORY = Path(__file__).resolve().parent / ".corpus"
INDICO = "indico==3.2.9"
MATERIAL = "mkdocs-material==9.8.1"
SYNTHETIC = "synthetic-"


@dataclass(frozen=True)
class Corpus:
    """A site's templates on the disk, and the environment that compiles them."""

    name: str
    root: Path
    folders: tuple[Path, ...]
    factory: Callable[..., jinja2.Environment]

    def loader(self) -> jinja2.BaseLoader:
        return jinja2.FileSystemLoader(self.folders)

    def environment(self, **options) -> jinja2.Environment:
        """Return a new environment with the corpus's loader; ``options`` go first."""
        return self.factory(**({"loader": self.loader()} | options))

    @property
    def names(self) -> list[str]:
        return self.loader().list_templates()


def corpus(name: str) -> Corpus:
    """Return the corpus "indico" or "material", fetching it if need be.

    Raises:
        CorpusError: it is neither of the two, or its wheel cannot be had.
    """
    if name == "indico":
        return placed(name, unpacked(INDICO, DIRECTORY, place_indico))
    if name == "material":
        return placed(name, unpacked(MATERIAL, DIRECTORY, place_material))
    raise CorpusError(f'A corpus is "indico" or "material", not {name!r}.')


def synthetic(count: int, directory: Path) -> Corpus:
    """Write ``count`` made-up templates below ``directory``; each is about 10 KB of bytecode."""
    root = directory / f"{SYNTHETIC}{count}"
    for name, source in made_up.templates(count):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source, encoding="utf-8")
    return placed(root.name, root)


def placed(name: str, root: Path) -> Corpus:
    """Return a corpus whose templates are there already, in ``root``.

    Raises:
        CorpusError: there is no corpus of that name.
    """
    if name == "indico":
        # Flask asks the application's loader before those of the modules.
        folders = sorted(root.iterdir(), key=lambda folder: (folder.name != "web", folder.name))
        return Corpus(name, root, tuple(folders), indico_environment)
    if name == "material":
        return Corpus(name, root, (root,), material_environment)
    if name.startswith(SYNTHETIC):
        return Corpus(name, root, (root,), partial(jinja2.Environment, autoescape=True))
    raise CorpusError(f'A corpus is "indico", "material" or "synthetic-…", not {name!r}.')


@dataclass
class Report:
    """What compiling a whole corpus shows. Sizes are in bytes, the time in seconds."""

    name: str
    found: int = 0
    compiled: int = 0
    failed: list[str] = field(default_factory=list)
    unresolved: list[str] = field(default_factory=list)
    dynamic: int = 0
    source_size: int = 0
    bytecode_size: int = 0
    seconds: float = 0.0

    def lines(self) -> list[str]:
        return [
            f"{self.name}: {self.found} templates found",
            f"  {self.compiled} compiled, {len(self.failed)} failed, in {self.seconds:.2f} s",
            f"  {self.source_size:,} bytes of source, {self.bytecode_size:,} bytes of bytecode",
            f"  {len(self.unresolved)} unresolved references, {self.dynamic} dynamic ones",
            *(f"  failed: {failure}" for failure in self.failed),
            *(f"  unresolved: {reference}" for reference in self.unresolved),
        ]


def measure(corpus: Corpus) -> Report:
    """Compile each template and look up each template that it names."""
    environment = corpus.environment()
    names = corpus.names
    report = Report(corpus.name, found=len(names))
    for name in names:
        source, filename, _ = environment.loader.get_source(environment, name)
        report.source_size += len(source.encode())
        try:
            _compile(environment, name, source, filename, report)
        except jinja2.TemplateSyntaxError as error:
            report.failed.append(f"{name}, line {error.lineno}: {error.message}")
        else:
            _look_up_references(environment, name, source, set(names), report)
    return report


def _compile(
    environment: jinja2.Environment, name: str, source: str, filename: str | None, report: Report
) -> None:
    start = perf_counter()
    code = environment.compile(source, name, filename)
    report.seconds += perf_counter() - start
    report.compiled += 1
    report.bytecode_size += len(marshal.dumps(code))


def _look_up_references(
    environment: jinja2.Environment, name: str, source: str, known: set[str], report: Report
) -> None:
    for reference in find_referenced_templates(environment.parse(source, name)):
        if reference is None:
            report.dynamic += 1
        elif environment.join_path(reference, name) not in known:
            report.unresolved.append(f"{name} names {reference}")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help='"indico", "material"; without a name, both')
    parser.add_argument("--synthetic", type=int, metavar="COUNT", help="made-up templates too")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as directory:
        try:
            corpora = [corpus(name) for name in options.names or ("indico", "material")]
            if options.synthetic is not None:
                corpora.append(synthetic(options.synthetic, Path(directory)))
        except (CorpusError, ValueError) as error:
            print(error, file=sys.stderr)
            return 1
        reports = [measure(each) for each in corpora]
    print("\n".join(line for report in reports for line in report.lines()))
    return 1 if any(report.failed for report in reports) else 0


if __name__ == "__main__":
    sys.exit(main())
