"""What is compiled for the cache renders as what Jinja2 compiles for itself."""

import json
from collections.abc import Callable
from types import CodeType
from typing import Any

import pytest
from django.template import engines
from jinja2 import DictLoader, Environment, TemplateSyntaxError, Undefined
from jinja2.ext import Extension
from markupsafe import Markup

from django_jinja_bccache import FileSystemBytecodeCache
from django_jinja_bccache.compiling import compile_template
from tests.parts import Folding
from tests.snippets import CONTEXT, KINDS, SNIPPETS, environment_of


def for_the_cache(environment: Environment, source: str) -> CodeType:
    return compile_template(environment, source, "page", None).code


def by_jinja2(environment: Environment, source: str) -> CodeType:
    return environment.compile(source, "page")


def outcome(
    compile_: Callable[..., CodeType], environment: Environment, source: str, **context: Any
) -> tuple[object, object]:
    try:
        code = compile_(environment, source)
        template = environment.template_class.from_code(environment, code, environment.globals)
        rendered = template.render(context)
    except Exception as error:
        return type(error), str(error)
    return type(rendered), rendered


@pytest.mark.parametrize("newstyle", [False, True], ids=["", "newstyle"])
@pytest.mark.parametrize("kind", KINDS)
def test_every_piece_of_template_renders_as_with_stock_jinja2(kind, newstyle):
    environment = environment_of(kind, newstyle=newstyle)
    for source in SNIPPETS:
        expected = outcome(by_jinja2, environment, source, **CONTEXT)
        assert outcome(for_the_cache, environment, source, **CONTEXT) == expected, source


@pytest.mark.parametrize(
    ("constant", "variable", "options"),
    [
        ("{{ ('a'|bold) ~ 'b' }}", "{{ (a|bold) ~ b }}", {}),
        ("{{ 'a' }}", "{{ a }}", {"finalize": lambda value: f"<{value}>"}),
        ("{{ none }}", "{{ nothing }}", {"finalize": lambda value: value or ""}),
    ],
)
def test_a_constant_renders_as_a_variable_even_where_jinja2_folds_otherwise(
    constant, variable, options
):
    environment = Environment(autoescape=True, **options)
    environment.filters["bold"] = lambda value: Markup(f"<b>{value}</b>")
    context = {"a": "a", "b": "b", "nothing": None}
    rendered = outcome(for_the_cache, environment, constant)
    assert rendered == outcome(by_jinja2, environment, variable, **context)
    assert rendered != outcome(by_jinja2, environment, constant)


def test_without_foreign_callables_the_code_is_the_very_code_of_jinja2():
    environment = Environment(autoescape=True)
    for source in SNIPPETS:
        try:
            expected = by_jinja2(environment, source)
        except TemplateSyntaxError:
            continue
        assert for_the_cache(environment, source) == expected, source


class Calls:
    """Counts how often it was called."""

    count = 0

    def __call__(self, *arguments: Any, **options: Any) -> str:
        self.count += 1
        return str(self.count)


def with_filter(calls: Calls) -> Environment:
    environment = Environment()
    environment.filters["static"] = calls
    return environment


def with_test(calls: Calls) -> Environment:
    environment = Environment()
    environment.tests["allowed"] = calls
    return environment


def with_undefined(calls: Calls) -> Environment:
    class Counted(Undefined):
        __str__ = lambda self: calls()  # noqa: E731

    return Environment(undefined=Counted)


def with_policies(**policies: Any) -> Environment:
    environment = Environment()
    environment.policies.update({f"json.{name}": value for name, value in policies.items()})
    return environment


def with_encoder(calls: Calls) -> Environment:
    class Encoder(json.JSONEncoder):
        encode = lambda self, value: calls()  # noqa: E731

    return with_policies(dumps_kwargs={"cls": Encoder})


