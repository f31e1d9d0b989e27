"""Sphinx's settings for the reading room; `build.py` puts the pages together."""

from privgan._version import __version__

project = "privgan"
author = "The privgan authors"
copyright = author
release = version = __version__

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.mathjax", "sphinx.ext.napoleon"]
myst_enable_extensions = ["dollarmath", "amsmath", "colon_fence"]
myst_dmath_double_inline = True
nb_execution_mode = "off"  # what was executed is what is shown
nb_merge_streams = True
suppress_warnings = ["myst.header", "misc.highlighting_failure", "mystnb.unknown_mime_type"]
autodoc_typehints = "signature"
autodoc_member_order = "bysource"
add_module_names = False
exclude_patterns = ["_static", "headlines.md"]
templates_path = ["_templates"]

html_theme = "sphinx_book_theme"
html_title = "privgan"
html_static_path = ["_static"]
html_css_files = ["room.css"]
html_js_files = ["room.js"]
html_theme_options = {
    "home_page_in_toc": True,
    "show_navbar_depth": 1,
    "show_toc_level": 2,
    "navbar_start": [],
    "navbar_persistent": [],  # the search field stands in the sidebar
    "use_download_button": True,
}
html_copy_source = False
mathjax_path = "tex-svg-full.js"  # copied from sphinx-mathjax-offline: no request leaves a page


def setup(app: object) -> None:
    app.set_html_assets_policy("always")  # the search page shows mathematics too
