"""Environments that compile other projects' templates without those projects.

Filters, tests and globals are stand-ins: they have the name and the pass-flag of the original,
which is all that the compiler sees, and return what they are given.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jinja2

if TYPE_CHECKING:
    from collections.abc import Callable

INDICO_OPTIONS: dict[str, Any] = {
    # Flask's choice: markup is escaped, the text of a mail is not.
    "autoescape": jinja2.select_autoescape(["html", "htm", "xml", "xhtml", "svg"]),
    "extensions": ["jinja2.ext.i18n"],
    "undefined": jinja2.StrictUndefined,
}
INDICO_FILTERS = (
    "alpha_enum any bool crc32 decodeprincipal dedent format_date format_datetime"
    " format_human_date format_human_timedelta format_number format_pretty_date"
    " format_pretty_datetime format_skeleton format_time format_timedelta html_params"
    " html_to_plaintext markdown plusdelta rich_markup sanitize_html underline"
)
INDICO_ENVIRONMENT_FILTERS = "groupby natsort"
INDICO_TESTS = "instanceof subclassof"
INDICO_GLOBALS = (
    "_is_single_line_field _iter_form_fields _render_field current_locale format_currency"
    " format_interval get_currency_name get_request_stats icon_from_mimetype indico_config"
    " indico_version now plugin_webpack render_session_bar render_sidemenu slugify"
    " template_hook time_regex_hhmm url_for url_for_index url_for_login url_for_logout"
    " url_for_plugin url_rule_to_js uuid"
)

MATERIAL_OPTIONS: dict[str, Any] = {
    "autoescape": False,
    "extensions": ["jinja2.ext.i18n"],
}
# Nobody registers the filter "split" that partials/social.html names: Jinja2 accepts an unknown
# filter within a branch, and so must everything that compiles as Jinja2 does.
MATERIAL_FILTERS = "date"
MATERIAL_CONTEXT_FILTERS = "script_tag url"


def indico_environment(**options: Any) -> jinja2.Environment:
    """Return an environment that compiles as Indico 3.2's own does; ``options`` go first."""
    environment = jinja2.Environment(**(INDICO_OPTIONS | options))
    environment.policies["ext.i18n.trimmed"] = True
    environment.install_null_translations(newstyle=True)
    environment.filters |= stand_ins(INDICO_FILTERS)
    environment.filters |= stand_ins(INDICO_ENVIRONMENT_FILTERS, jinja2.pass_environment)
    environment.tests |= stand_ins(INDICO_TESTS)
    environment.globals |= stand_ins(INDICO_GLOBALS)
    return environment


def material_environment(**options: Any) -> jinja2.Environment:
    """Return an environment that compiles as MkDocs' own does; ``options`` go first."""
    environment = jinja2.Environment(**(MATERIAL_OPTIONS | options))
    environment.install_null_translations()
    environment.filters |= stand_ins(MATERIAL_FILTERS)
    environment.filters |= stand_ins(MATERIAL_CONTEXT_FILTERS, jinja2.pass_context)
    return environment


def stand_ins(
    names: str, flag: Callable[[Callable[..., Any]], Callable[..., Any]] | None = None
) -> dict[str, Callable[..., Any]]:
    """Return a callable for each of the names, under Jinja2's pass-flag if one is given."""
    if flag is None:
        return dict.fromkeys(names.split(), _first_argument)

    # A function of its own: Jinja2's flags are marks on the function that they are given.
    @flag
    def second_argument(passed: Any, value: Any = None, *arguments: Any, **options: Any) -> Any:
        return value

    return dict.fromkeys(names.split(), second_argument)


def _first_argument(value: Any = None, *arguments: Any, **options: Any) -> Any:
    return value
