"""Kinds of environments and pieces of templates, to be combined."""

import json
from collections.abc import Callable
from functools import partial
from gettext import NullTranslations
from typing import Any

from jinja2 import (
    ChainableUndefined,
    DebugUndefined,
    DictLoader,
    Environment,
    StrictUndefined,
    Undefined,
    make_logging_undefined,
    pass_context,
    pass_environment,
    pass_eval_context,
)
from jinja2.nativetypes import NativeEnvironment
from jinja2.sandbox import ImmutableSandboxedEnvironment, SandboxedEnvironment
from markupsafe import Markup


class Quiet(Undefined):
    def __str__(self) -> str:
        return "(nothing)"

    def __html__(self) -> str:
        return "<i>nothing</i>"


@pass_context
def named(context, value="", suffix=""):
    return f"{value}{suffix} of {context.get('name')}"


@pass_eval_context
def wrapped(eval_context, value=""):
    return Markup(f"<b>{value}</b>") if eval_context.autoescape else f"*{value}*"


@pass_environment
def located(environment, value=""):
    return f"{value} in {type(environment).__name__}"


async def slowly(value):
    return f"slowly {value}"


def broken(value):
    raise ValueError(f"no {value}")


FILTERS: dict[str, Any] = {
    "named": named,
    "wrapped": wrapped,
    "located": located,
    "broken": broken,
    "join_all": lambda value, *arguments, **options: f"{value} {arguments} {sorted(options)}",
    "as_list": lambda value: [value, value],
    "nothing": lambda value: None,
    "lower": str.swapcase,
    "bound": "-".join,
    "missing_one": None,
}
TESTS: dict[str, Any] = {
    "short": lambda value: len(str(value)) < 3,
    "known": pass_context(lambda context, value: value in context),
    "odd": lambda value: f"odd {value}",
}
CONTEXT = {
    "name": "<Ada>",
    "items": [{"id": 2, "tags": ["x"]}, {"id": 1, "tags": []}],
    "half": 0.5,
    "shout": str.upper,
}

_gettext = ["jinja2.ext.i18n", "jinja2.ext.do", "jinja2.ext.loopcontrols"]
KINDS: dict[str, Callable[..., Environment]] = {
    "stock": Environment,
    "autoescape": partial(Environment, autoescape=True),
    "autoescape by name": partial(Environment, autoescape=lambda name: name == "page"),
    "not optimized": partial(Environment, optimized=False, autoescape=True),
    "async": partial(Environment, enable_async=True),
    "native": NativeEnvironment,
    "sandboxed": partial(SandboxedEnvironment, autoescape=True),
    "immutable sandboxed": ImmutableSandboxedEnvironment,
    "strict": partial(Environment, undefined=StrictUndefined),
    "chainable": partial(Environment, undefined=ChainableUndefined),
    "debug": partial(Environment, undefined=DebugUndefined, autoescape=True),
    "logging": partial(Environment, undefined=make_logging_undefined()),
    "own undefined": partial(Environment, undefined=Quiet, autoescape=True),
    "finalize": partial(Environment, finalize=lambda value: "-" if value is None else value),
    "finalize, context": partial(Environment, finalize=named, autoescape=True),
    "finalize, eval context": partial(Environment, finalize=wrapped, autoescape=True),
    "finalize, environment": partial(Environment, finalize=located),
    "trimmed": partial(Environment, trim_blocks=True, lstrip_blocks=True),
    "trailing": partial(Environment, keep_trailing_newline=True, newline_sequence="\r\n"),
    "line statements": partial(Environment, line_statement_prefix="#", line_comment_prefix="##"),
}


def environment_of(kind: str, *, newstyle: bool = False) -> Environment:
    """Make an environment with others' filters, tests and policies."""
    environment = KINDS[kind](extensions=_gettext, loader=DictLoader(LIBRARY))
    environment.install_gettext_translations(NullTranslations(), newstyle=newstyle)
    environment.filters |= FILTERS
    environment.tests |= TESTS
    if environment.is_async:
        environment.filters["slowly"] = slowly
    if newstyle:
        environment.policies["json.dumps_function"] = lambda value, **_: json.dumps([value])
        environment.policies["ext.i18n.trimmed"] = True
    return environment


