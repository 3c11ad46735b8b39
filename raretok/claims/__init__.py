"""The claims of the paper and its follow-ups: what each says, what was reported, and the rule that gives its verdict.

Rules are the same for every model and read tables only; ``benchmarks/calibration.py`` measures how often each
finds something in data that hold nothing, and something that was planted.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields

import pandas as pd

from raretok.claims import coactivation, emergence, regimes, relatives, robustness, routing, weights
from raretok.claims.verdicts import Evidence, Judgement, Verdict
from raretok.stats.rankcurve import HEAD

__all__ = ["CLAIMS", "QUESTIONS", "RANK_CURVE", "Claim", "Evidence", "Judgement", "Verdict", "judge"]


@dataclass(frozen=True)
class Claim:
    """One claim: its id, what it says, who says so (E, N, D: see the related work), what was reported, and what is printed.

    ``needs``: a table of ``Evidence`` that not every model has; ``only``: the one family of models that it is about.
    """

    id: str
    text: str
    source: str
    reported: str
    quantity: str
    rule: Callable[[Evidence], Judgement]
    needs: str = "regimes"
    only: str = ""

    @property
    def room(self) -> str:
        """The finding that the claim is about: the name of its chapter and of the modules that measure, judge and draw it."""
        return self.rule.__module__.rpartition(".")[2]


def judge(evidence: Evidence, only: Iterable[str] | None = None) -> pd.DataFrame:
    """Every claim whose rule applies, a row each: ``id``, ``claim``, ``source``, ``reported``, ``quantity`` and the fields of ``Judgement``."""
    rows = []
    for claim in CLAIMS:
        if only is not None and claim.id not in only:
            continue
        if getattr(evidence, claim.needs) is None or not evidence.model.startswith(claim.only):
            continue
        found = claim.rule(evidence)
        what = {"id": claim.id, "claim": claim.text, "source": claim.source}
        rows.append(
            what
            | {"reported": claim.reported, "quantity": claim.quantity}
            | {f.name: getattr(found, f.name) for f in fields(found)}
        )
    return pd.DataFrame(rows)


CLAIMS: tuple[Claim, ...] = (
    Claim("C1", "a few neurons have outsize influence on rare tokens", "E", "qualitative", f"share of the first {HEAD} in Σ|effect|", regimes.influence),
    Claim("C2", "a plateau holds this share of the neurons", "E", "1.7 %", "neurons before the first break", regimes.plateau_share),
    Claim("C3", "a power law holds this share", "E", "10.9 %", "neurons between the breaks", regimes.middle_share),
    Claim("C4", "a rapid decay holds the rest", "E", "87.4 %", "neurons after the second break", regimes.decay_share),
    Claim("C5", "the middle is a power law", "E", "high R²", "exponent α of the effects' distribution", regimes.power_law),
    Claim("C6a", "the head departs from the power law: it is flat", "E", "a plateau", "head excess H < 0", regimes.flat_head),
    Claim("C6b", "the head departs from the power law: it lies above", "E", "points above the line", "head excess H > 0", regimes.head_excess),
    Claim("C7", "the regimes emerge in training from a homogeneous start", "E", "qualitative", "first step at which H is outside its nulls for good", emergence.emerges, "departures"),
    Claim("C8", "a plateau for rare tokens, none for common ones", "N, D", "qualitative", "H(rare) − H(matched common)", regimes.rare_only),
    Claim("C9", "they span fewer dimensions", "E", "d95/n 0.49 against 0.56", "participation ratio / n", coactivation.dimension, "coactivation"),
    Claim("C10", "they co-activate with each other", "E", "cosine > 0", "mean correlation within", coactivation.within, "coactivation"),
    Claim("C11", "they avoid the other neurons", "E", "cosine < 0", "mean correlation with the rest", coactivation.avoidance, "coactivation"),
    Claim("C12", "boost and suppress neurons co-activate, too", "E (draft)", "> 0", "mean correlation of boost with suppress", coactivation.across, "across"),
    Claim("C13", "their weights are heavier-tailed", "E", "lower Hill exponent", "Hill exponent of W_out, k = n/2", weights.heavier, "group_tails"),
    Claim("C14", "heavy tails grow in training", "E, D", "qualitative", "first step at which their rows are heavier for good", weights.grows, "growth"),
    Claim("C15", "they do not form clusters", "N", "Q .05–.11 against .04–.09", "signed modularity Q", coactivation.no_clusters, "clusters"),
    Claim("C16", "2.8B is the exception: it has clusters", "D", "significant", "signed modularity Q", coactivation.clusters, "clusters", "pythia-2.8b"),
    Claim("C17", "attention does not route rare tokens to them", "N, D", "similar head influence", "Spearman's ρ of the heads' influences at rare and common targets", routing.no_routing, "routing"),
    Claim("C18", "one head matters little, a whole layer a lot", "D", "qualitative", "a layer's influence over its strongest head's", routing.layer_against_head, "routing"),
    Claim("C19", "they share mutual information", "D", "not recovered", "Gaussian multi-information (nats)", coactivation.information, "coactivation"),
    Claim("C20", "the best single neurons are not the best group", "E (draft)", "little overlap", "gain of the group chosen together (nats)", robustness.best_group, "joint_groups"),
    Claim("C21", "they are entropy or token-frequency neurons", "reviewers of D", "–", "share of them that are of either kind", relatives.relatives, "kinship"),
    Claim("C22", "the kind of ablation does not matter", "reviewers of D", "–", "lowest rank correlation of mean with another kind", robustness.any_ablation, "replacements"),
    Claim("C23", "the last layer is special", "reviewers of D", "–", "last layer's share of the rare-specific effects of all", robustness.last_layer, "layer_effects"),
)  # fmt: skip
QUESTIONS = {
    "regimes": "Do a few neurons matter for rare tokens, and do the neurons fall into three regimes?",
    "emergence": "Do the regimes emerge in training?",
    "coactivation": "Do these neurons act together, apart from the others?",
    "weights": "Have they heavy-tailed weights?",
    "routing": "Does attention send rare tokens to them?",
    "relatives": "Are they a kind of neuron that was known before?",
    "robustness": "Does the outcome hang on how and where neurons are ablated?",
}
"""What each room asks, in the order of the book."""
RANK_CURVE = tuple(claim.id for claim in CLAIMS if claim.needs in ("regimes", "departures"))
"""Claims about the rank curve alone, which are judged at every checkpoint."""
