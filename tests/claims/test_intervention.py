"""The rule about groups that are chosen together: a planted gain is found, noise is not."""

import numpy as np

from claims.trials import claims_of, finds_what_was_planted_and_little_else, verdicts_on_room


def test_the_rule_finds_what_was_planted_and_little_else():
    rng = np.random.default_rng(0)
    single = rng.standard_normal((10, 40)).cumsum(0) + 5
    real = {"greedy": np.arange(10), "single": np.arange(10), "weight": rng.integers(3, 9, 40).astype(float)}
    real |= {"single_joint": single, "greedy_joint": single + rng.standard_normal((10, 40)), "greedy_sum": single}
    [claim] = claims_of("intervention")
    assert finds_what_was_planted_and_little_else(claim, verdicts_on_room("intervention", real))
