"""Extensions, filters and classes, and environments made with them."""

from collections.abc import Callable
from functools import partial
from gettext import NullTranslations
from typing import Any

from jinja2 import (
    Environment,
    Undefined,
    nodes,
    pass_context,
    pass_environment,
    pass_eval_context,
)
from jinja2.compiler import CodeGenerator
from jinja2.ext import Extension
from jinja2.sandbox import SandboxedEnvironment, SecurityError

#: Makes an environment out of its loader and its bytecode cache.
Make = Callable[..., Environment]


def having(change: Callable[[Environment], None], **options: Any) -> Make:
    """Make environments and then change each."""

    def make(**more: Any) -> Environment:
        environment = Environment(**options, **more)
        change(environment)
        return environment

    return make


def having_filter(function: Any, name: str = "mark") -> Make:
    return having(lambda environment: environment.filters.update({name: function}))


def having_test(function: Any) -> Make:
    return having(lambda environment: environment.tests.update(ripe=function))


def having_policy(name: str, value: Any) -> Make:
    return having(
        lambda environment: environment.policies.update({name: value}),
        extensions=["jinja2.ext.i18n"],
    )


def having_gettext(newstyle: bool) -> Make:
    return having(
        lambda environment: environment.install_gettext_translations(
            NullTranslations(), newstyle=newstyle
        ),
        extensions=["jinja2.ext.i18n"],
    )


def having_overlay(**options: Any) -> Make:
    def make(**more: Any) -> Environment:
        environment = Environment(**more)
        environment.get_template("first")
        return environment.overlay(**options)

    return make


def late(change: Callable[[Environment], None]) -> Make:
    """Make environments that load a template before they are changed."""

    def make(**more: Any) -> Environment:
        environment = Environment(**more)
        environment.get_template("first")
        change(environment)
        return environment

    return make


def having_indented_later(**more: Any) -> Environment:
    environment = Environment(**more)
    environment.policies["json.dumps_kwargs"] = {"sort_keys": True}
    environment.get_template("first")
    environment.policies["json.dumps_kwargs"]["indent"] = 1
    return environment


def greeting(words: Callable[[Extension], str]) -> Make:
    """Make environments with one and the same extension, but for the code of one method."""

    class Greeting(Extension):
        tags = frozenset({"greet"})

        def parse(self, parser):
            lineno = next(parser.stream).lineno
            return nodes.Output([nodes.TemplateData(self.words())]).set_lineno(lineno)

    Greeting.words = words
    return partial(Environment, extensions=[Greeting])


class Configured(Extension):
    """Does what an attribute of its environment says."""

    tags = frozenset({"greet"})

    def parse(self, parser):
        lineno = next(parser.stream).lineno
        return nodes.Output([nodes.TemplateData(self.environment.greeting)]).set_lineno(lineno)


class Rude(Configured):
    def parse(self, parser):
        lineno = next(parser.stream).lineno
        return nodes.Output([nodes.TemplateData("oi")]).set_lineno(lineno)


def configured(words: str, extension: type[Extension] = Configured) -> Make:
    return having(lambda environment: environment.extend(greeting=words), extensions=[extension])


class Folding(Extension):
    """Puts the value of an expression into the template, as compressors and sprites do."""

    tags = frozenset({"fold", "fold_by_parser", "fold_by_call"})

    def parse(self, parser):
        token = next(parser.stream)
        expression = parser.parse_expression()
        if token.value == "fold_by_call":
            value = self.environment.call_filter("static", expression.value)
        else:
            home = parser if token.value == "fold_by_parser" else self
            value = expression.as_const(nodes.EvalContext(home.environment))
        return nodes.Output([nodes.TemplateData(value)]).set_lineno(token.lineno)


def having_static(prefix: str) -> Make:
    return having(
        lambda environment: environment.filters.update(static=lambda path: prefix + path),
        extensions=[Folding],
    )


class Careful(SandboxedEnvironment):
    def call_binop(self, context, operator, left, right):
        raise SecurityError(f"no {operator} here")


def careful(*operators: str) -> Make:
    def make(**more: Any) -> Environment:
        environment = Careful(**more)
        environment.intercepted_binops = frozenset(operators)
        return environment

    return make


class Upper(Environment):
    def preprocess(self, source, name=None, filename=None):
        return super().preprocess(source, name, filename).upper()


class Shouting(CodeGenerator):
    def _output_const_repr(self, group):
        return repr("".join(map(str, group)).upper())


class Loud(Environment):
    code_generator_class = Shouting


class Wondering(Undefined):
    def __str__(self) -> str:
        return "?"


class Doubting(Undefined):
    def __str__(self) -> str:
        return "??"


def delete() -> str:
    return "deleted"


delete.unsafe_callable = True  # type: ignore[attr-defined]


@pass_context
def with_context(context, value="", *arguments):
    return f"{value} for {context['name']}"


@pass_eval_context
def with_eval_context(eval_context, value="", *arguments):
    return f"{value} escaped: {eval_context.autoescape}"


@pass_environment
def with_environment(environment, value="", *arguments):
    return f"{value} in {environment.block_start_string}"


def dashes(value: Any = None) -> str:
    return f"-{value}-"


def stars(value: Any = None) -> str:
    return f"*{value}*"
