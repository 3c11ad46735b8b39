"""Thresholds that the glossary names."""

from raretok.data.frequency import COMMON_MASS, RARE_MASS
from raretok.findings.groups import DRAWS
from raretok.findings.identification import Q
from raretok.stats.rankcurve import HEAD
from raretok.stats.resampling import LEVEL


def facts() -> dict[str, str]:
    """Return the limits of bands, the levels of tests, the number of control groups and the length of a curve's
    head."""
    return {
        "rare_limit": f"{RARE_MASS:.0%}",
        "common_limit": f"{COMMON_MASS:.0%}",
        "level": f"{LEVEL:.0%}",
        "q_level": f"{Q:.0%}",
        "draws": f"{DRAWS:,}",
        "head": str(HEAD),
    }
