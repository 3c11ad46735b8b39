"""The look of every chart and table, and the way in which a page draws a chart without any outside host.

In a page a chart is its Vega-Lite specification as inert JSON, which the page's own scripts (``_static``) draw in the
page's light or dark colours. Elsewhere (JupyterLab, VS Code) it is the usual Vega-Lite output. Ids are hashes of the
content.
"""

import base64
import csv
import hashlib
import html
import io
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import altair as alt
import pandas as pd

BLUE, ORANGE, GREEN, GREY = "#2a7ab9", "#d1761d", "#2b9a66", "#8a8f98"
PURPLE, PALE = "#9a67b8", "#c9ccd2"
BAND_COLOURS = {"rare": ORANGE, "matched": BLUE, "common": GREEN, "between": GREY, "all": PURPLE}
"""Colours of similar lightness that colour-blind readers can distinguish.

Marks also differ in shape or place where it matters.
"""
WIDTH, HEIGHT = 640, 300
MIME = "application/vnd.vegalite.v6+json"


FONT = "system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', sans-serif"
CONFIG: dict[str, Any] = {
    "background": "transparent",
    "font": FONT,
    "view": {"continuousWidth": WIDTH, "continuousHeight": HEIGHT, "stroke": None},
    "title": {"anchor": "start", "fontSize": 15, "fontWeight": 600, "subtitleFontSize": 12, "offset": 12},
    "axis": {
        "labelFontSize": 11,
        "titleFontSize": 12,
        "titleFontWeight": "normal",
        "gridOpacity": 0.25,
        "ticks": False,
    },
    "legend": {"labelFontSize": 11, "titleFontSize": 11, "titleFontWeight": "normal", "orient": "top"},
    "range": {"category": [ORANGE, BLUE, GREEN, PURPLE, GREY]},
    "point": {"filled": True, "size": 40},
    "rule": {"color": GREY},
}
"""Fonts, sizes and quiet axes of every chart; the page sets the colours of text and axes, for light and dark mode."""


def _mimebundle(spec: dict[str, Any]) -> dict[str, Any]:
    # The title is text of the page, where it wraps and can be searched; the drawing holds the rest.
    title = spec.get("title", {})
    drawing = _packed(_six_digits({key: value for key, value in spec.items() if key != "title"}))
    text = json.dumps(drawing, sort_keys=True, separators=(",", ":"), ensure_ascii=False).replace("<", "\\u003c")
    digest = hashlib.sha256(text.encode()).hexdigest()[:12]
    label = html.escape(str(spec.get("description", "chart")), quote=True)
    page = (
        f'<div class="raretok-chart" id="chart-{digest}" role="figure" aria-label="{label}">'
        f'<p class="raretok-title">{html.escape(title.get("text", ""))}</p>'
        f'<p class="raretok-subtitle">{html.escape(title.get("subtitle", ""))}</p>'
        f'<script type="application/json">{text}</script></div>'
    )
    return {"text/html": page, MIME: spec, "text/plain": label}


def _six_digits(value: Any) -> Any:
    """Round numbers to six digits, which are more than a screen shows and halve the size of a page."""
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, dict):
        return {k: _six_digits(v) for k, v in value.items()}
    return [_six_digits(v) for v in value] if isinstance(value, list) else value


def _packed(drawing: dict[str, Any]) -> dict[str, Any]:
    """Return a specification whose tables are CSV with the kinds of their columns, half as large as records."""
    tables, formats = dict(drawing.get("datasets", {})), {}
    for name, rows in tables.items():
        kinds = {
            column: _kind([row.get(column) for row in rows]) for column in dict.fromkeys(k for r in rows for k in r)
        }
        if all(kinds.values()) and not any(set(column) & set(".[]\\\"'") for column in kinds):
            text = io.StringIO()
            writer = csv.writer(text, lineterminator="\n")
            writer.writerow(kinds)
            writer.writerows(map(_cell, map(row.get, kinds)) for row in rows)
            tables[name], formats[name] = text.getvalue(), {"type": "csv", "parse": kinds}

    def visit(value: Any) -> Any:
        if isinstance(value, dict):
            named = value.get("data")
            form = formats.get(named.get("name")) if isinstance(named, dict) else None
            return {k: v | {"format": form} if form and k == "data" else visit(v) for k, v in value.items()}
        return [visit(v) for v in value] if isinstance(value, list) else value

    packed: dict[str, Any] = visit({k: v for k, v in drawing.items() if k != "datasets"})
    return packed | {"datasets": tables} if tables else packed


