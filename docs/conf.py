"""Sphinx's settings. The site is built offline, and what it shows loads nothing from elsewhere."""

from importlib.metadata import version as version_of

project = "django-jinja-bccache"
release = version = version_of(project)

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]

html_theme = "furo"
html_title = f"{project} {release}"
html_static_path = ["_static"]
html_css_files = ["tables.css"]
html_show_copyright = False
html_show_sourcelink = False

myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "none"  # each docstring says what its arguments are

# Every reference must lead somewhere, but for those to other projects' classes.
nitpicky = True
nitpick_ignore_regex = [("py:.*", r"(?!django_jinja_bccache).*")]
