"""A Jinja2 extension with a tag of its own."""

from collections.abc import Callable

from django.utils.text import slugify
from jinja2 import Environment, nodes
from jinja2.ext import Extension
from jinja2.parser import Parser
from markupsafe import Markup

TONES = ("info", "success", "warning")

PANEL = Markup(
    '<section class="panel panel-{tone}" aria-labelledby="{id}">\n'
    '<h{level} class="panel-title" id="{id}">{title}</h{level}>\n'
    "{body}\n"
    "</section>"
)


class PanelExtension(Extension):
    """``{% panel "Title" %}…{% endpanel %}``, or ``{% panel "Title", "warning" %}``.

    The title is any expression; the tone, where there is one, is a literal of ``TONES``.
    """

    tags = {"panel"}  # noqa: RUF012 - declared as an instance attribute by jinja2

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment)
        environment.extend(panel_heading_level=2)

    def parse(self, parser: Parser) -> nodes.Node:
        lineno = next(parser.stream).lineno
        arguments = [parser.parse_expression(), self.parse_tone(parser)]
        body = parser.parse_statements(("name:endpanel",), drop_needle=True)
        call = self.call_method("render_panel", arguments, lineno=lineno)
        return nodes.CallBlock(call, [], [], body).set_lineno(lineno)

    def parse_tone(self, parser: Parser) -> nodes.Const:
        if not parser.stream.skip_if("comma"):
            return nodes.Const(TONES[0])
        token = parser.stream.expect("string")
        if token.value not in TONES:
            parser.fail(f"A panel is {', '.join(TONES)}, not {token.value!r}.", token.lineno)
        return nodes.Const(token.value)

    def render_panel(self, title: str, tone: str, caller: Callable[[], str]) -> Markup:
        return PANEL.format(
            id=f"panel-{slugify(title)}",
            level=self.environment.panel_heading_level,
            title=title,
            tone=tone,
            body=Markup(caller().strip()),
        )
