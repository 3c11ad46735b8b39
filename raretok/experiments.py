"""Further experiments on the positions of a study: effects taken apart, heads, other ablations, groups, other layers – each measured once, and kept."""

import hashlib
from collections.abc import Callable
from functools import cached_property

import numpy as np
import pandas as pd
import torch
from numpy import ndarray

from raretok.ablation import DocumentSums, ablate
from raretok.ablation.outputs import log_unigram
from raretok.data.frequency import type_bands
from raretok.findings import intervention, layers, relatives, robustness, routing
from raretok.findings.identification import Halves
from raretok.model import passes, upstream
from raretok.model.trace import SKIP
from raretok.neurons import Neurons
from raretok.stats.resampling import by_document
from raretok.store import code_digest, hash_of

OUTPUTS = ("loss", "entropy", "kl", *relatives.PATHS)
MODEL = ("model/load", "model/readout", "model/trace", "model/passes", "model/upstream")
"""The parts of the package that every experiment is done with."""
SMALL_WINDOWS, SMALL_LENGTH = 64, 128
"""Text that heads of our own small models are ablated on; others have that of ``findings.routing``."""


class Experiments(Neurons):
    """Tables about neurons, and of the experiments."""

    def _arrays(
        self, name: str, compute: Callable[[], dict[str, ndarray]], code: tuple[str, ...], *given: ndarray
    ) -> dict[str, ndarray]:
        """Kept results of an experiment; ``given``: what it is done on, ``code``: the parts of the package that do it."""
        digest = hashlib.sha256(b"".join(np.ascontiguousarray(x).tobytes() for x in given)).hexdigest()
        inputs = {"effects": hash_of(self.key), "code": code_digest(*MODEL, "experiments", *code), "given": digest}
        return self.store.arrays(name, inputs, compute)

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

    # Routing

    @property
    def head_length(self) -> int:
        """Tokens of each window that heads are ablated on."""
        return min(SMALL_LENGTH if self.entry.local_run else routing.LENGTH, self.windows.tokens.shape[1])

    @cached_property
    def _head_windows(self) -> ndarray:
        """Which windows heads are ablated on: of half B, as groups are chosen on half A."""
        count = SMALL_WINDOWS if self.entry.local_run else routing.WINDOWS
        return np.flatnonzero(self.windows.half == 1)[:count]

    @cached_property
    def _head_text(self) -> tuple[ndarray, ndarray, ndarray]:
        """The tokens that heads are ablated on, what their positions count for in each band, and every neuron's spread."""
        tokens = self.windows.tokens[self._head_windows, : self.head_length]
        target = tokens[:, SKIP + 1 :]
        bands = type_bands(self.frequency.counts)
        weights = np.stack([bands[band][target] for band in routing.BANDS]).astype(float)
        return tokens, weights, np.exp(self.features()["log variance"].to_numpy() / 2)

    @cached_property
    def influences(self) -> routing.Influences:
        """Every head's influence on every neuron of the last layer."""
        text = self._head_text
        kept = self._arrays("heads", lambda: upstream.head_influences(self.model, *text), (), *text)
        document = self.windows.document[self._head_windows]
        heads, whole = (by_document(kept[name], document, 1) for name in ("heads", "layers"))
        return routing.Influences(heads, whole, by_document(kept["weight"], document, 0))

    def routing(self) -> pd.DataFrame:
        """How heads influence the groups at rare and at common targets, see ``findings.routing.routing``."""
        return self._table(
            "routing", lambda: routing.routing(self.influences, self.groups, self.features(), self.config.seed)
        )

    def screened_heads(self, group: str) -> pd.DataFrame:
        """The gradient's estimate of each head's influence beside the ablation's, see ``findings.routing.screened``."""
        ids = self.groups[group].ids
        text, seed = self._head_text, self.config.seed
        kept = self._arrays(
            "screen", lambda: {"screen": upstream.screen_heads(self.model, *text, ids, seed)}, (), *text, ids
        )
        return routing.screened(self.influences, ids, kept["screen"])

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

    # Other layers

    @cached_property
    def _layer_text(self) -> tuple[ndarray, ndarray]:
        """The windows that gradients are taken on, and what their positions count for in each band."""
        count, used = len(self.windows.tokens), self.windows.tokens.shape[1] - 1 - SKIP
        weights = np.zeros((len(layers.BANDS), count * used))
        weights[:, self.selection.rows] = [self.weights[band] for band in layers.BANDS]
        taken = count if self.entry.local_run else min(layers.WINDOWS, count)
        return self.windows.tokens[:taken], weights.reshape(len(weights), count, used)[:, :taken]

    @cached_property
    def _gradients(self) -> dict[str, ndarray]:
        tokens, weights = self._layer_text
        return self._arrays(
            "attributions", lambda: upstream.neuron_attributions(self.model, tokens, weights), (), tokens, weights
        )

    @cached_property
    def attributions(self) -> layers.Attributions:
        """First-order effects of the neurons of every layer."""
        _, weights = self._layer_text
        return layers.Attributions(self._gradients["net"], weights.sum(2).T)

    def layer_effects(self) -> pd.DataFrame:
        """How much each layer acts on rare targets in particular, see ``findings.layers.layer_effects``."""
        self.identification()
        return self._table(
            "layer-effects",
            lambda: layers.layer_effects(
                self.attributions.by_document(self.windows.document[: len(self.attributions.weight)]), self.config.seed
            ),
        )

    def layer_agreement(self) -> pd.DataFrame:
        """The gradient against the exact effects of the last layer, see ``findings.layers.against_exact``."""
        weights = np.stack([self.weights[band] for band in layers.BANDS])
        rows = np.flatnonzero((self.trace.window < len(self.attributions.weight)) & weights.any(0))
        mean = self._gradients["mean"][-1]  # what the gradients were taken towards

        def compute() -> dict[str, ndarray]:
            replacing = torch.from_numpy(mean)
            sums = ablate(self.model.readout, self.trace[rows], replacing, weights[:, rows], self.config.tolerance)[
                "loss"
            ]
            return {"net": sums.net, "weight": sums.weight}

        kept = self._arrays("layer-agreement", compute, ("ablation",), rows, weights, mean)
        return layers.against_exact(self.attributions, kept["net"], kept["weight"])

    def layer_checks(self) -> pd.DataFrame:
        """The gradient against full ablations of some neurons, see ``findings.layers.check_rows``."""
        chosen = layers.to_check(self.attributions, self.config.seed)
        tokens, weights = (x[..., : layers.CHECKED_WINDOWS, :] for x in self._layer_text)

        def compute() -> dict[str, ndarray]:
            mean = torch.from_numpy(self._gradients["mean"]).to(self.model.device)
            base = passes.run_pass(self.model, tokens)
            before = upstream.losses(self.model, base.residual, tokens)
            found = []
            for layer, neuron in chosen:
                after = passes.ablate_neuron(self.model, base, layer, neuron, mean[layer])
                rise = (upstream.losses(self.model, after, tokens) - before).double().cpu().numpy()
                found.append((weights[0] * rise).sum(1))
            return {"ablated": np.stack(found)}

        kept = self._arrays("layer-checks", compute, (), tokens, weights, np.array(chosen))
        return layers.check_rows(chosen, self.attributions, kept["ablated"], weights[0].sum(1))

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
