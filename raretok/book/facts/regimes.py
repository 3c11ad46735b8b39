"""Numbers of the chapter on the three regimes of the rank curve."""

import numpy as np
import pandas as pd

from raretok.claims import rank_curve_claims
from raretok.claims import regimes as rules
from raretok.claims.calibration import calibration_results, calibration_table
from raretok.claims.simulated_curves import STRENGTH
from raretok.claims.verdicts import pick_or_missing
from raretok.claims.wording import verdict_texts, with_interval
from raretok.findings.regimes import JUDGED_BY
from raretok.findings.simulated_rankings import simulated_rankings
from raretok.stats.rankcurve import HEAD, HEAD_END, MIDDLE_END
from raretok.stats.resampling import LEVEL
from raretok.study import Study


def facts(study: Study) -> dict[str, str]:
    """Return constants of the method, published and controlled estimates, the verdicts, and the rules' error rates."""
    tails = study.table("regimes.tails")
    return {
        **verdict_texts(study.claims(rank_curve_claims())),
        **_constants(),
        "model": study.settings.model,
        **_published(study.table("regimes.published"), study.table("regimes.slopes")),
        **_controlled(study.table("regimes.statistics")),
        **_lead(study.table("regimes.contrasts")),
        **_tail(tails),
        **_simulated(int(tails["neurons"].iloc[0]), study.settings.seed),
        **_calibration(),
    }


def _constants() -> dict[str, str]:
    return {
        "head": str(HEAD),
        "head_end": f"{HEAD_END:g}",
        "middle_end": f"{MIDDLE_END:g}",
        "middle": f"{np.exp(MIDDLE_END):.0f}",
        "level": f"{LEVEL:.0%}",
        "worth": f"{rules.WORTH:g}",
        "close": f"{rules.CLOSE:g}",
        "strength": f"{STRENGTH:g}",
    }


def _published(published: pd.DataFrame, slopes: pd.DataFrame) -> dict[str, str]:
    whole = pick_or_missing(published, positions="rare", neurons_in="all")
    rare = slopes[slopes["band"] == "rare"]
    return {
        "r2": f"{whole['r2']:.3f}",
        "exponent": f"{whole['exponent']:.2f}",
        "head_share": f"{whole['head']:.1%}",
        "middle_share": f"{whole['middle']:.1%}",
        "tail_share": f"{whole['tail']:.1%}",
        "head_slope": f"{rare.loc[rare['ln_rank'] < HEAD_END, 'slope'].median():.1f}",
        "tail_slope": f"{rare.loc[rare['ln_rank'] > MIDDLE_END, 'slope'].median():.1f}",
    }


def _controlled(statistics: pd.DataFrame) -> dict[str, str]:
    estimates = {}
    for name in ("agreement", "flattening", "steepening", "gini"):
        row = rules.curve(statistics, name)
        estimates[name] = with_interval(row["estimate"], row["low"], row["high"])
    judged = [rules.curve(statistics, name) for name in JUDGED_BY]
    departing = sum(row["departs"] in (-1, 1) for row in judged)
    return {
        "agreement": estimates["agreement"],
        "flattening": estimates["flattening"],
        "steepening": estimates["steepening"],
        "gini": estimates["gini"],
        "judged_statistics": str(len(judged)),
        "departing_statistics": str(departing),
    }


def _lead(contrasts: pd.DataFrame) -> dict[str, str]:
    lead = pick_or_missing(contrasts, other="matched", statistic="lead")
    return {
        "lead_rare": _signed(lead["rare"]),
        "lead_matched": _signed(lead["value"]),
        "lead_difference": with_interval(lead["difference"], lead["low"], lead["high"]),
    }


def _signed(value: float) -> str:
    return "–" if np.isnan(value) else f"{value:+.4f}"


def _tail(tails: pd.DataFrame) -> dict[str, str]:
    rare = pick_or_missing(tails, band="rare")
    return {
        "neurons": f"{rare['neurons']:,.0f}",
        "csn_p": f"{rare['p']:.3f}",
        "csn_tail": f"{rare['tail']:,.0f}",
        "alpha": f"{rare['alpha']:.2f} ± {1.96 * rare['error']:.2f}",
    }


def _simulated(neurons: int, seed: int) -> dict[str, str]:
    _, statistics = simulated_rankings(neurons, seed)
    return {"simulated_r2": f"{np.floor(100 * statistics['middle_r2'].min()) / 100:.2f}"}


def _calibration() -> dict[str, str]:
    supported = calibration_results()["supported"]
    denied = calibration_table(rank_curve_claims()).set_index("rule")["planted, denied"]
    return {
        "lax": f"{supported['C6b', 'power law']:.1%}",
        "lifted_C2": f"{supported['C2', 'head excess']:.1%}",
        "lifted_C5": f"{supported['C5', 'head excess']:.1%}",
        "denied_C5": f"{denied['C5']:.1%}",
        "denied_C7": f"{denied['C7']:.1%}",
    }
