"""The judgement that a rule makes: a verdict with the estimates on which it rests."""

from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
import pandas as pd

NAN = float("nan")
Row = dict[str, Any]


class Verdict(StrEnum):
    """The verdicts: for the claim, against it, like data without the effect, undecided by the data, and not
    applicable."""

    SUPPORTED = "supported"
    NOT_SUPPORTED = "not supported"
    NULL = "indistinguishable from null"
    INCONCLUSIVE = "inconclusive"
    NOT_APPLICABLE = "not applicable"


@dataclass(frozen=True)
class Estimate:
    """A number with its 95% interval, if any; ``says`` is whether the published estimator alone would say yes."""

    value: float = NAN
    low: float = NAN
    high: float = NAN
    says: str = "–"


@dataclass(frozen=True)
class Judgement:
    """The judgement of a rule: the verdict, its reason, and the estimates as published and controlled.

    ``n`` is the sample size, and ``null`` is the percentile in the null that the estimate is closest to (or p).
    """

    verdict: Verdict
    why: str
    published: Estimate = Estimate()
    controlled: Estimate = Estimate()
    n: int = 0
    null: float = NAN

    def as_row(self) -> Row:
        """Return the fields as columns of the table of claims."""
        return {
            "published": self.published.value,
            "published_says": self.published.says,
            "controlled": self.controlled.value,
            "low": self.controlled.low,
            "high": self.controlled.high,
            "n": self.n,
            "null": self.null,
            "verdict": str(self.verdict),
            "why": self.why,
        }


def decide(*cases: tuple[Any, Verdict, str]) -> tuple[Verdict, str]:
    """Return verdict and reason of the first case whose condition holds; the condition of the last case always holds.

    All conditions are computed before the first is tested, so each must be computable whatever the others are. A
    comparison with NaN is false.
    """
    return next((verdict, why) for condition, verdict, why in cases if condition)


def pick(table: pd.DataFrame, **where: Any) -> Row | None:
    """Return the first row whose columns have these values; None if there is none."""
    for column, value in where.items():
        table = table[table[column] == value] if len(table) else table
    return dict(table.iloc[0]) if len(table) else None


def pick_or_missing(table: pd.DataFrame, **where: Any) -> Row:
    """Return the row that ``pick`` returns, or a row in which every value is missing."""
    return pick(table, **where) or defaultdict(lambda: np.nan)


def published_estimate(row: Row | None, name: str, says: Callable[[Row], Any]) -> Estimate:
    """Return a row's value as the published estimate, with the answer that it gives; an empty one without a row."""
    return Estimate() if row is None else Estimate(row[name], says=yes_if(says(row)))


def yes_if(condition: Any) -> str:
    """Return the answer of the published estimator alone, ``yes`` or ``no``."""
    return "yes" if condition else "no"


def interval_of(row: Mapping[str, Any], name: str = "estimate") -> Estimate:
    """Return the estimate of a row with its interval."""
    return Estimate(float(row[name]), float(row["low"]), float(row["high"]))
