"""Numbers of the chapter on co-activation."""

from collections.abc import Mapping
from typing import Any

from raretok.charts.coactivation import FOLLOWED, strongest_links
from raretok.claims.coactivation import WORTH
from raretok.claims.wording import number, place, verdict_texts
from raretok.errors import NotApplicable
from raretok.findings.coactivation import CLUSTERED
from raretok.findings.groups import ALIKE, DRAWS, LEAST, headline
from raretok.graph import if_applicable
from raretok.stats.resampling import LEVEL
from raretok.study import Study

CLAIMS = ("C9", "C10", "C11", "C12", "C15", "C16", "C19")
"""Claims that the chapter judges."""
CALIBRATED = tuple(c for c in CLAIMS if c != "C16")
"""Claims whose rules were tried on simulated data."""
PLACED = ("participation", "within_r", "rest_r", "information")
"""Statistics whose percentiles among control groups the text gives."""

IN_CONTEXT = ("within_r", "information")
"""Statistics that are compared between contexts."""


def facts(study: Study, other: Study | None = None) -> dict[str, str]:
    """Return every number of the chapter.

    Args:
        study: the study of the model.
        other: the study of the model that it is compared with, which is followed over training.
    """
    sets = study.get("groups.neuron_sets")
    group = headline(sets)
    statistics = study.table("coactivation.statistics")
    rare = statistics[(statistics["group"] == group) & (statistics["context"] == "rare")].set_index("statistic")
    by_context = study.table("coactivation.by_context")
    compared = {row["statistic"] for row in by_context.to_dict("records") if row["group"] == group}
    if lacking := [*set(PLACED) - set(rare.index), *set(IN_CONTEXT) - compared]:
        chosen = int(study.table("identification.rare_token_neurons")["selected"].sum())
        raise NotApplicable(
            f"of the {chosen} rare-token neurons of {study.settings.model} no group can be made that is compared with "
            f"others: it takes {LEAST} of one direction, and half of the layer beside them ({', '.join(lacking)})"
        )
    constants = {
        "least": str(LEAST),
        "alike": f"{ALIKE:g}",
        "worth": f"{WORTH:g}",
        "level": f"{LEVEL:.0%}",
        "draws": f"{DRAWS:,}",
        "clustered": str(CLUSTERED),
    }
    about = {
        "model": study.settings.model,
        "group": group,
        "size": str(len(sets[group].ids)),
        "chosen": str(int(study.table("identification.rare_token_neurons")["selected"].sum())),
        "rows": f"{rare['rows'].iloc[0]:,.0f}",
    }
    places = {f"{name}_place": _place(rare.loc[name].to_dict()) for name in PLACED}
    return (
        verdict_texts(study.claims(CLAIMS))
        | constants
        | about
        | places
        | _contexts(study, group)
        | _clusters(study, group)
        | _pairs(study)
        | _permuted({s.settings.model: s for s in (study, other) if s})
        | _compared(other)
    )


def _place(row: Mapping[Any, Any]) -> str:
    """Say where a statistic lies among control groups."""
    ends = f"{number(row['matched_low'])} … {number(row['matched_high'])}"
    return f"{row['random']:.1%} of random and {row['matched']:.1%} of matched groups (95% of the latter: {ends})"


def _contexts(study: Study, group: str) -> dict[str, str]:
    """Compare rare-target contexts with the contexts of common targets that are as hard."""
    table = study.table("coactivation.by_context")
    rows = {r["statistic"]: r for r in table.to_dict("records") if r["group"] == group}
    return {
        f"{name}_contexts": (
            f"{number(rows[name]['rare'])} at rare targets and {number(rows[name]['matched'])} at common ones as hard "
            f"(p = {place(rows[name]['p'])})"
        )
        for name in IN_CONTEXT
    }


def _clusters(study: Study, group: str) -> dict[str, str]:
    """Describe the best division of the group into communities at the usual resolution."""
    table = study.table("coactivation.clusters")
    row = table[(table["group"] == group) & (table["resolution"] == 1)].iloc[0]
    return {
        "q": f"{row['q']:.3f}",
        "q_matched": f"{row['matched_mean']:.3f}",
        "z_matched": f"{row['matched_z']:+.1f}",
        "z_shuffled": f"{row['shuffled_z']:+.1f}",
        "communities": str(int(row["communities"])),
    }


def _pairs(study: Study) -> dict[str, str]:
    """Summarise the correlations between the members that the charts show."""
    pairs = study.table("coactivation.pairs")
    links = strongest_links(pairs)
    return {
        "shown": str(pairs["a"].nunique()),
        "pairs_r": f"{pairs.loc[pairs['a'] != pairs['b'], 'r'].mean():+.2f}",
        "pairs_communities": str(pairs["community"].nunique()),
        "links": str(len(links)),
        "links_positive": str(int((links["r"] > 0).sum())),
        "links_weakest": f"{links['r'].abs().min():.2f}",
    }


def _permuted(studies: Mapping[str, Study]) -> dict[str, str]:
    """Say what remains of cosine and correlation when each neuron's activations are moved to random positions."""
    tables = {
        name: study.table("coactivation.permuted_activations").set_index("statistic") for name, study in studies.items()
    }
    cosines = {name: table.loc["cosine"] for name, table in tables.items()}
    texts = [f"{c['permuted']:+.3f} ({name}; observed {c['observed']:+.3f})" for name, c in cosines.items()]
    left = max(abs(float(table["permuted"]["correlation"])) for table in tables.values())
    return {"cosines": " and ".join(texts), "r_permuted": f"{left:.3f}"}


def _compared(other: Study | None) -> dict[str, str]:
    """Return the other model's name, the size of its controlled group, and its place among matched ones at the end."""
    missing = {f"{name}_at_end": "–" for name in FOLLOWED}
    if other is None:
        return {"compare": "–", "compared": "none"} | missing
    sets = other.get("groups.neuron_sets")
    size = str(len(sets["controlled"].ids)) if "controlled" in sets else "none"
    about = {"compare": other.settings.model, "compared": size}
    table = other.get(if_applicable("coactivation.statistics_over_training"))
    if table is None:
        return about | missing
    last = table[(table["step"] == table["step"].max()) & (table["group"] == headline(sets))]
    return about | missing | {f"{r['statistic']}_at_end": f"{r['matched']:.0%}" for r in last.to_dict("records")}
