"""The claims of the paper and its follow-ups, each declared with its statement, the reported value and the rule.

The rules, which give the verdicts, are the same for every model and read tables only. ``claims.calibration`` measures
how often each rule finds an effect in data that contain none, and how often it finds a planted effect.
"""

import sys
from collections.abc import Collection
from typing import Any

import pandas as pd

from raretok.claims.declaration import REGISTERED, Claim, Simulation, claim
from raretok.claims.verdicts import Estimate, Judgement, Verdict
from raretok.errors import RaretokError
from raretok.graph import load_all

__all__ = [
    "Claim",
    "Estimate",
    "Judgement",
    "Simulation",
    "Verdict",
    "all_claims",
    "claim",
    "judge",
    "questions",
    "rank_curve_claims",
]
RANK_CURVE_ROOMS = ("regimes", "emergence")


def all_claims() -> tuple[Claim, ...]:
    """Return every claim, in the order of the ids."""
    load_all()
    return tuple(sorted(REGISTERED.values(), key=lambda c: c.order))


def rank_curve_claims() -> tuple[str, ...]:
    """Return the ids of the claims about the rank curve alone, which are judged at every checkpoint."""
    return tuple(c.id for c in all_claims() if c.room in RANK_CURVE_ROOMS)


def questions() -> dict[str, str]:
    """Return the question that each room asks, in the order of the rooms' first claims."""
    asked = {c.room: sys.modules[c.rule.__module__] for c in all_claims()}
    return {room: str(getattr(module, "QUESTION", room)) for room, module in asked.items()}


def judge(study: Any, only: Collection[str] | None = None) -> pd.DataFrame:
    """Return the verdict on every claim, or on some, with a row for each.

    The columns are ``id``, ``claim``, ``source``, ``reported``, ``quantity`` and the fields of ``Judgement``.

    Raises:
        RaretokError: there is no claim of that id.
    """
    known = {c.id: c for c in all_claims()}
    if only is not None and (unknown := [i for i in only if i not in known]):
        raise RaretokError(f"no claim {', '.join(unknown)}: choose from {', '.join(known)}")
    return pd.DataFrame([c.judge(study) for c in known.values() if only is None or c.id in only])
