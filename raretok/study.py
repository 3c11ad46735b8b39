"""A study: one model, checkpoint and corpus, measured once; its tables are computed on first call and kept in the store."""

from collections.abc import Callable, Collection
from contextlib import suppress

import numpy as np
import pandas as pd
from tqdm import tqdm

from raretok.ablation import replaced_by
from raretok.ablation.audit import audit
from raretok.claims import CLAIMS, RANK_CURVE, Evidence, judge
from raretok.data.text import Windows
from raretok.errors import RaretokError
from raretok.experiments import Experiments
from raretok.findings import coactivation, emergence, intervention, prints, regimes, weights
from raretok.findings.groups import HEADLINE, Activity, Groups
from raretok.findings.identification import NoControls
from raretok.model.passes import NoHeads
from raretok.model.trace import run_trace
from raretok.stats.nulls import NULLS
from raretok.stats.resampling import ratio
from raretok.store import hash_of


class Study(Experiments):
    """Tables about one model on one text. ``device`` and ``store`` change no number beyond its bound and are in no key.

    >>> Study(model="smollm2-135m", windows=256).identification()  # doctest: +SKIP
    """

    def regimes(self, measure: str = "net") -> pd.DataFrame:
        """Statistics of the rank curves with intervals and percentiles in the nulls, see ``findings.regimes.regimes``."""
        start = self.at(0) if self.entry.local_run and 0 in self.entry.steps else None

        def compute() -> pd.DataFrame:
            untrained = start.halves if start else None
            return regimes.regimes(self.halves, self.config.seed, measures=(measure,), untrained=untrained)

        return self._table(f"regimes-{measure}", compute, untrained=hash_of(start.key) if start else None)

    def contrasts(self) -> pd.DataFrame:
        """Rank curve of rare targets against those of the other bands, see ``findings.regimes.contrasts``."""
        return self._table("contrasts", lambda: regimes.contrasts(self.halves, self.config.seed))

    def tails(self) -> pd.DataFrame:
        """Power-law fits of the effects, see ``findings.regimes.tails``."""
        return self._table("tails", lambda: regimes.tails(self.halves, self.config.seed))

    def published(self) -> pd.DataFrame:
        """What the published estimator says of the rank curves, see ``findings.regimes.published``."""
        return regimes.published(self.halves)

    def curves(self, nulls: bool = True) -> pd.DataFrame:
        """Rank curves and, unless left out, those of the nulls, see ``findings.regimes.curves``."""
        kinds, name = (NULLS, "curves") if nulls else ((), "curves-observed")
        return self._table(name, lambda: regimes.curves(self.halves, self.config.seed, nulls=kinds))

    def slopes(self) -> pd.DataFrame:
        """Local slopes of the rank curves, see ``findings.regimes.slopes``."""
        return regimes.slopes(self.halves)

    # Over training

    def at(self, step: int) -> "Study":
        """The same study at another checkpoint: the same windows, the same settings."""
        other = Study(device=self.device, store=self.store, **self.config.model_dump() | {"step": step})
        if self.entry.local_run:  # one tokenizer and one set of counts for all checkpoints, so one text
            for name in ("corpus", "tokenizer", "text", "windows", "frequency"):
                other.__dict__[name] = getattr(self, name)
        return other

    def over_training(self, table: Callable[["Study"], pd.DataFrame], progress: bool = True) -> pd.DataFrame:
        """A table of every checkpoint, with the column ``step``; checkpoints where it cannot be made are left out.

        Raises:
            RaretokError: the model has no checkpoints, or none at which the table can be made.
        """
        steps = self.entry.steps
        if not steps:
            raise RaretokError(f"{self.entry.name} has no checkpoints: `raretok models` lists models that have")
        found: dict[int, pd.DataFrame] = {}
        for step in tqdm(steps, desc="checkpoints", unit="checkpoint", disable=None if progress else True):
            with suppress(NoControls):
                found[step] = table(self.at(step))
        if not found:
            raise RaretokError(f"no checkpoint of {self.entry.name} has enough rare targets with controls")
        return emergence.by_step(found)

    def departures(self) -> pd.DataFrame:
        """When the rank curve's statistics leave their nulls, see ``findings.emergence.departures``."""
        return emergence.departures(self.over_training(Study.regimes))

    def claims(self, only: Collection[str] | None = None) -> pd.DataFrame:
        """The verdict on every claim whose rule applies, or on some, see ``claims.judge``; those over training for the last checkpoint alone."""
        steps = self.entry.steps
        whole = self.entry.local_run and 0 in steps and self.config.step in (None, *steps[-1:])
        wanted = {c.needs for c in CLAIMS if (only is None or c.id in only)}
        over_training = {"departures", "growth"}
        tables = {}
        for name in wanted - (set() if whole else over_training) - {"regimes"}:
            with suppress(NoControls, NoHeads):
                tables[name] = getattr(self, name)()
        rank_curve = (self.regimes(), self.contrasts(), self.tails(), self.published())
        gated = bool({"coactivation", "across"} & set(tables)) and "W_gate" in self.matrices
        return judge(Evidence(*rank_curve, **tables, model=self.entry.name, gated=gated), only)

    def verdicts(self) -> pd.DataFrame:
        """The verdicts at every checkpoint on the claims about the rank curve, and at the last on all, by step."""
        last = self.entry.steps[-1:]
        earlier = self.over_training(lambda s: s.claims(RANK_CURVE))
        return pd.concat([earlier[~earlier["step"].isin(last)], *(self.at(s).claims().assign(step=s) for s in last)])

    # Groups of neurons

    def coactivation(self) -> pd.DataFrame:
        """Statistics of the groups' activations among control groups, see ``findings.coactivation.coactivation``."""
        return self._of_groups("coactivation", coactivation.coactivation)

    def across(self) -> pd.DataFrame:
        """Boost against suppress neurons, see ``findings.coactivation.across``."""
        found = self.identification()
        return self._of_groups("across", lambda a, g, f, seed: coactivation.across(a, found, g, f, seed))

    def by_context(self) -> pd.DataFrame:
        """Rare-target contexts against matched ones, see ``findings.coactivation.by_context``."""
        return self._of_groups("by-context", lambda a, g, f, seed: coactivation.by_context(a, g, seed))

    def clusters(self) -> pd.DataFrame:
        """Signed modularity of the groups, see ``findings.coactivation.clusters``."""
        return self._of_groups("clusters", coactivation.clusters)

    def histograms(self) -> pd.DataFrame:
        """The control groups' distributions, see ``findings.coactivation.histograms``."""
        return self._of_groups("histograms", coactivation.histograms)

    def largest(self, group: str, most: int = 60) -> np.ndarray:
        """The members of a group with the largest rare-specific effects in half A."""
        ids = self.groups[group].ids
        return np.asarray(ids[np.argsort(-self.identification()["s_a"].abs().to_numpy()[ids], kind="stable")][:most])

    def pairs(self, group: str) -> pd.DataFrame:
        """Correlations within the largest of a group, see ``findings.coactivation.pairs``."""
        return coactivation.pairs(self.activity, self.groups[group].part, self.largest(group), self.config.seed)

    def unlinked(self, group: str) -> tuple[pd.DataFrame, pd.DataFrame]:
        """A group with nothing in common, see ``findings.coactivation.unlinked``."""
        return coactivation.unlinked(self.activity, self.groups[group].part, self.groups[group].ids, self.config.seed)

    def group_tails(self) -> pd.DataFrame:
        """Spectra of the groups' weights among control groups, see ``findings.weights.group_tails``."""
        return self._of_groups("group-tails", lambda a, g, f, seed: weights.group_tails(self.matrices, g, f, seed))

    def _of_groups(
        self, name: str, compute: Callable[[Activity, Groups, pd.DataFrame, int], pd.DataFrame]
    ) -> pd.DataFrame:
        seed = self.config.seed
        return self._table(name, lambda: compute(self.activity, self.groups, self.features(), seed))

    def tails_over_training(self) -> pd.DataFrame:
        """``group_tails`` of this checkpoint's ``HEADLINE`` groups at every checkpoint, by step."""
        return self._followed(
            "tails-over-training",
            lambda s, chosen: weights.group_tails(s.matrices, chosen, s.features(), self.config.seed),
        )

    def rows_over_training(self) -> pd.DataFrame:
        """Kurtosis and participation of the rows of this checkpoint's ``HEADLINE`` groups at every checkpoint, by step, see ``findings.weights.row_tails``."""
        return self._followed(
            "rows-over-training",
            lambda s, chosen: weights.row_tails(s.matrices, chosen, s.features(), self.config.seed),
        )

    def coactivation_over_training(self) -> pd.DataFrame:
        """``coactivation`` of this checkpoint's ``HEADLINE`` groups in rare-target contexts at every checkpoint, by step."""
        return self._followed(
            "coactivation-over-training",
            lambda s, chosen: coactivation.coactivation(
                s.activity, chosen, s.features(), self.config.seed, contexts=("rare",)
            ),
        )

    def _followed(self, name: str, table: Callable[["Study", Groups], pd.DataFrame]) -> pd.DataFrame:
        chosen = {group: self.groups[group] for group in HEADLINE if group in self.groups}
        of_all = {"checkpoints": self.checkpoints_digest}
        return self._table(name, lambda: self.over_training(lambda study: table(study, chosen)), **of_all)

    def growth(self) -> pd.DataFrame:
        """When the groups' tails become heavier than others', see ``findings.weights.growth``."""
        return weights.growth(self.tails_over_training())

    def neuron_table(self) -> pd.DataFrame:
        """All that is known of every neuron, a row each: ``identification``, the columns of ``relatives``, and ``<band>``, ``<band>_low``, ``<band>_high`` (net effects, nats) of some bands."""
        effects = self.effects()
        columns = {"net": "", "low": "_low", "high": "_high"}
        parts = [self.identification(), self.relatives().drop(columns="neuron")]
        for band in intervention.BANDS:
            part = effects[effects["band"] == band].sort_values("neuron")[list(columns)].reset_index(drop=True)
            parts.append(part.rename(columns={c: band + end for c, end in columns.items()}))
        return pd.concat(parts, axis=1)

    def cards(self, most: int) -> dict[str, pd.DataFrame]:
        """What the cards of the rare-token neurons show, by name; at most so many neurons: controlled ones by |S| in half A, then published ones."""
        found = self.identification().sort_values("s_a", key=abs, ascending=False, kind="stable")
        first = found["controlled"]
        chosen = pd.concat([found[first], found[found["published"] & ~first]]).head(most)
        ids = [int(i) for i in chosen["neuron"]]
        effects, contexts, kinds = self.effects(), self.contexts(ids), self.relatives()
        tables = {
            "neurons": chosen,
            "effects": effects[effects["neuron"].isin(ids)],
            "relatives": kinds[kinds["neuron"].isin(ids)],
            "footprint": self.footprint(ids),
            "contexts": contexts[contexts["rank"] <= 3],
            "partners": prints.partner_table(self.activity, ids),
        }
        if self.entry.local_run:
            rare = self.over_training(
                lambda s: pd.DataFrame({"net": ratio(*s.halves.of("rare"))}).rename_axis("neuron").reset_index()
            )
            tables["training"] = rare[rare["neuron"].isin(ids)]
        return tables

    def certificate(self, positions: int = 24) -> pd.DataFrame:
        """The certified pass against the exact one in float64 at some positions, see ``ablation.audit``."""

        def compute() -> pd.DataFrame:
            first = Windows(self.windows.tokens[:4], self.windows.document[:4], self.windows.half[:4])
            trace = run_trace(self.model, first)
            rows = np.sort(np.random.default_rng(self.config.seed).permutation(len(trace))[:positions])
            mean = replaced_by(trace.activation, "mean", 0)
            return audit(self._engine(trace), trace[rows], mean)

        return self._table(f"certificate-{positions}", compute)
