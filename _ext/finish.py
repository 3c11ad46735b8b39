"""Sphinx extension: the last touch of every page – what a link to it shows elsewhere, its notebook, and no script it
does not need.

A page of code can be taken along as a notebook; pages about the interface take their text from docstrings; and the
icons are a few drawings in ``book.css`` instead of the theme's megabyte and a half of them.
"""

from __future__ import annotations

import html
import re
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import Any

import jupytext
import nbformat
import vl_convert
from docutils import nodes
from sphinx.application import Sphinx

CARD = "card.png"
DESCRIPTION = 200
"""Characters of a page's first paragraph that a link to it shows."""
ICONS = re.compile(r'\s*<script defer src="[^"]*/fontawesome\.js[^"]*"></script>')
TWICE = re.compile(r'(<meta name="viewport"[^>]*>)\s*<meta name="viewport"[^>]*>')
CHARTS = re.compile(r'\s*<script defer="defer" src="[^"]*/(?:vega|charts)-[^"]*"></script>')
DESIGN = re.compile(r"\s*<(?:link|script)[^>]*/(?:sphinx-design|design-tabs)[^>]*>(?:</script>)?")
STAMP = re.compile(r"(/mystnb\.[0-9a-f]+\.css)\?v=[0-9a-f]+")
SEARCH = re.compile(r'\s*<script src="[^"]*(?:searchtools|language_data|searchindex)\.js[^"]*"></script>')
MODULES = re.compile(r"<!-- modules: ([\w.]+) -->")
LITERAL = re.compile(r"(``.*?``)")


def write_card(app: Sphinx) -> None:
    """Draw the image that stands beside a link to the book."""
    drawing = (Path(__file__).parent / "art" / "card.svg").read_text(encoding="utf-8")
    target = Path(app.outdir) / "_static"
    target.mkdir(parents=True, exist_ok=True)
    (target / CARD).write_bytes(vl_convert.svg_to_png(drawing))


def describe(app: Sphinx, page: str, _: str, context: dict[str, Any], doctree: nodes.document | None) -> None:
    """Title, first paragraph and image of a page, for search engines and for links to it."""
    if doctree is None:
        return
    texts = (" ".join(p.astext().split()) for p in doctree.findall(nodes.paragraph))
    text = next((t for t in texts if len(t) > DESCRIPTION // 4), "")
    if len(text) > DESCRIPTION:
        text = text[:DESCRIPTION].rsplit(" ", 1)[0] + " …"
    base = app.config.html_baseurl
    image = f"{base.rstrip('/')}/_static/{CARD}" if base else context["pathto"](f"_static/{CARD}", 1)
    told = {"og:type": "article", "og:title": context["title"], "og:site_name": app.config.project}
    told |= {"og:description": text, "og:image": image, "og:image:alt": "A rank curve in three regimes"}
    tags = [f'<meta property="{name}" content="{html.escape(_plain(value))}" />' for name, value in told.items()]
    tags += [
        f'<meta name="description" content="{html.escape(text)}" />',
        '<meta name="twitter:card" content="summary_large_image" />',
    ]
    context["metatags"] = context.get("metatags", "") + "\n".join(tags)


def _plain(text: str) -> str:
    return html.unescape(re.sub("<[^>]+>", "", text))


def add_notebook(app: Sphinx, page: str, _: str, context: dict[str, Any], doctree: nodes.document | None) -> None:
    """Write a page of code as a notebook, and put it first among the page's downloads."""
    if doctree is None or "kernelspec" not in app.env.metadata.get(page, {}):
        return
    notebook = jupytext.read(app.env.doc2path(page))
    for number, cell in enumerate(notebook.cells):
        cell["id"] = f"cell-{number}"  # instead of a random one: the same page makes the same notebook
    target = Path(app.outdir) / "_sources" / f"{page}.ipynb"
    target.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, target)
    button = {"type": "link", "url": context["pathto"](f"_sources/{page}.ipynb", 1), "text": ".ipynb"}
    button |= {
        "icon": "fas fa-code",
        "tooltip": "Download this page as a notebook",
        "label": "download-notebook-button",
    }
    for group in context["header_buttons"]:
        if group["label"] == "download-buttons":
            group["buttons"].insert(0, button)


def list_modules(_: Sphinx, page: str, source: list[str]) -> None:
    """Put every module of a room where a page names the room, so that a new module is on the page without an edit of
    it. Modules that only make simulated data are left out.
    """

    def listed(found: re.Match[str]) -> str:
        modules = [
            m for m in iter_modules(import_module(found[1]).__path__, f"{found[1]}.") if "simulated" not in m.name
        ]
        blocks = [f".. automodule:: {module.name}\n   :members:\n   :no-value:\n" for module in modules]
        return "```{eval-rst}\n" + "\n".join(blocks) + "```"

    source[0] = MODULES.sub(listed, source[0])


def escape_bars(_app: Sphinx, _what: str, _name: str, _object: Any, _options: Any, lines: list[str]) -> None:
    """Absolute values in docstrings are no substitutions of reStructuredText."""
    for number, line in enumerate(lines):
        parts = LITERAL.split(line)
        lines[number] = "".join(p if p.startswith("``") else p.replace("|", r"\|") for p in parts)


def lighten(app: Sphinx, error: Exception | None) -> None:
    """Take the theme's script of icons out of every page, that of charts and the styles of cards and tabs out of
    those without, the index of the search out of all but its own page, and what the theme writes twice or wrongly.
    """
    if error is not None or app.builder.format != "html":
        return
    for path in Path(app.outdir).rglob("*.html"):
        text = path.read_text(encoding="utf-8")
        # Stamped only if it lay there already; its name holds its digest anyway.
        light = STAMP.sub(r"\1", TWICE.sub(r"\1", ICONS.sub("", text))).replace(
            '<div role="list" class="citation-list">', '<div class="citation-list">'
        )
        if path.name != "search.html":
            light = SEARCH.sub("", light)
        if 'class="sd-' not in light:
            light = DESIGN.sub("", light)
        if "raretok-chart" not in light:
            light = CHARTS.sub("", light)
        if light != text:
            path.write_text(light, encoding="utf-8")


def setup(app: Sphinx) -> dict[str, Any]:
    """Register with Sphinx; the theme makes its buttons first."""
    app.connect("builder-inited", write_card)
    app.connect("source-read", list_modules)
    app.connect("html-page-context", describe, priority=600)
    app.connect("html-page-context", add_notebook, priority=600)
    app.connect("autodoc-process-docstring", escape_bars)
    app.connect("build-finished", lighten)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
