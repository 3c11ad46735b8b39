"""Further experiments on the positions of a study: effects taken apart, heads, other ablations, groups, other layers – each measured once, and kept."""

from functools import cached_property

import numpy as np
import pandas as pd
import torch
from numpy import ndarray

from raretok.ablation import DocumentSums, ablate
from raretok.ablation.outputs import log_unigram
from raretok.findings import intervention, relatives, robustness
from raretok.findings.identification import Halves
from raretok.store import hash_of
from raretok.upstream import Upstream

OUTPUTS = ("loss", "entropy", "kl", *relatives.PATHS)


class Experiments(Upstream):
    """Tables about neurons, and of the experiments."""

    # Relatives

    @cached_property
    def _log_unigram(self) -> ndarray:
        return log_unigram(self.frequency.counts, self.model.readout.vocab)

    @cached_property
    def outputs(self) -> dict[str, Halves]:
        """What else the ablations change, and direct effects, on a sample of the positions: sums of each of ``OUTPUTS``."""
        rows, weights = relatives.sample_positions(self.weights, self.config.seed)
        part = self.trace[rows]

        def compute() -> dict[str, ndarray]:
            mean = torch.from_numpy(self._measured["mean"])
            tolerance = self.config.tolerance
            found = ablate(self.model.readout, part, mean, weights, tolerance, OUTPUTS, self._log_unigram)
            sums = {f"{o} {m}": getattr(s, m).astype(np.float32) for o, s in found.items() for m in ("net", "activity")}
            return sums | {"weight": found["loss"].weight, "count": found["loss"].count}

        kept = self._arrays("outputs", compute, ("ablation",), rows, weights)
        _, first = np.unique(part.document, return_index=True)
        half = part.half[first]
        return {
            o: _halves(kept[f"{o} net"], kept[f"{o} activity"], kept["weight"], half, relatives.BANDS) for o in OUTPUTS
        }

    def geometry(self) -> pd.DataFrame:
        """What each neuron's row does to the unembedding, see ``findings.relatives.geometry``."""
        return self._table("geometry", lambda: relatives.geometry(self.model.readout, self._log_unigram))

    def relatives(self) -> pd.DataFrame:
        """Entropy and token-frequency neurons, see ``findings.relatives.relatives``."""
        return self._table("relatives", lambda: relatives.relatives(self.geometry(), self.outputs))

    def kinship(self) -> pd.DataFrame:
        """How many rare-token neurons are of these kinds, see ``findings.relatives.overlap``."""
        return self._table("kinship", lambda: relatives.overlap(self.relatives(), self.identification()))

    def remaining(self) -> pd.DataFrame:
        """What remains of the rare-specific effect with a path held, see ``findings.relatives.remaining``."""
        return self._table(
            "remaining", lambda: relatives.remaining(self.outputs, self.identification(), self.config.seed)
        )

    # Other ablations

    @cached_property
    def replaced(self) -> dict[str, Halves]:
        """The effects under every kind of ablation, on rare targets with controls and on these."""
        bands = ("rare with controls", "matched")
        weights = np.stack([self.weights[band] for band in bands])
        rows = np.flatnonzero(weights.any(0))
        documents = np.unique(self.trace.document)
        part = self.trace[rows]
        whole = self.weights["all"] / self.weights["all"].sum()
        other = np.random.default_rng([self.config.seed, 16]).choice(len(whole), len(rows), p=whole)

        def compute() -> dict[str, ndarray]:
            activation = self.trace.activation
            replacing = {
                "mean": torch.from_numpy(self._measured["mean"]),
                "zero": torch.zeros_like(activation[0]),
                "resample": activation[torch.from_numpy(other)],
            }
            at = np.searchsorted(documents, np.unique(part.document))
            found: dict[str, ndarray] = {}
            for kind, values in replacing.items():
                sums = ablate(self.model.readout, part, values, weights[:, rows], self.config.tolerance)["loss"]
                net = np.zeros((len(documents), *sums.net.shape[1:]), dtype=np.float32)
                net[at] = sums.net
                weight = np.zeros((len(documents), len(bands)))
                weight[at] = sums.weight
                found |= {kind: net, "weight": weight}
            return found

        kept = self._arrays("replacements", compute, ("ablation",), rows, weights, other)
        return {k: _halves(kept[k], None, kept["weight"], self.halves.half, bands) for k in robustness.KINDS}

    def replacements(self) -> pd.DataFrame:
        """Agreement of the kinds of ablation, see ``findings.robustness.replacements``."""
        self.identification()
        return self._table("replacements", lambda: robustness.replacements(self.replaced, self.config.seed))

    def definitions(self) -> pd.DataFrame:
        """Rarity of the input against that of the target, see ``findings.robustness.definitions``."""
        return self._table("definitions", lambda: robustness.definitions(self.halves, self.config.seed))

    def learning_curve(self) -> pd.DataFrame:
        """How much text a stable list takes, see ``findings.robustness.learning_curve``."""
        return self._table("learning-curve", lambda: robustness.learning_curve(self.halves, self.config.seed))

    def across_corpora(self, other: "Experiments") -> pd.DataFrame:
        """The same neurons on another corpus, see ``findings.robustness.across_corpora``."""
        return self._table(
            "across-corpora",
            lambda: robustness.across_corpora(self.halves, other.halves, self.config.seed),
            other=hash_of(other.key),
        )

    # Groups

    @cached_property
    def _bench_rows(self) -> tuple[ndarray, ndarray]:
        rows, weights = [], []
        for half in (0, 1):
            inside = {b: np.where(self.trace.half == half, self.weights[b], 0.0) for b in intervention.BANDS}
            kept, drawn = relatives.sample_positions(
                inside, self.config.seed, intervention.PER_BAND, intervention.BANDS
            )
            rows.append(kept)
            weights.append(drawn)
        return np.concatenate(rows), np.concatenate(weights, axis=1)

    @cached_property
    def bench(self) -> intervention.Bench:
        """Positions at which groups are ablated together."""
        rows, weights = self._bench_rows
        mean = torch.from_numpy(self._measured["mean"])
        return intervention.Bench(self.model.readout, self.trace[rows], mean, weights)

    def joint_groups(self) -> pd.DataFrame:
        """The best group against the best single neurons, see ``findings.intervention.joint_groups``."""
        code = ("ablation", "findings/intervention")
        kept = self._arrays("best-groups", lambda: intervention.best_groups(self.bench), code, *self._bench_rows)
        return intervention.joint_groups(kept, self.config.seed)

    def pruning(self) -> pd.DataFrame:
        """What is lost with the first k rare-token neurons, see ``findings.intervention.pruning``."""
        order = np.argsort(-self.identification()["s_a"].abs().to_numpy(), kind="stable")
        return self._table(
            "pruning", lambda: intervention.pruning(self.bench, order, self.features(), self.config.seed)
        )

    def scaled_groups(self) -> dict[str, ndarray]:
        """Groups whose activations are scaled: the rare-token neurons chosen on half A, all, boost and suppress."""
        found = self.identification()
        chosen, boost = found["selected"].to_numpy(), (found["direction"] == "boost").to_numpy()
        groups = {"all": chosen, "boost": chosen & boost, "suppress": chosen & ~boost}
        return {name: np.flatnonzero(members) for name, members in groups.items() if members.any()}

    def scaling(self, groups: dict[str, ndarray] | None = None) -> pd.DataFrame:
        """What scaling the activations of groups does (by default ``scaled_groups``), see ``findings.intervention.scaling``."""
        groups = self.scaled_groups() if groups is None else groups
        ids = {name: members.tolist() for name, members in groups.items()}
        return self._table("scaling", lambda: intervention.scaling(self.bench, groups, self.config.seed), groups=ids)


def _halves(net: ndarray, activity: ndarray | None, weight: ndarray, half: ndarray, bands: tuple[str, ...]) -> Halves:
    missing = np.broadcast_to(np.float64("nan"), net.shape)
    sums = DocumentSums(
        net, missing if activity is None else activity, missing, weight, (weight > 0).astype(np.int64), 0.0, 0.0
    )
    return Halves(sums, half, bands)
