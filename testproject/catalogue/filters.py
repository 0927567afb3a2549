"""Filters and tests of the site's own, for the Jinja2 environment.

Several give another result in another language, so their output for a constant must not become
part of a template's bytecode: ``{{ "Yes"|translate }}``, ``{{ 3|apnumber }}``.
"""

import datetime
from collections.abc import Iterable
from decimal import Decimal

from django.contrib.humanize.templatetags.humanize import apnumber, intcomma
from django.templatetags.static import static
from django.utils.dates import MONTHS, MONTHS_AP, WEEKDAYS
from django.utils.formats import date_format, number_format
from django.utils.text import slugify
from django.utils.translation import get_language, gettext
from jinja2 import pass_context, pass_eval_context
from jinja2.nodes import EvalContext
from jinja2.runtime import Context
from markupsafe import Markup, escape

from testproject.catalogue.data import Product


def money(amount: Decimal, symbol: str = "€") -> str:
    return f"{number_format(amount, decimal_pos=2, force_grouping=True)}\N{NO-BREAK SPACE}{symbol}"


def day(value: datetime.date) -> str:
    return date_format(value, "DATE_FORMAT")


def clock(value: datetime.time) -> str:
    return date_format(value, "TIME_FORMAT")


def weekday(number: int) -> str:
    return str(WEEKDAYS[number])


def month(number: int) -> str:
    return str(MONTHS[number])


def month_short(number: int) -> str:
    return str(MONTHS_AP[number])


def centimetres(length: int) -> str:
    if length < 100:
        return f"{length}\N{NO-BREAK SPACE}cm"
    return f"{number_format(Decimal(length) / 100, decimal_pos=1)}\N{NO-BREAK SPACE}m"


def one_of(words: Iterable[str]) -> str:
    *first, last = [str(word) for word in words]
    return f"{', '.join(first)} {gettext('or')} {last}" if first else last


@pass_eval_context
def paragraphs(eval_context: EvalContext, text: str) -> str:
    if not eval_context.autoescape:
        return text
    return Markup("\n").join(
        Markup("<p>{}</p>").format(each.strip()) for each in text.split("\n\n")
    )


@pass_context
def current(context: Context, path: str) -> Markup:
    """Return the attribute that marks a link to the very page it stands on."""
    request = context.get("request")
    if request is None or request.path != path:
        return Markup()
    return Markup(' aria-current="page"')


def stars(rating: int) -> Markup:
    return Markup('<span class="stars" role="img" aria-label="{}/5">{}{}</span>').format(
        rating, "★" * rating, "☆" * (5 - rating)
    )


def highlight(text: str, term: str) -> Markup:
    start = text.lower().find(term.lower()) if term else -1
    if start < 0:
        return escape(text)
    end = start + len(term)
    return Markup("{}<mark>{}</mark>{}").format(text[:start], text[start:end], text[end:])


def is_in_stock(product: Product) -> bool:
    return product.stock > 0


def is_pet_safe(product: Product) -> bool:
    return product.pet_safe


def is_in_season(product: Product, month_number: int) -> bool:
    return month_number in product.months


def is_active_language(code: str) -> bool:
    return (get_language() or "").partition("-")[0] == code


FILTERS = {
    "apnumber": apnumber,
    "centimetres": centimetres,
    "clock": clock,
    "current": current,
    "day": day,
    "highlight": highlight,
    "intcomma": intcomma,
    "money": money,
    "month": month,
    "month_short": month_short,
    "one_of": one_of,
    "paragraphs": paragraphs,
    "slugify": slugify,
    "stars": stars,
    "static": static,
    "translate": gettext,
    "weekday": weekday,
}

TESTS = {
    "active_language": is_active_language,
    "in_season": is_in_season,
    "in_stock": is_in_stock,
    "pet_safe": is_pet_safe,
}
