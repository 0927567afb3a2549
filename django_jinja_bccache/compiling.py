"""Compiling so that the result may be shared.

Jinja2 calls filters, tests and ``finalize`` on constants while it compiles, and keeps what
they return: ``{{ "css/app.css"|static }}`` becomes one release's address, ``{{ "Yes"|gettext }}``
one visitor's language. Bytecode that outlives the process must hold neither.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import CodeType, FunctionType
from typing import Any, NamedTuple

from jinja2 import Environment, nodes
from jinja2.compiler import CodeGenerator, Frame
from jinja2.utils import internalcode

from django_jinja_bccache.describing import is_plain
from django_jinja_bccache.fingerprint import is_builtin

#: What Jinja2 calls the file of a template that has none.
NO_FILE = "<template>"


class Reference(NamedTuple):
    """A template that another one names in ``extends``, ``include`` or ``import``.

    Attributes:
        names: The names, of which one has to exist.
        lineno: The line that names them.
        optional: Whether none of them need exist (``ignore missing``).
    """

    names: tuple[str, ...]
    lineno: int
    optional: bool


class Compiled(NamedTuple):
    """What became of a template's source.

    Attributes:
        code: The code object, with the local path as its file name.
        shareable: Whether it may be stored.
        references: The templates that it names by constants.
    """

    code: CodeType
    shareable: bool
    references: tuple[Reference, ...] = ()


@internalcode
def compile_template(
    environment: Environment, source: str, name: str, filename: str | None
) -> Compiled:
    """Compile a template as ``Environment.compile`` does, without what others' callables say.

    Raises:
        jinja2.TemplateSyntaxError: Jinja2's own, unchanged.
    """
    references: list[Reference] = []
    try:
        code = _compiled_on_twin(environment, references, source, name, filename)
    except Exception:  # noqa: BLE001 - an extension may raise anything
        code = None
    if code is not None:
        return Compiled(code, shareable=True, references=tuple(references))
    # Either the template is wrong, and Jinja2 says so itself now; or an extension needs what a
    # filter returns while it compiles, or the environment is not what it is known by: then the
    # code must stay in this process.
    return Compiled(environment.compile(source, name, filename), shareable=False)


def _compiled_on_twin(
    environment: Environment,
    references: list[Reference],
    source: str,
    name: str,
    filename: str | None,
) -> CodeType | None:
    """Return the code; None if the twin is not alike, or was given filters or tests meanwhile."""
    if _is_patched(environment):
        return None
    twin = _twin(environment, references)
    code = twin.compile(source, name, filename)
    is_complete = twin.filters.keys() == environment.filters.keys()
    return code if is_complete and twin.tests.keys() == environment.tests.keys() else None


def _is_patched(environment: Environment) -> bool:
    """Tell whether a method was replaced in this very environment: the twin would not have it."""
    kind = type(environment)
    return any(isinstance(getattr(kind, name, None), FunctionType) for name in vars(environment))


def with_filename(code: CodeType, filename: str) -> CodeType:
    """Return the code of a template, and of all functions in it, under another file name."""
    constants = tuple(
        with_filename(constant, filename) if isinstance(constant, CodeType) else constant
        for constant in code.co_consts
    )
    return code.replace(co_filename=filename, co_consts=constants)


def _twin(environment: Environment, references: list[Reference]) -> Environment:
    """Return a copy of the environment that folds no output but that of Jinja2's own code."""
    twin: Any = object.__new__(type(environment))
    twin.__dict__.update(environment.__dict__)
    twin.filters = _without_foreign(environment.filters)
    twin.tests = _without_foreign(environment.tests)
    twin.policies = {
        name: value if is_plain(value) else _impossible(value)
        for name, value in environment.policies.items()
    }
    if environment.finalize is not None:
        twin.finalize = _impossible(environment.finalize)
    if not is_builtin(environment.undefined):
        twin.undefined = _impossible(environment.undefined)
    # As for an overlay: what an extension asks its environment, it asks the twin.
    twin.extensions = {key: item.bind(twin) for key, item in environment.extensions.items()}
    recording = _recording(environment.code_generator_class)

    def code_generator(*args: Any, **kwargs: Any) -> CodeGenerator:
        generator = recording(*args, **kwargs)
        generator.references = references
        return generator

    twin.code_generator_class = code_generator
    result: Environment = twin
    return result


def _without_foreign(functions: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: function if function is None or is_builtin(function) else _impossible(function)
        for name, function in functions.items()
    }


def _impossible(function: Any) -> Callable[..., Any]:
    """Return what stands for a foreign callable: Jinja2 then leaves the call to the render."""

    def impossible(*_args: Any, **_kwargs: Any) -> Any:
        raise nodes.Impossible

    flag = getattr(function, "jinja_pass_arg", None)
    if flag is not None:
        impossible.jinja_pass_arg = flag  # type: ignore[attr-defined]
    return impossible


class _RecordsReferences(CodeGenerator):
    """A code generator that notes the templates that it passes."""

    references: list[Reference]

    def visit_Extends(self, node: nodes.Extends, frame: Frame) -> None:  # noqa: N802
        self._note(node, optional=False)
        super().visit_Extends(node, frame)

    def visit_Include(self, node: nodes.Include, frame: Frame) -> None:  # noqa: N802
        self._note(node, optional=node.ignore_missing)
        super().visit_Include(node, frame)

    def visit_Import(self, node: nodes.Import, frame: Frame) -> None:  # noqa: N802
        self._note(node, optional=False)
        super().visit_Import(node, frame)

    def visit_FromImport(self, node: nodes.FromImport, frame: Frame) -> None:  # noqa: N802
        self._note(node, optional=False)
        super().visit_FromImport(node, frame)

    def _note(
        self,
        node: nodes.Extends | nodes.Include | nodes.Import | nodes.FromImport,
        *,
        optional: bool,
    ) -> None:
        names = _constant_names(node.template)
        if names:
            self.references.append(Reference(names, node.lineno, optional))


_recording_types: dict[type[CodeGenerator], type[_RecordsReferences]] = {}


def _recording(base: type[CodeGenerator]) -> type[_RecordsReferences]:
    if base not in _recording_types:
        _recording_types[base] = type("Recording", (_RecordsReferences, base), {})
    return _recording_types[base]


def _constant_names(template: nodes.Expr) -> tuple[str, ...]:
    """Return the names that an expression gives, none unless all of them are constant."""
    if isinstance(template, nodes.List | nodes.Tuple):
        values = [getattr(item, "value", None) for item in template.items]
    else:
        value = getattr(template, "value", None)
        values = list(value) if isinstance(value, list | tuple) else [value]
    names = tuple(value for value in values if isinstance(value, str))
    return names if len(names) == len(values) else ()
