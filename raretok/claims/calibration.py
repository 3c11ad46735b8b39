"""What the calibration of the rules found: how often each says *supported* where there is nothing, and where it was planted."""

from pathlib import Path

import pandas as pd

from raretok.errors import RaretokError

RESULTS = Path(__file__).parents[2] / "benchmarks" / "calibration.csv"
STRENGTH = 4.0
"""Planted effects are this many times as large (root mean square) as those of the study they are planted in."""
PLANTED_FOR = {
    "C1": "plateau and breaks",
    "C2": "plateau and breaks",
    "C3": "plateau and breaks",
    "C4": "plateau and breaks",
    "C5": "power law",
    "C6a": "plateau and breaks",
    "C6b": "head excess",
    "C7": "plateau and breaks",
    "C8": "plateau and breaks",
}
"""The planted data in which a claim is true."""
ABOUT_LABELS = ("C1", "C8")
"""Claims that compare rare targets with others; of the others, exchanged labels make nothing untrue."""


def calibration_table() -> pd.DataFrame:
    """A row a rule: share of data sets on which it says *supported*.

    Columns: ``rule``; ``noise``, ``half-normal``, ``exponential``, ``lognormal``, ``labels exchanged`` (nothing to find; NaN where exchanged labels leave the
    claim true); ``planted`` (``PLANTED_FOR``); ``sets`` (of each null).

    Raises:
        RaretokError: the results are missing.
    """
    if not RESULTS.is_file():
        raise RaretokError(
            f"{RESULTS} is missing: run `make calibration`, or clone the book's repository, it comes with it"
        )
    found = pd.read_csv(RESULTS)
    wide = found.pivot(index="id", columns="data", values="supported")
    sets = found[found["data"] == "noise"].set_index("id")["sets"]
    rows = []
    for rule in PLANTED_FOR:
        row = wide.loc[rule]
        nulls = {
            "half-normal" if k == "half_normal" else k: row[k]
            for k in ("noise", "half_normal", "exponential", "lognormal")
        }
        exchanged = row["labels exchanged"] if rule in ABOUT_LABELS else float("nan")
        rows.append(
            {"rule": rule}
            | nulls
            | {"labels exchanged": exchanged, "planted": row[PLANTED_FOR[rule]], "sets": sets[rule]}
        )
    return pd.DataFrame(rows)
