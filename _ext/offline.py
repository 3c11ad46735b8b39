"""Sphinx extension: pages that need no outside host – charts, formulas – and no script they do not use.

Vega's scripts are written once into ``_static`` (from a package, not a network), formulas become MathML at build time,
and the live-code launcher that names a content network on every page is taken out.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import latex2mathml.converter
import vl_convert
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.util.fileutil import copy_asset_file

VEGA_LITE = "6.4"


def write_scripts(app: Sphinx) -> None:
    """Write the chart scripts under names that hold their digests, so that no page meets an old one."""
    here = Path(__file__).parent
    # In a function: the bundle's short global names collide with those of the theme's scripts.
    bundle = "(function(){" + vl_convert.javascript_bundle(vl_version=VEGA_LITE) + "})();\n"
    target = Path(app.outdir) / "_static"
    target.mkdir(parents=True, exist_ok=True)
    for stem, text in (("vega", bundle), ("charts", (here / "charts.js").read_text(encoding="utf-8"))):
        name = f"{stem}-{hashlib.sha256(text.encode()).hexdigest()[:10]}.js"
        (target / name).write_text(text, encoding="utf-8")
        app.add_js_file(name, loading_method="defer")
    copy_asset_file(str(here / "book.css"), str(target))
    app.add_css_file("book.css")


def _to_mathml(text: str, display: str) -> str:
    return str(latex2mathml.converter.convert(text, display=display))


def visit_math(self: Any, node: nodes.math) -> None:
    """An inline formula."""
    self.body.append(_to_mathml(node.astext(), "inline"))
    raise nodes.SkipNode


def visit_math_block(self: Any, node: nodes.math_block) -> None:
    """A displayed formula."""
    self.body.append(f'<div class="math-block" tabindex="0">{_to_mathml(node.astext(), "block")}</div>')
    raise nodes.SkipNode


def drop_thebe(app: Sphinx, config: Config) -> None:
    """Take every hook of the live-code launcher out: its script, style, settings and the outside address in them."""
    for listeners in app.events.listeners.values():
        listeners[:] = [x for x in listeners if not getattr(x.handler, "__module__", "").startswith("sphinx_thebe")]
    app.registry.css_files[:] = [entry for entry in app.registry.css_files if "thebe" not in entry[0]]


def setup(app: Sphinx) -> dict[str, Any]:
    """Register with Sphinx."""
    app.connect("builder-inited", write_scripts)
    app.connect("config-inited", drop_thebe, priority=1)
    app.add_html_math_renderer("mathml", (visit_math, None), (visit_math_block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
