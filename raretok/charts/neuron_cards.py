"""One card for each neuron, with all results of the book about it as text that needs no script."""

import html
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from IPython.display import HTML

from raretok.charts.theme import ORANGE, printable
from raretok.claims.wording import number, with_interval
from raretok.data.frequency import DECILES

SHOWN = {"rare": "rare", "matched": "common, as hard", "common": "common"}
SHARES = {"scale_share": "through the final norm's scale", "frequency_share": "through the log-unigram direction"}


def link(neuron: int, page: str = "neuron_cards.html", prefix: str = "neuron") -> str:
    """Return a link to a neuron's card."""
    return f'<a href="{page}#{prefix}-{int(neuron)}">{int(neuron)}</a>'


def cards(tables: Mapping[str, pd.DataFrame], prefix: str = "neuron") -> Any:
    """Make a card for each neuron of ``tables["neurons"]``, in that order; each opens on a click or by keyboard.

    Args:
        tables: the tables of ``neuron_cards.cards``.
        prefix: the prefix of the cards' ids in the page, which a hyphen and the neuron's id follow.
    """
    index = {name: dict(list(table.groupby("neuron"))) for name, table in tables.items() if name != "neurons"}
    known = set(tables["neurons"]["neuron"])
    cards = [
        _card(row, prefix, {n: parts.get(row["neuron"]) for n, parts in index.items()}, known)
        for row in tables["neurons"].to_dict("records")
    ]
    return HTML(  # type: ignore[no-untyped-call]
        f'<div class="raretok-cards">{"".join(cards)}</div>'
    )


def _card(row: Mapping[Any, Any], prefix: str, parts: dict[str, Any], known: set[int]) -> str:
    neuron = row["neuron"]
    kinds = [name for name in ("controlled", "published") if row[name]]
    head = (
        f"<summary><b>neuron {neuron}</b> <span>{escape(row['direction'])}</span> <span>S = {row['s_b']:+.4f} ± "
        f"{1.96 * row['se_b']:.4f}</span> "
        f"<span>{' and '.join(kinds) or 'neither'}</span></summary>"
    )
    sections = [
        ("Effects by target (nats)", _effects(parts["effects"])),
        ("Its effect goes", _shares(parts["types"])),
        ("Tokens", _tokens(parts["tokens"])),
        ("Where it fires most", _contexts(parts["contexts"])),
        ("Neurons that act with it", _partners(parts["partners"], known, prefix)),
        ("Over training: effect on rare targets", _sparkline(parts.get("training"))),
    ]
    body = "".join(f"<h4>{title}</h4>{content}" for title, content in sections if content)
    return f'<details>{head}<div id="{prefix}-{neuron}">{body}</div></details>'


def escape(text: str) -> str:
    """Return a text as HTML, in which special characters are escaped."""
    return html.escape(printable(text))


def _table(rows: Sequence[tuple[str, ...]]) -> str:
    cells = "".join("<tr>" + "".join(f"<td>{c}</td>" for c in row) + "</tr>" for row in rows)
    return f'<table class="dataframe raretok-table wrap">{cells}</table>'


def _effects(part: pd.DataFrame) -> str:
    by_band: Any = part.set_index("band")
    names = SHOWN | {d: f"tenth {k + 1} by frequency" for k, d in enumerate(DECILES)}
    shown = [b for b in names if b in by_band.index]
    largest = by_band.loc[shown, "net"].abs().max() or 1.0
    rows = []
    for band in shown:
        net, low, high = (float(by_band.loc[band, c]) for c in ("net", "low", "high"))
        width = 40 * abs(net) / largest
        x = 40 if net >= 0 else 40 - width
        bar = (
            f'<svg width="80" height="10" role="img" aria-label="{net:+.4f}">'
            f'<rect x="{x:.1f}" width="{width:.1f}" height="10" fill="{ORANGE}"/>'
            '<path d="M40 0V10" stroke="currentColor"/></svg>'
        )
        rows.append((names[band], bar, with_interval(net, low, high)))
    return _table(rows)


def _shares(part: pd.DataFrame) -> str:
    row = part.iloc[0]
    kind = [
        name
        for column, name in (("entropy_neuron", "an entropy neuron"), ("frequency_neuron", "a token-frequency neuron"))
        if row[column]
    ]
    rows = [(label, f"{row[column]:.1%}") for column, label in SHARES.items()]
    rows += [("norm of the output row", number(row["norm"])), ("LogitVar", number(row["logit_variance"]))]
    return _table(rows) + (f"<p>It is {' and '.join(kind)} by the criteria of this book.</p>" if kind else "")


def _tokens(part: pd.DataFrame) -> str:
    lines = [
        f"<p>{verb}: {' '.join(f'<code>{escape(t)}</code>' for t in part.sort_values('rank')[column])}</p>"
        for verb, column in (("promotes", "promotes"), ("suppresses", "suppresses"))
    ]
    return "".join(lines)


def _contexts(part: pd.DataFrame) -> str:
    items = [
        f"<li>{escape(r['before'])} <b>→ {escape(r['target'])}</b> ({r['activation']:.1f})</li>"
        for r in part.to_dict("records")
    ]
    return f"<ol>{''.join(items)}</ol>"


def _partners(part: pd.DataFrame, known: set[int], prefix: str) -> str:
    names = [
        f"{link(r['partner'], '', prefix) if r['partner'] in known else r['partner']} ({r['r']:+.2f})"
        for r in part.to_dict("records")
    ]
    return f"<p>{', '.join(names)} (correlation in rare-target contexts)</p>"


def _sparkline(part: pd.DataFrame | None) -> str:
    if part is None or len(part) < 2:
        return ""
    values = part.sort_values("step")["net"].to_numpy()
    reach = max(abs(values).max(), 1e-12)
    points = " ".join(f"{4 + 232 * k / (len(values) - 1):.1f},{30 - 26 * v / reach:.1f}" for k, v in enumerate(values))
    steps = part["step"].sort_values().to_list()
    label = f"from {values[0]:+.4f} at step {steps[0]} to {values[-1]:+.4f} at step {steps[-1]}, a point a checkpoint"
    return (
        f'<svg width="240" height="60" role="img" aria-label="{label}">'
        f'<path d="M0 30H240" stroke="currentColor" opacity="0.3"/>'
        f'<polyline points="{points}" fill="none" stroke="{ORANGE}" stroke-width="2"/></svg><p>{label} (nats)</p>'
    )
