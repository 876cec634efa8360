"""Sphinx's configuration: `make docs`."""

import irl_ros

project = "irl_ros"
author = copyright = "irl_ros maintainers"
release = irl_ros.__version__
extensions = ["myst_parser", "sphinx.ext.autodoc"]
html_theme = "furo"
html_title = f"irl_ros {release}"
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3
autodoc_default_options = {"members": True, "show-inheritance": True}
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
autodoc_inherit_docstrings = False


def as_rest(app, what, name, obj, options, lines) -> None:
    """Docstrings are plain text: formulas are indented, lists follow their sentence. Both get what reST wants."""
    made: list[str] = []
    for line in lines:
        before = made[-1] if made else ""
        formula = line.startswith("    ") and not before.strip()
        begins_list = line.startswith("- ") and before.strip() and not before.startswith(("- ", "  "))
        in_literal = len(made) > 1 and before.startswith("    ")
        if formula and not in_literal:
            made += ["::", ""]
        elif begins_list or (before.startswith("    ") and line.strip() and not line.startswith(" ")):
            made.append("")
        made.append(line)
    lines[:] = made


def setup(app) -> None:
    app.connect("autodoc-process-docstring", as_rest)