LIBRARY = {
    "base": "<{% block head %}base{% endblock %}|{% block body %}{% endblock %}>",
    "part": "[{{ name|wrapped }}{{ x|default('no x') }}]",
    "macros": "{% macro box(a, b='b'|wrapped) %}({{ a|lower }}{{ b }}{{ caller() if caller }})"
    "{% endmacro %}{% set constant = 'C'|named %}",
}
SNIPPETS = [
    "",
    "text & <b>more</b>\n",
    "{{ 'a' }}{{ 1 }}{{ 1.5 }}{{ none }}{{ true }}{{ [1, 'x'] }}{{ {'a': 1} }}{{ (1, 2) }}",
    "{{ name }}{{ name|e }}{{ name|safe }}{{ missing }}{{ missing is undefined }}",
    "{{ missing.deeper }}",
    "{{ {'a': 1}.b }}{{ {'a': {'b': 2}}.a.b }}{{ [1, 2][0] }}{{ 'abc'[1:] }}{{ [].x is defined }}",
    "{{ 'Ab'|lower }}{{ 'Ab'|upper }}{{ 'Ab'|lower|upper }}{{ name|lower }}",
    "{{ 'a'|named }}{{ 'a'|named('b') }}{{ 'a'|named(suffix='c') }}{{ name|named }}",
    "{{ 'a'|wrapped }}{{ '<'|wrapped|upper }}{{ name|wrapped }}",
    "{{ 'a'|located }}{{ 'a'|as_list|join('-') }}{{ 'a'|as_list|bound }}{{ 1|nothing }}",
    "{{ 'a'|join_all(1, *[2, 3], k=4, **{'l': 5}) }}{{ 'a'|join_all('b'|upper, c='d'|lower) }}",
    "{{ ('a'|lower) ~ 'b' ~ 1 }}{{ ('a'|lower) == 'A' }}{{ ('a'|as_list)[1] }}",
    "{{ 'x' if 'a'|nothing else 'y' }}{{ 'x' if 1 }}{{ 'x' if 0 }}{{ ('a'|lower)|upper or 1 }}",
    "{{ 'ab' is short }}{{ 'abc' is not short }}{{ 'name' is known }}{{ 3 is odd }}",
    "{{ 'upper' is filter }}{{ 'named' is filter }}{{ 'short' is test }}{{ 'nope' is filter }}",
    "{{ 'a'|broken }}",
    "{% if false %}{{ 'a'|broken }}{{ 'a'|unheard_of }}{{ 1 is unheard_of }}{% endif %}x",
    "{% if true %}{{ 'a'|unheard_of }}{% endif %}",
    "{{ 'a'|unheard_of }}",
    "{{ 'a'|missing_one }}",
    "{{ 1 is unheard_of }}",
    "{{ ['a', 'b']|map('lower')|list }}{{ ['a', 'bcd']|select('short')|list }}",
    "{{ items|map(attribute='id')|sort|list }}{{ items|sum('id') }}{{ items|tojson }}",
    "{{ {'b': '<', 'a': none}|tojson }}{{ ['&']|tojson(2) }}{{ 'www.example.com'|urlize }}",
    "{{ '<b>x</b>'|striptags }}{{ 'a b'|urlencode }}{{ 'a b c'|truncate(3) }}{{ 3|round }}",
    "{{ '%s-%s'|format('a', name) }}{{ 'x'|indent }}{{ 'aXb'|replace('X', '<') }}",
    "{% filter wrapped %}a{{ name }}{% endfilter %}{% filter upper|lower %}b{% endfilter %}",
    "{% set x = 'a'|wrapped %}{{ x }}{% set y %}b{{ x }}{% endset %}{{ y }}",
    "{% set x | lower %}SET{% endset %}{{ x }}{% set n = namespace(a=1) %}{{ n.a }}",
    "{% for i in items|sort(attribute='id') %}{{ i.id }}{% else %}none{% endfor %}",
    "{% for i in items %}{{ loop.index }}{{ loop.cycle('a', 'b') }}{% endfor %}",
    "{% for i in [1, 2, 3] if i is short %}{{ i }}{{ loop.last }}{% endfor %}",
    "{% for i in [[1], [2]] recursive %}{{ i }}{{ loop(i) if i[0] == 3 }}{% endfor %}",
    "{% for i in range(9) %}{% if i > 3 %}{% break %}{% endif %}{{ i }}{% endfor %}",
    "{% macro m(a, b=1|named) %}{{ (a, b, varargs, kwargs) }}{% endmacro %}{{ m(1, 2, 3, c=4) }}",
    "{% import 'macros' as m %}{{ m.box('A') }}{{ m.constant }}",
    "{% from 'macros' import box with context %}{% call box('Q') %}in{{ name }}{% endcall %}",
    "{% include 'part' %}{% include ['nope', 'part'] %}{% include 'nope' ignore missing %}",
    "{% include 'nope' %}",
    "{% extends 'base' %}{% block head %}{{ super() }}+{{ 'a'|wrapped }}{% endblock %}",
    "{% extends 'base' %}{% block body %}{{ self.head() }}{% include 'part' %}{% endblock %}",
    "{% autoescape true %}{{ name }}{{ name|wrapped }}{% endautoescape %}{{ '<'|wrapped }}",
    "{% autoescape name %}{{ name }}{{ name ~ '<' }}{{ 'a'|wrapped }}{% endautoescape %}",
    "{% trans %} Hello\n world {% endtrans %}{% trans n=name %}{{ n }} 100%{% endtrans %}",
    "{% trans c=2 %}{{ c }} plant{% pluralize %}{{ c }} plants{% endtrans %}{{ _('x') }}",
    "{% with a = 'a'|lower %}{{ a }}{% endwith %}{% set x = [] %}{% do x.append(1) %}{{ x }}",
    "{% raw %}{{ raw }}{% endraw %}{#- comment -#}  {{- 1 -}}  \n",
    "{{ 1 / 0 }}",
    "{{ 7 // 2 }}{{ 2 ** 3 }}{{ -half }}{{ 1 < 2 < 3 }}{{ 'a' in 'abc' }}{{ not name }}",
    "{{ shout('a') }}{{ shout(name|lower) }}{{ 'a'.upper() }}{{ name.__class__ }}",
    "# for i in [1, 2]\n{{ i }} ## comment\n# endfor\n",
]
