"""Configure Sphinx for the documentation site; CONTRIBUTING.md has the command.

The source folder is the root of the repository, so that README.md and CONTRIBUTING.md are pages as well, and every
relative link means the same on the site and on a code host. Nothing is fetched: not while the site is built, nor by
its pages.
"""

import probebench

project = "probebench"
author = "The probebench authors"
copyright = "The probebench authors. MIT licence"
version = release = probebench.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
root_doc = "docs/index"
include_patterns = ["docs/**", "README.md", "CONTRIBUTING.md", "CHANGELOG.md"]

html_theme = "furo"
html_title = "probebench"
html_show_sphinx = False
html_show_sourcelink = False
templates_path = ["templates"]
# The home page is docs/index.html; a page in the site's own folder leads there.
html_additional_pages = {"index": "home.html"}

# The slugs of a code host, for links such as statistics.md#controls.
myst_heading_anchors = 4

# Docstrings are Google's, in reStructuredText. `Names` in them link where they are documented, and are code elsewhere.
default_role = "py:obj"
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True, "exclude-members": "to_json"}
maximum_signature_line_length = 100
autodoc_typehints_format = "short"
# Plain lists, in which one entry can describe several attributes: `mean, std: ...`.
napoleon_custom_sections = [("Attributes", "params_style")]
python_use_unqualified_type_names = True
toc_object_entries_show_parents = "hide"

# Every other broken reference is a warning, and the build treats warnings as errors. Names of other libraries would
# lead to other sites.
nitpicky = True
nitpick_ignore_regex = [
    ("py:obj", ".*"),
    ("py:class", r"(np|npt|numpy|torch|_?pytest|pd|pathlib|collections|RenderableType)\b.*"),
    # Internal classes, which the pages describe in words.
    ("py:class", r"(probebench\.models\.build\.)?Model"),
    ("py:class", r"(probebench\.datasets\.views\.)?Views|(probebench\.measure\.plan\.)?Workload"),
    ("py:class", r"(probebench\.records\.types\.)?(\w*Record|ScoredCase)"),
    ("py:class", r"(probebench\._arrays\.)?(Host)?Array"),
    ("py:class", r"(probebench\.recommendation\.export\.)?Export"),
]


def setup(app):
    app.connect("autodoc-process-signature", _without_factories)
    app.connect("missing-reference", _by_last_part)


def _without_factories(app, what, name, obj, options, signature, returns):
    """Replace ``<factory>``, which dataclasses show as default and which cannot be parsed."""
    return (signature.replace("<factory>", "...") if signature else signature), returns


def _by_last_part(app, env, node, content):
    """Resolve a short name such as `Split` to the only class or function of that name, in any module."""
    domain, target = env.domains.python_domain, node.get("reftarget", "")
    names = [name for name in domain.objects if name.endswith(f".{target}")]
    if node.get("reftype") != "obj" or "." in target or len(names) != 1:
        return None
    return domain.resolve_xref(env, node["refdoc"], app.builder, "obj", names[0], node, content)
