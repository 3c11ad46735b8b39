"""When the regimes and the neurons emerge: the tables of every checkpoint side by side, on the same windows (claim C7)."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from raretok.findings.regimes import JUDGED_BY
from raretok.stats.rankcurve import HEAD
from raretok.stats.resampling import top


def by_step(tables: Mapping[int, pd.DataFrame]) -> pd.DataFrame:
    """Tables of several checkpoints in one, with the column ``step``."""
    return pd.concat([table.assign(step=step) for step, table in tables.items()], ignore_index=True)


def departures(statistics: pd.DataFrame, band: str = "rare") -> pd.DataFrame:
    """When each statistic of a band leaves its nulls for good; a row a statistic.

    Args:
        statistics: ``regimes`` tables ``by_step``.
        band: which curve.

    Columns: ``statistic``; ``steps`` (checkpoints); ``outside_at_start`` (at the first of them); ``first_step``: from it on to the last, the statistic departs
    from its nulls, on the same ``side`` (+1, −1; NaN if it does not at the last); ``null`` (percentile at the last step, see ``regimes``); ``published``,
    ``published_yes`` (its published form at the last step, and whether that is > 0).
    """
    part = statistics[(statistics["band"] == band) & (statistics["measure"] == "net")]
    records = []
    for name in JUDGED_BY:
        held = part[(part["statistic"] == name) & (part["form"] == "controlled")].sort_values("step")
        told = part[(part["statistic"] == name) & (part["form"] == "published")].sort_values("step")["estimate"]
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
                "published": float(told.iloc[-1]) if len(told) else np.nan,
                "published_yes": bool(len(told) and told.iloc[-1] > 0),
            }
        )
    return pd.DataFrame(records)


def stability(effects: pd.DataFrame, band: str = "rare") -> pd.DataFrame:
    """How much of the order is there already; a row a checkpoint.

    Args:
        effects: ``identification.effects`` tables ``by_step``.
        band: which net effects.

    Columns: ``step``; ``next``, ``last`` (Spearman correlation of the neurons' net effects with those of the next and of the last checkpoint);
    ``leaders`` (share of the last checkpoint's first 33 by |net| that are among this one's).
    """
    wide = effects[effects["band"] == band].pivot(index="step", columns="neuron", values="net").sort_index()
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


def onsets(found: pd.DataFrame) -> pd.DataFrame:
    """Since when the last checkpoint's rare-token neurons have been so; a row each of them.

    Args:
        found: ``identification.identify`` tables ``by_step``, of the checkpoints that have controls.

    Columns: ``neuron``; ``s`` (rare-specific effect at the last checkpoint, nats); ``since``: from this step on the 95 % interval of S excludes 0 on the side where it is
    at the last; ``first``: the first step at which it does.
    """
    steps = np.sort(found["step"].unique())
    side = np.sign(found["s"]) * ((found["low"] > 0) | (found["high"] < 0))
    wide = found.assign(side=side).pivot(index="step", columns="neuron", values="side").sort_index()
    final = found[(found["step"] == steps[-1]) & found["controlled"]]
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


def followed(effects: pd.DataFrame, count: int, band: str = "rare") -> pd.DataFrame:
    """Rank by |net| at every checkpoint of the neurons that lead at the last: ``step``, ``neuron``, ``rank``, ``net``, ``low``, ``high`` (nats)."""
    part = effects[effects["band"] == band]
    part = part.assign(rank=part["net"].abs().groupby(part["step"]).rank(ascending=False, method="first").astype(int))
    last = part[part["step"] == part["step"].max()].nsmallest(count, "rank")["neuron"]
    columns = ["step", "neuron", "rank", "net", "low", "high"]
    return part.loc[part["neuron"].isin(last), columns].reset_index(drop=True)