def _cell(value: Any) -> Any:
    return str(value).lower() if isinstance(value, bool) else f"{value:.15g}" if isinstance(value, float) else value


def _kind(values: Sequence[Any]) -> str:
    """Return the kind of a column's values – number, boolean or string –, of which missing values are disregarded.

    The kind is empty where the values are of different kinds or CSV would not preserve them.
    """
    kinds = {"number" if type(v) in (int, float) else type(v).__name__ for v in values if v is not None}
    known = {"bool": "boolean", "str": "string", "number": "number"}
    kind = "number" if not kinds else known.get(kinds.pop(), "") if len(kinds) == 1 else ""
    lost = kind == "string" and any(v == "" or "\r" in v for v in values if v is not None)
    return "" if lost else kind


def rounded(table: pd.DataFrame, columns: Collection[str], digits: int = 3) -> pd.DataFrame:
    """Round some columns of a table to a number of significant digits, because a chart needs no more."""
    return table.assign(**{c: table[c].map(lambda x: float(f"{x:.{digits}g}")) for c in columns})


def finish(chart: Any, title: str, subtitle: str, description: str) -> Any:
    """Give a chart its title, which states the finding, its subtitle (n and units), its description, look and display.

    The description is for screen readers. Look and display are set for this chart alone; Altair's theme and renderer
    are not changed.
    """
    finished = chart.properties(title=alt.TitleParams(title, subtitle=subtitle), description=description)
    finished = finished.configure(**CONFIG)
    object.__setattr__(finished, "_repr_mimebundle_", lambda *_, **__: _mimebundle(finished.to_dict()))
    return finished


def show_table(
    table: pd.DataFrame,
    formats: Mapping[str, str | Callable[[Any], str]] | None = None,
    caption: str = "",
    wrap: bool = False,
    saved: pd.DataFrame | None = None,
) -> Any:
    """Return a table for a page: formatted, escaped, without its index, and with an id that is a hash of its content.

    A table with a caption can be saved. ``formats`` has for each column a format or a function that makes HTML of a
    value. ``wrap`` lets long texts break into lines; otherwise a wide table scrolls. ``saved`` is the table that a
    reader saves, by default ``table``.
    """
    digest = hashlib.sha256(table.to_json().encode()).hexdigest()[:8]
    shown = table.rename(columns=lambda name: html.escape(str(name)))
    for name in shown.select_dtypes(["object", "string"]):
        shown[name] = shown[name].map(lambda x: printable(x) if isinstance(x, str) else x)
    escaped_formats: dict[Any, Any] = {html.escape(str(name)): how for name, how in (formats or {}).items()}
    style = shown.style.format(escaped_formats, escape="html", na_rep="–").hide(axis="index").set_uuid(digest)
    style = style.set_table_attributes(f'class="dataframe raretok-table{" wrap" * wrap}"')
    return (
        style.set_caption(html.escape(caption) + save_link(table if saved is None else saved, digest))
        if caption
        else style
    )


def printable(text: str) -> str:
    """Return a text in which characters that cannot be printed are shown as their code points."""
    return "".join(c if c.isprintable() or c in "\n\t" else f"\\x{ord(c):02x}" for c in text)


def save_link(table: pd.DataFrame, name: str) -> str:
    """Return a link that saves a table as CSV with numbers to six digits.

    The link contains the table, so it works without a server or network.
    """
    text = base64.b64encode(table.to_csv(index=False, float_format="%.6g").encode()).decode()
    named = html.escape(f"{name}.csv", quote=True)
    return f' <a class="raretok-save" download="{named}" href="data:text/csv;base64,{text}">CSV</a>'


def log_ranks(count: int, points: int = 400) -> list[int]:
    """Return at most ``points`` ranks from 1 to ``count``, evenly spaced on a log axis, for drawing a rank curve."""
    return sorted({round(count ** (k / (points - 1))) for k in range(points)}) if count > 1 else [1]
