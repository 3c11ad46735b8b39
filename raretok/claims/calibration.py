"""What the calibration of the rules found: how often each says *supported* where there is nothing, and where it was planted."""

from collections.abc import Collection
from pathlib import Path

import pandas as pd

from raretok.errors import RaretokError

RESULTS = Path(__file__).parents[2] / "benchmarks" / "calibration.csv"
STRENGTH = 4.0
"""Planted rank curves are this many times as large (root mean square) as those of the study they are planted in."""
FOUND = 0.85
"""Share of the data sets with a planted answer in which a rule has to find it; a test holds the rules to it."""
_RANK = ("noise", "half_normal", "exponential", "lognormal")
_LABELS = (*_RANK, "labels exchanged")
_GROUPS = ("independent", "matched group")
RULES: dict[str, tuple[tuple[str, ...], str]] = {
    "C1": (_LABELS, "plateau and breaks"),
    "C2": (_RANK, "plateau and breaks"),
    "C3": (_RANK, "plateau and breaks"),
    "C4": (_RANK, "plateau and breaks"),
    "C5": (_RANK, "power law"),
    "C6a": (_RANK, "plateau and breaks"),
    "C6b": ((*_RANK, "power law"), "head excess"),
    "C7": (_RANK, "plateau and breaks"),
    "C8": (_LABELS, "plateau and breaks"),
    "C9": (_GROUPS, "factors"),
    "C10": (_GROUPS, "factors"),
    "C11": (_GROUPS, "drive against the rest"),
    "C12": (_GROUPS, "factors"),
    "C13": (("gaussian rows", "matched group"), "Pareto directions"),
    "C14": (("gaussian rows", "matched group"), "Pareto directions"),
    "C15": (("communities",), "independent"),
    "C16": (_GROUPS, "communities"),
    "C17": (("heads exchanged",), "bands exchanged"),
    "C18": (("strongest head alone",), "heads add up"),
    "C19": (_GROUPS, "factors"),
    "C20": (("gain of noise",), "gain"),
    "C21": (("random group",), "group of a kind"),
    "C22": (("another ranking",), "same ranking"),
    "C23": (("layers alike",), "last layer larger"),
}
"""Of each rule, the data that make its claim untrue, and the planted data that make it true.

Only C1 and C8 compare rare targets with others, so exchanged labels make no other claim about the rank curve untrue; C15 claims that there is nothing.
"""


def calibration_results() -> pd.DataFrame:
    """Every measured share, by rule and kind of data: ``supported``, ``denied`` (NaN where it was not counted), ``sets``.

    Raises:
        RaretokError: the results are missing.
    """
    if not RESULTS.is_file():
        raise RaretokError(
            f"{RESULTS} is missing: run `make calibration`, or clone the book's repository, it comes with it"
        )
    return pd.read_csv(RESULTS).set_index(["id", "data"])


def calibration_table(rules: Collection[str]) -> pd.DataFrame:
    """A row a rule: share of data sets on which it says *supported*, and of planted ones on which it says *not supported*.

    Columns: ``rule``; one for each kind of data in which one of the claims is untrue (NaN where it is not); ``planted``, ``planted, denied`` (NaN where it was not counted); ``sets`` (of each of the former).

    Raises:
        RaretokError: the results are missing.
    """
    found = calibration_results().to_dict("index")
    kinds = list(dict.fromkeys(kind for rule in rules for kind in RULES[rule][0]))
    rows = []
    for rule in rules:
        nulls, plant = RULES[rule]
        shares = {k: found[rule, k]["supported"] if k in nulls else float("nan") for k in kinds}
        rows.append(
            {"rule": rule}
            | {k.replace("half_normal", "half-normal"): share for k, share in shares.items()}
            | {
                "planted": found[rule, plant]["supported"],
                "planted, denied": found[rule, plant].get("denied", float("nan")),
                "sets": min(found[rule, k]["sets"] for k in nulls),
            }
        )
    return pd.DataFrame(rows)