@pytest.mark.parametrize(
    ("make", "source"),
    [
        (with_filter, '{{ "css/app.css"|static }}'),
        (with_filter, '{{ "css/app.css"|static|upper|trim ~ "?" }}'),
        (with_filter, '{% if "a"|static == "b" %}{% endif %}'),
        (with_filter, "{% filter static %}a{% endfilter %}"),
        (with_test, '{{ "a" is allowed }}'),
        (with_test, '{{ 1 if "a" is not allowed else 2 }}'),
        (lambda calls: Environment(finalize=calls), '{{ "a" }}'),
        (with_undefined, '{{ {"a": 1}.b }}'),
        (lambda calls: with_policies(dumps_function=calls), '{{ {"a": 1}|tojson }}'),
        (with_encoder, '{{ {"a": 1}|tojson }}'),
    ],
)
def test_a_foreign_callable_is_called_at_every_render_and_never_while_compiling(make, source):
    calls = Calls()
    environment = make(calls)
    compiled = compile_template(environment, source, "page", None)
    assert calls.count == 0
    assert compiled.shareable
    for count in (1, 2, 3):
        outcome(lambda *_: compiled.code, environment, source)
        assert calls.count == count


@pytest.mark.parametrize(
    "source",
    [
        '{% fold "a"|static %}',
        '{% fold_by_parser "a"|static %}',
        '{% fold_by_call "a" %}',
    ],
)
def test_code_for_which_an_extension_asked_a_filter_works_and_is_not_for_others(source):
    environment = Environment(extensions=[Folding])
    environment.filters["static"] = lambda path: f"/v1/{path}"
    compiled = compile_template(environment, source, "page", None)
    assert outcome(lambda *_: compiled.code, environment, source) == (str, "/v1/a")
    assert not compiled.shareable


def test_every_template_of_the_test_project_may_be_stored():
    environment = engines["jinja2"].env
    names = environment.list_templates()
    for name in names:
        source, path, _ = environment.loader.get_source(environment, name)
        assert compile_template(environment, source, name, path).shareable, name
    assert len(names) > 80


def test_compiling_leaves_the_environment_as_it_is():
    environment = environment_of("finalize")
    before = {**vars(environment), "filters": dict(environment.filters)}
    compile_template(environment, SNIPPETS[1], "page", None)
    assert vars(environment) == before
    assert all(item.environment is environment for item in environment.iter_extensions())


BROKEN = {
    "unknown tag": "a\n{% nope %}",
    "unknown filter": "a\n\n{{ 1|nope }}",
    "not closed": "{% if a %}\n{% for b in c %}\n",
    "unexpected end": "{% endif %}",
    "expression": "\n{{ 1 + }}",
    "character": "{{ a ? b }}",
    "string": "{{ 'a }}",
    "two blocks": "{% block a %}{% endblock %}{% block a %}{% endblock %}",
    "extends in a block": "{% block a %}{% extends 'b' %}{% endblock %}",
    "failed by an extension": "\n{% fail %}",
}


class Failing(Extension):
    tags = frozenset({"fail"})

    def parse(self, parser):
        parser.fail("no such thing")


def raised_by(environment: Environment, name: str) -> TemplateSyntaxError:
    with pytest.raises(TemplateSyntaxError) as caught:
        environment.get_template(name).render()
    return caught.value


def facts(error: TemplateSyntaxError) -> tuple[object, ...]:
    said = (error.message, error.lineno, error.name, error.filename, error.source)
    return (type(error), str(error), *said, error.__cause__, error.__context__)


def frames(error: BaseException) -> list[tuple[str, int]]:
    found, step = [], error.__traceback__
    while step is not None:
        found.append((step.tb_frame.f_code.co_filename, step.tb_lineno))
        step = step.tb_next
    return found


@pytest.fixture
def stock_and_cached(tmp_path):
    """Two environments that are alike, but for the cache of one."""
    sources = {
        **{f"{name}.html": source for name, source in BROKEN.items()},
        **{f"with {name}.html": f"a\n{{% include '{name}.html' %}}" for name in BROKEN},
    }
    cache = FileSystemBytecodeCache(tmp_path, key="secret")
    return [
        Environment(loader=DictLoader(sources), extensions=[Failing], bytecode_cache=bytecode)
        for bytecode in (None, cache)
    ]


@pytest.mark.parametrize("name", BROKEN)
def test_a_syntax_error_is_jinja2s_own(stock_and_cached, name):
    stock, cached = (raised_by(each, f"{name}.html") for each in stock_and_cached)
    assert facts(cached) == facts(stock)


@pytest.mark.parametrize("name", BROKEN)
def test_a_syntax_error_at_render_time_looks_as_if_there_were_no_cache(stock_and_cached, name):
    stock, cached = (raised_by(each, f"with {name}.html") for each in stock_and_cached)
    assert facts(cached) == facts(stock)
    assert frames(cached) == frames(stock)
