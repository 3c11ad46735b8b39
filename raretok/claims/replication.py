"""Verdicts on disjoint sets of documents: how far a model's verdicts depend on which documents it was tried on."""

from collections import Counter
from collections.abc import Collection, Iterator
from typing import Any

import pandas as pd

from raretok.claims.verdicts import Verdict
from raretok.errors import RaretokError
from raretok.stats.replicates import replicated

LEAST_SETS = 2


def replicates(study: Any, sets: int) -> Iterator[Any]:
    """Yield studies like ``study`` on disjoint sets of its documents, into which each document falls by its hash.

    Raises:
        RaretokError: there are fewer than two sets, or the study is on a part of the documents already.
    """
    if sets < LEAST_SETS:
        raise RaretokError(f"{sets} set of documents is no replication: ask for at least {LEAST_SETS}")
    if study.settings.part:
        raise RaretokError(f"the study is on part {study.settings.part} of the documents already: leave part out")
    for k in range(1, sets + 1):
        yield study.on_part(f"{k}/{sets}")


def replicate(study: Any, sets: int, only: Collection[str] | None = None) -> pd.DataFrame:
    """Judge every claim, or some, on disjoint sets of documents.

    Columns: ``id``, ``claim``, ``set`` and the columns of ``claims.judge``, one row per claim and set.
    """
    tables = []
    for number, part in enumerate(replicates(study, sets), 1):
        tables.append(part.claims(only).assign(set=number))
        part.release()
    return pd.concat(tables, ignore_index=True)


def summary(verdicts: pd.DataFrame) -> pd.DataFrame:
    """Summarise the verdicts of ``replicate``, with one row per claim.

    Columns: ``id``, ``claim``, ``most`` (the verdict of most sets, the most cautious of equals), ``sets`` (how many
    give it), ``of``; the mean of the controlled estimates with its 95% interval, ``mean``, ``low``, ``high``; and the
    95% interval of the estimate on a further set of documents, ``next_low``, ``next_high``. How many sets agree is
    a description: at a power of 80 %, five of five support a true claim in a third of the cases.
    """
    cautious = [Verdict.NOT_APPLICABLE, Verdict.INCONCLUSIVE, Verdict.NULL, Verdict.NOT_SUPPORTED, Verdict.SUPPORTED]
    rows = []
    for (name, text), group in verdicts.groupby(["id", "claim"], sort=False):
        counts = Counter(group["verdict"])
        most = max(counts, key=lambda verdict: (counts[verdict], -cautious.index(Verdict(verdict))))
        estimate = replicated(group["controlled"].to_numpy(dtype=float))
        rows.append(
            {
                "id": name,
                "claim": text,
                "most": most,
                "sets": counts[most],
                "of": len(group),
                "mean": estimate.mean,
                "low": estimate.low,
                "high": estimate.high,
                "next_low": estimate.next_low,
                "next_high": estimate.next_high,
            }
        )
    return pd.DataFrame(rows)
