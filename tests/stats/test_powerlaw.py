"""Power-law fits agree with the ``powerlaw`` package, and their p-values are calibrated."""

import warnings
from pathlib import Path

import numpy as np
import powerlaw
import pytest
from scipy import integrate

from raretok.stats.powerlaw import _log_mass, compare, fit_tail, fit_top, plausibility

DATA = Path(powerlaw.__file__).parent / "reference_data"
RNG = np.random.default_rng(0)
SETS = {
    "pareto": RNG.pareto(1.5, 600) + 1,
    "lognormal": RNG.lognormal(0, 1.2, 600),
    "exponential": RNG.exponential(1, 600),
    "blackouts": np.loadtxt(DATA / "blackouts.txt"),
    "fires": RNG.choice(np.loadtxt(DATA / "fires.txt"), 1500, replace=False),
}


def theirs(values):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return powerlaw.Fit(values, verbose=0, parameter_ranges={"alpha": [1.0, 20.0]})


@pytest.mark.parametrize("name", SETS)
def test_exponent_start_and_distance_are_those_of_powerlaw(name):
    fit, other = fit_tail(SETS[name]), theirs(SETS[name])
    assert fit.alpha == pytest.approx(other.power_law.alpha, abs=1e-3)
    assert fit.x_min == pytest.approx(other.power_law.xmin)
    assert fit.tail == other.n_tail
    assert fit.distance == pytest.approx(other.power_law.D, abs=1e-6)
    assert fit.error == pytest.approx((fit.alpha - 1) / np.sqrt(fit.tail))


@pytest.mark.parametrize("name", SETS)
def test_decisions_between_rivals_are_those_of_powerlaw(name):
    other = theirs(SETS[name])
    for row in compare(SETS[name], fit_tail(SETS[name])).itertuples():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ratio, p = other.distribution_compare("power_law", row.rival.replace(" ", "_"), normalized_ratio=True)
        ours = int(np.sign(row.ratio)) if row.p < 0.05 else 0
        assert ours == (int(np.sign(ratio)) if p < 0.05 else 0), row.rival


def test_a_power_law_inside_its_rivals_is_kept_where_true_and_given_up_where_not():
    rng = np.random.default_rng(2)
    names = ["lognormal", "stretched exponential", "truncated power law"]

    def nested(values):
        return compare(values, fit_top(values, 800)).set_index("rival")["nested"]

    true = np.array([nested(rng.pareto(1.5, 800) + 1)[names] for _ in range(40)])
    bent = np.array([nested(rng.lognormal(0, 1, 3000))[names] for _ in range(20)])
    assert (true <= 0.05).mean(axis=0).max() <= 0.15  # 5 % and three standard errors of 40
    assert (bent <= 0.05).mean(axis=0).min() >= 0.9
    table = compare(SETS["pareto"], fit_tail(SETS["pareto"])).set_index("rival")
    assert np.isnan(table.loc["exponential", "nested"])
    truncated = table.loc["truncated power law"]
    assert truncated["nested"] in (1.0, pytest.approx(truncated["p"] / 2))


def test_the_truncated_mass_is_its_integral():
    for exponent, rate in [(0.5, 0.3), (1.0, 0.01), (2.5, 1e-3), (3.0, 2.0), (-0.5, 0.2)]:
        value, _ = integrate.quad(lambda x, a=exponent, r=rate: x**-a * np.exp(-r * (x - 1)), 1, np.inf, limit=500)
        assert _log_mass(exponent, rate) == pytest.approx(np.log(value), abs=1e-6)


@pytest.mark.parametrize("name", SETS)
def test_the_fit_of_the_largest_is_that_of_a_tail_that_begins_there(name):
    best = fit_tail(SETS[name])
    same = fit_top(SETS[name], best.tail)
    assert same.alpha == pytest.approx(best.alpha)
    assert same.x_min == best.x_min
    assert same.distance == pytest.approx(best.distance)
    with pytest.raises(ValueError, match="2 positive values"):
        fit_top(np.array([1.0, 2.0, -1.0]), 5)


def test_a_power_law_is_plausible_and_an_exponential_is_not():
    rng = np.random.default_rng(1)
    true = [plausibility(rng.pareto(1.2, 300) + 1, 39, rng) for _ in range(40)]
    assert np.mean(np.array(true) <= 0.05) <= 0.15  # 5 % and three standard errors of 40
    assert np.mean(true) == pytest.approx(0.5, abs=0.2)
    head = np.linspace(1, 1.5, 300)
    assert plausibility(np.concatenate([head, 1 + rng.exponential(1, 2000)]), 99, rng, 50) <= 0.1


def test_fewer_candidates_find_about_the_same_and_too_few_values_are_refused():
    fit, coarse = fit_tail(SETS["pareto"]), fit_tail(SETS["pareto"], 60)
    assert coarse.alpha == pytest.approx(fit.alpha, abs=0.1)
    assert coarse.distance >= fit.distance
    with pytest.raises(ValueError, match="3 positive values"):
        fit_tail(np.array([-1.0, 0.0, 1.0, 2.0, 3.0]))
