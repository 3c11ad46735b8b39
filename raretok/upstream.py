"""What lies before the last MLP, on the positions of a study: heads, and the neurons of other layers – each measured once, and kept."""

import hashlib
from collections.abc import Callable
from functools import cached_property

import numpy as np
import pandas as pd
import torch
from numpy import ndarray

from raretok.ablation import ablate
from raretok.data.frequency import type_bands
from raretok.findings import layers, routing
from raretok.model import passes, upstream
from raretok.model.trace import SKIP
from raretok.neurons import Neurons
from raretok.stats.resampling import by_document
from raretok.store import code_digest, hash_of

MODEL = ("model/load", "model/readout", "model/trace", "model/passes", "model/upstream")
"""The parts of the package that every experiment is done with."""
SMALL_WINDOWS, SMALL_LENGTH = 64, 128
"""Text that heads of our own small models are ablated on; others have that of ``findings.routing``."""


class Upstream(Neurons):
    """Tables about heads and other layers."""

    def _arrays(
        self, name: str, compute: Callable[[], dict[str, ndarray]], code: tuple[str, ...], *given: ndarray
    ) -> dict[str, ndarray]:
        """Kept results of an experiment; ``given``: what it is done on, ``code``: the parts of the package that do it."""
        digest = hashlib.sha256(b"".join(np.ascontiguousarray(x).tobytes() for x in given)).hexdigest()
        inputs = {
            "effects": hash_of(self.key),
            "code": code_digest(*MODEL, "upstream", "experiments", *code),
            "given": digest,
        }
        return self.store.arrays(name, inputs, compute)

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
