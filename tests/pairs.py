"""Pairs of environments that differ in one thing, and a template that shows it."""

import json
from dataclasses import dataclass, field
from decimal import Decimal
from functools import partial
from typing import Any

from jinja2 import Environment, StrictUndefined
from jinja2.nativetypes import NativeEnvironment
from jinja2.sandbox import SandboxedEnvironment

from tests.parts import (
    Doubting,
    Loud,
    Make,
    Rude,
    Upper,
    Wondering,
    careful,
    configured,
    dashes,
    delete,
    greeting,
    having_filter,
    having_gettext,
    having_indented_later,
    having_overlay,
    having_policy,
    having_static,
    having_test,
    late,
    stars,
    with_context,
    with_environment,
    with_eval_context,
)


@dataclass(frozen=True)
class Pair:
    """Two environments and one template."""

    one: Make
    other: Make
    source: str
    context: dict[str, Any] = field(default_factory=dict)


def option(name: str, value: Any, source: str, context: Any = None) -> Pair:
    return Pair(Environment, partial(Environment, **{name: value}), source, context or {})


NAME = {"name": "<b>"}
FLAGGED = [dashes, with_context, with_eval_context, with_environment]

PAIRS = {
    # pallets/jinja#650 and #1738, mdn/kuma#3635: Jinja2's own key has the name and nothing else.
    "autoescape": option("autoescape", True, "{{ name }}", NAME),
    "autoescape callable": Pair(
        partial(Environment, autoescape=lambda name: name.endswith(".txt")),
        partial(Environment, autoescape=lambda name: name.endswith(".html")),
        "{{ name }}",
        NAME,
    ),
    "sandboxed": Pair(Environment, SandboxedEnvironment, "{{ f() }}", {"f": delete}),
    "intercepted operators": Pair(careful(), careful("+"), "{{ 1 + 1 }}"),
    "native": Pair(Environment, NativeEnvironment, "{{ price }}", {"price": Decimal("1.50")}),
    "async": option("enable_async", True, "{% for x in [1] %}{{ name }}{% endfor %}", NAME),
    "block_start_string": option("block_start_string", "<%", "<% if 1 %}{% set x = 2 %}{{ x }}"),
    "block_end_string": option("block_end_string", "%>", "{% set x = 1 %>%}-{{ x }}"),
    "variable_start_string": option("variable_start_string", "${", "${ 1 }}{{ 2 }}"),
    "variable_end_string": option("variable_end_string", "]]", "{{ [[3]] }}"),
    "comment_start_string": option("comment_start_string", "<#", "<# a #}{# b #}"),
    "comment_end_string": option("comment_end_string", "#>", "{# a #>b#}c"),
    "line_statement_prefix": option("line_statement_prefix", "%", "% set x = 1\n{{ x }}"),
    "line_comment_prefix": option("line_comment_prefix", "##", "a ## b"),
    "trim_blocks": option("trim_blocks", True, "{% if true %}\na\n{% endif %}\nb"),
    "lstrip_blocks": option("lstrip_blocks", True, "a\n  {% if true %}b{% endif %}"),
    "newline_sequence": option("newline_sequence", "\r\n", "a\nb"),
    "keep_trailing_newline": option("keep_trailing_newline", True, "a\n"),
    "finalize": option("finalize", stars, "{{ 'a' }}{{ none }}"),
    "finalize, another body": Pair(
        partial(Environment, finalize=dashes), partial(Environment, finalize=stars), "{{ 'a' }}"
    ),
    **{
        f"finalize, {function.__name__}": Pair(
            partial(Environment, finalize=dashes),
            partial(Environment, finalize=function),
            "{{ 'a' }}{{ name }}",
            NAME,
        )
        for function in FLAGGED[1:]
    },
    "undefined": option("undefined", StrictUndefined, "{{ {'a': 1}.b }}"),
    "undefined of the site's own": option("undefined", Wondering, "{{ {'a': 1}.b }}"),
    "undefined, another body": Pair(
        partial(Environment, undefined=Wondering),
        partial(Environment, undefined=Doubting),
        "{{ {'a': 1}.b }}",
    ),
    "policy ext.i18n.trimmed": Pair(
        having_policy("ext.i18n.trimmed", False),
        having_policy("ext.i18n.trimmed", True),
        "{% trans %} a\n b {% endtrans %}",
        {"gettext": str},
    ),
    "policy json.dumps_kwargs": Pair(
        having_policy("json.dumps_kwargs", {"indent": 1}),
        having_policy("json.dumps_kwargs", {"indent": 3}),
        "{{ {'a': 1}|tojson }}",
    ),
    "policy json.dumps_kwargs, an encoder": Pair(
        having_policy("json.dumps_kwargs", {}),
        having_policy(
            "json.dumps_kwargs",
            {"cls": type("Encoder", (json.JSONEncoder,), {"encode": lambda *_: "7"})},
        ),
        "{{ {'a': 1}|tojson }}",
    ),
    "policy json.dumps_function": Pair(
        having_policy("json.dumps_function", lambda value, **options: "1"),
        having_policy("json.dumps_function", lambda value, **options: "2"),
        "{{ {'a': 1}|tojson }}",
    ),
    "policy urlize.rel": Pair(
        having_policy("urlize.rel", "noopener"),
        having_policy("urlize.rel", "nofollow"),
        "{{ 'https://example.com'|urlize }}",
    ),
    "policy changed in place": Pair(
        Environment,
        having_indented_later,
        "{{ {'a': 1}|tojson }}",
    ),
    "extension": Pair(
        Environment,
        partial(Environment, extensions=["jinja2.ext.loopcontrols"]),
        "{% for x in 'ab' %}{{ x }}{% break %}{% endfor %}",
    ),
    "extension, another one for the tag": Pair(
        configured("hello"), configured("hello", Rude), "{% greet %}"
    ),
    "extension, edited": Pair(
        greeting(lambda self: "hello"), greeting(lambda self: "good morning"), "{% greet %}"
    ),
    "extension, what it put on the environment": Pair(
        configured("hello"), configured("good evening"), "{% greet %}"
    ),
    "extension that asks a filter while compiling": Pair(
        having_static("/v1/"), having_static("/v2/"), "{% fold 'a'|static %}"
    ),
    "newstyle gettext": Pair(
        having_gettext(newstyle=False),
        having_gettext(newstyle=True),
        "{% trans name=name %}{{ name }}, 100%{% endtrans %}",
        NAME,
    ),
    "filter, another body": Pair(having_filter(dashes), having_filter(stars), "{{ 'a'|mark }}"),
    **{
        f"filter, {function.__name__}": Pair(
            having_filter(stars), having_filter(function), "{{ 'a'|mark }}{{ name|mark }}", NAME
        )
        for function in FLAGGED[1:]
    },
    "filter in place of Jinja2's": Pair(
        Environment, having_filter(with_context, "upper"), "{{ 'a'|upper }}{{ name|upper }}", NAME
    ),
    "test, another body": Pair(
        having_test(lambda value: False), having_test(lambda value: True), "{{ 'a' is ripe }}"
    ),
    **{
        f"test, {function.__name__}": Pair(
            having_test(stars), having_test(function), "{{ 'a' is ripe }}{{ name is ripe }}", NAME
        )
        for function in FLAGGED[1:]
    },
    "overlay": Pair(Environment, having_overlay(autoescape=True), "{{ name }}", NAME),
    "overlay, other delimiters": Pair(
        Environment, having_overlay(variable_start_string="${"), "${ 1 }}{{ 2 }}"
    ),
    "filter added after the first load": Pair(
        Environment,
        late(lambda environment: environment.filters.update(mark=with_context)),
        "{% if name %}{{ name|mark }}{% endif %}",
        NAME,
    ),
    "option set after the first load": Pair(
        Environment,
        late(lambda environment: setattr(environment, "trim_blocks", True)),
        "{% if true %}\na{% endif %}",
    ),
    "extension added after the first load": Pair(
        Environment,
        late(lambda environment: environment.add_extension("jinja2.ext.loopcontrols")),
        "{% for x in 'ab' %}{{ x }}{% break %}{% endfor %}",
    ),
    "environment class": Pair(Environment, Upper, "a"),
    "code generator": Pair(Environment, Loud, "a"),
}
