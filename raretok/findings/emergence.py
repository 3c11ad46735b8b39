"""When do the regimes and the neurons emerge? (claim C7)

The tables of all checkpoints, computed on the same windows, are compared.
"""

from collections.abc import Collection, Mapping

import numpy as np
import pandas as pd

from raretok.errors import NotApplicable
from raretok.findings.identification import effects, rare_token_neurons
from raretok.findings.regimes import JUDGED_BY, statistics
from raretok.findings.steps import by_step
from raretok.graph import at_every_step, table
from raretok.stats.rankcurve import HEAD
from raretok.stats.resampling import top


@table(at_every_step(statistics))
def departures(tables: Mapping[int, pd.DataFrame], band: str = "rare") -> pd.DataFrame:
    """Find the step from which each statistic of a band departs permanently from its nulls; one row per statistic.

    Args:
        tables: ``regimes.statistics`` by step, from step 0 on.
        band: band of the curve.

    Columns: ``statistic``; ``steps`` (number of checkpoints); ``outside_at_start`` (whether the statistic departs at
    the first checkpoint); ``first_step``: the first step from which the statistic departs from its nulls at every
    checkpoint up to the last, on the same ``side`` (+1, −1; NaN if it does not depart at the last); ``null``
    (percentile at the last step, see ``regimes``); ``published``, ``published_yes`` (the published form at the last
    step, and whether it is > 0).
    """
    require_start(tables)
    every = by_step(tables)
    part = every[(every["band"] == band) & (every["measure"] == "net")]
    records = []
    for name in JUDGED_BY:
        held = part[(part["statistic"] == name) & (part["form"] == "controlled")].sort_values("step")
        published = part[(part["statistic"] == name) & (part["form"] == "published")].sort_values("step")["estimate"]
        side = held["departs"].to_numpy()
        changed = np.flatnonzero(side != side[-1])
        since = int(changed[-1]) + 1 if len(changed) else 0
        records.append(
            {"statistic": name, "steps": len(held), "outside_at_start": bool(side[0] != 0)}
            | {
                "side": int(side[-1]),
                "first_step": float(held["step"].iloc[since]) if side[-1] else np.nan,
                "null": float(held["null"].iloc[-1]),
            }
            | {
                "published": float(published.iloc[-1]) if len(published) else np.nan,
                "published_yes": bool(len(published) and published.iloc[-1] > 0),
            }
        )
    return pd.DataFrame(records)


def require_start(steps: Collection[int]) -> None:
    """Check that there is a checkpoint before training.

    Raises:
        NotApplicable: there is none.
    """
    if 0 not in steps:
        raise NotApplicable("there is no checkpoint before training (step 0) that it could emerge from")


@table(at_every_step(effects))
def stability(tables: Mapping[int, pd.DataFrame], band: str = "rare") -> pd.DataFrame:
    """Measure how much of the final order of the neurons each checkpoint already has; one row per checkpoint.

    Args:
        tables: ``identification.effects`` by step.
        band: band of the net effects.

    Columns: ``step``; ``next``, ``last`` (Spearman correlation of the neurons' net effects with those of the next and
    of the last checkpoint); ``leaders`` (share of the last checkpoint's first 33 neurons by |net| that are also among
    the first 33 of this one).
    """
    every = by_step(tables)
    wide = every[every["band"] == band].pivot(index="step", columns="neuron", values="net").sort_index()
    last = top(np.abs(wide.iloc[-1].to_numpy()), HEAD)
    ranks = wide.rank(axis=1)
    records = []
    for k, step in enumerate(wide.index):
        following = ranks.iloc[min(k + 1, len(wide) - 1)]
        leading = top(np.abs(wide.iloc[k].to_numpy()), HEAD)
        records.append(
            {"step": int(step)}
            | {"next": float(ranks.iloc[k].corr(following)) if k + 1 < len(wide) else np.nan}
            | {"last": float(ranks.iloc[k].corr(ranks.iloc[-1])), "leaders": float((leading & last).sum() / last.sum())}
        )
    return pd.DataFrame(records)


@table(at_every_step(rare_token_neurons))
def onsets(tables: Mapping[int, pd.DataFrame]) -> pd.DataFrame:
    """Find since which step each rare-token neuron of the last checkpoint has been one; one row per neuron.

    Args:
        tables: ``identification.rare_token_neurons`` by step, of the checkpoints that have controls.

    Columns: ``neuron``; ``s`` (rare-specific effect at the last checkpoint, nats); ``since``: the step from which on
    the 95% interval of S excludes 0 with the sign that S has at the last checkpoint; ``first``: the first step at which
    it does.
    """
    neurons = by_step(tables)
    steps = np.sort(neurons["step"].unique())
    side = np.sign(neurons["s"]) * ((neurons["low"] > 0) | (neurons["high"] < 0))
    wide = neurons.assign(side=side).pivot(index="step", columns="neuron", values="side").sort_index()
    final = neurons[(neurons["step"] == steps[-1]) & neurons["controlled"]]
    records = []
    for neuron, s in zip(final["neuron"], final["s"], strict=True):
        there = wide[neuron].to_numpy() == np.sign(s)
        missing = np.flatnonzero(~there)
        since = int(missing[-1]) + 1 if len(missing) else 0
        records.append(
            {"neuron": int(neuron), "s": float(s)}
            | {"since": float(steps[since]) if since < len(steps) else np.nan}
            | {"first": float(steps[there.argmax()]) if there.any() else np.nan}
        )
    return pd.DataFrame(records, columns=["neuron", "s", "since", "first"])


@table(at_every_step(effects))
def rank_trajectories(tables: Mapping[int, pd.DataFrame], count: int = 12, band: str = "rare") -> pd.DataFrame:
    """Follow the neurons that lead at the last checkpoint: their rank by |net| at every checkpoint.

    Columns: ``step``, ``neuron``, ``rank``, ``net``, ``low``, ``high`` (nats).
    """
    every = by_step(tables)
    part = every[every["band"] == band]
    part = part.assign(rank=part["net"].abs().groupby(part["step"]).rank(ascending=False, method="first").astype(int))
    last = part[part["step"] == part["step"].max()].nsmallest(count, "rank")["neuron"]
    columns = ["step", "neuron", "rank", "net", "low", "high"]
    return part.loc[part["neuron"].isin(last), columns].reset_index(drop=True)
