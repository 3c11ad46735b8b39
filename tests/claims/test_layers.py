"""The rule about the last layer: a larger one is found, layers alike are not."""

import numpy as np

from claims.trials import claims_of, finds_what_was_planted_and_little_else, verdicts_on_room
from raretok.claims.layers import NEURONS
from raretok.findings.layers import Attributions


def test_the_rule_finds_what_was_planted_and_little_else():
    rng = np.random.default_rng(0)
    weight = rng.integers(3, 9, (40, 2)).astype(float)
    real = Attributions(rng.standard_normal((1, 40, 2, NEURONS)) * weight[None, :, :, None], weight)
    [claim] = claims_of("layers")
    assert finds_what_was_planted_and_little_else(claim, verdicts_on_room("layers", real))
