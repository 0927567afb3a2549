"""Templates of a site that does not exist, in any number: the same ones every time.

They use Jinja2's own filters and tests alone, and render with an empty context.
"""

from __future__ import annotations

from random import Random
from string import Template
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

SMALLEST = 5
# About 10 KB of bytecode come out of this many characters of source (half as much on Python 3.10),
# of which those of the frame around the body count double: they are nearly all imports, includes
# and blocks.
SOURCE_LENGTH = range(1_250, 1_500)

NOUNS, FIELDS, WORDS = (
    line.split()
    for line in """\
account article author booking comment event invoice member order product
code created_at label owner priority quantity reference status subtitle total
about before between change choose close details every first last more next often open please ready
""".splitlines()
)

CARDS = """\
<section class="$noun-cards" id="$noun-$number">
  <h2>$title</h2>
  {% for $noun in ${noun}s if $noun.$first %}
  <article class="card {{ loop.cycle('odd', 'even') }}{% if loop.first %} first{% endif %}">
    <h3><a href="{{ $noun.url }}">{{ $noun.$second|default("$words")|truncate(60) }}</a></h3>
    <p>{{ $noun.$first|upper }}{% if $noun.$third is not none %}: {{ $noun.$third }}{% endif %}</p>
  </article>
  {% else %}
  <p class="empty">$sentence</p>
  {% endfor %}
</section>
"""
TABLE = """\
<table class="$noun-table">
  <caption>$title</caption>
  <thead><tr><th>$first</th><th>$second</th><th>$third</th></tr></thead>
  <tbody>
  {% for row in ${noun}_rows|default([])|sort(attribute="$first") %}
    <tr{% if row.$second == "$number" %} class="selected"{% endif %}>
      <td>{{ loop.index }}</td><td>{{ row.$first }}</td>
      <td>{{ row.$second|lower }}</td><td>{{ "%.2f"|format(row.$third|float) }}</td>
    </tr>
  {% endfor %}
  </tbody>
</table>
"""
NOTICE = """\
{% if ${noun}_$first and not ${noun}_$second %}
<div class="notice" role="status"><strong>$title</strong> {{ ${noun}_$first }}: $sentence</div>
{% elif ${noun}_$third is defined %}
<p class="hint">{{ ${noun}_$third|replace("-", " ")|title }}: $words</p>
{% else %}
<p>$sentence $sentence</p>
{% endif %}
"""
FORM = """\
<form method="post" action="{{ ${noun}_action|default('/$noun/$number/') }}">
  {% for field in ${noun}_fields %}
  <label for="{{ field.id }}">{{ field.label }}{% if field.required %} *{% endif %}</label>
  <input id="{{ field.id }}" name="{{ field.name }}" value="{{ field.$first|default('', true) }}">
  {% if field.errors %}<ul>{% for error in field.errors %}<li>{{ error }}</li>{% endfor %}</ul>
  {% endif %}
  {% endfor %}
  <button name="$second" value="$number">$title</button>
</form>
"""
PROSE = """\
{% set heading_$number = ${noun}_$first|default("$title")|capitalize %}
<h2 id="$noun-$number">{{ heading_$number }}</h2>
<p>$sentence {{ ${noun}_$second }} $sentence {{ ${noun}_$third|default("$words") }}</p>
"""
CHUNKS = [Template(text) for text in (CARDS, TABLE, NOTICE, FORM, PROSE)]

BASE = """\
<!doctype html>
<html lang="{{ language|default('en') }}">
<head><title>{% block title %}{{ site|default("Site") }}{% endblock %}</title></head>
<body>
<header>{% block header %}{% endblock %}</header>
<main>{% block content %}{% endblock %}</main>
<footer>
$body</footer>
</body>
</html>
"""
SECTION = """\
{% extends "base.html" %}
{% block title %}$title - {{ super() }}{% endblock %}
{% block header %}
$body{% endblock %}
"""
PAGE = """\
{% extends "$parent" %}
{% from "$macros" import panel with context %}
{% block title %}$title{% endblock %}
{% block content %}
{{ panel("$title", ${noun}s|default([])) }}
$body
{% include "$include" %}
{% include "$other" %}
{% endblock %}
"""
MACROS = """\
{% macro panel(title, items, level=2) %}
<div class="panel"><h{{ level }}>{{ title }}</h{{ level }}>
{% for item in items %}<span>{{ item.$first }}</span>{% else %}$words{% endfor %}
$body</div>
{% endmacro %}
"""


def templates(count: int) -> Iterator[tuple[str, str]]:
    """Yield the names and sources of ``count`` templates.

    One base, a base per section, pages that extend their section's base, includes and macros;
    of 1,000 templates 1 is the base, 40 belong to sections, 200 are includes, 20 hold macros.

    Raises:
        ValueError: fewer than five, one of each kind, are asked for.
    """
    if count < SMALLEST:
        raise ValueError(f"A site has {SMALLEST} templates or more, not {count}.")
    sections, includes, macros = (max(1, count // part) for part in (25, 5, 50))
    pages = count - 1 - sections - includes - macros
    yield _template("base.html", BASE)
    for number in range(sections):
        yield _template(f"section_{number:03}/base.html", SECTION)
    for number in range(includes):
        yield _template(f"includes/part_{number:04}.html", "$body")
    for number in range(macros):
        yield _template(f"macros/set_{number:03}.html", MACROS)
    for number in range(pages):
        folder = f"section_{number % sections:03}"
        yield _template(
            f"{folder}/page_{number:05}.html",
            PAGE,
            parent=f"{folder}/base.html",
            macros=f"macros/set_{number % macros:03}.html",
            include=f"includes/part_{number % includes:04}.html",
            other=f"includes/part_{number * 7 % includes:04}.html",
        )


def _template(name: str, frame: str, **references: str) -> tuple[str, str]:
    # Seeded by its name, a template is the same however many others there are.
    random = Random(name)
    values = _values(random) | references
    return name, Template(frame).substitute(values, body=_body(random, len(frame)))


def _body(random: Random, frame_length: int) -> str:
    length = random.choice(SOURCE_LENGTH) - 2 * frame_length
    body = ""
    while len(body) < length:
        body += random.choice(CHUNKS).substitute(_values(random))
    return body


def _values(random: Random) -> dict[str, str]:
    first, second, third = random.sample(FIELDS, 3)
    return {
        "noun": random.choice(NOUNS),
        "first": first,
        "second": second,
        "third": third,
        "number": str(random.randrange(10_000)),
        "title": " ".join(random.sample(WORDS, 3)).capitalize(),
        "words": " ".join(random.sample(WORDS, 4)),
        "sentence": " ".join(random.sample(WORDS, 12)).capitalize() + ".",
    }
