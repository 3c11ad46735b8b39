"""Tables of the rank curve: what is planted departs, what is noise or light-tailed does not, and labels matter where
they do.
"""

import numpy as np
import pytest

from raretok.ablation import DocumentSums
from raretok.findings import regimes
from raretok.stats.sums import SplitHalfSums

BANDS = ("rare", "rare with controls", "matched", "common", "half of types input")


def data_of(rare, other, error=0.02, documents=80, seed=0):
    """SplitHalfSums whose documents scatter around the effects ``rare`` and, in matched and common bands, ``other``."""
    rng = np.random.default_rng(seed)
    weight = rng.integers(5, 15, (documents, len(BANDS))).astype(float)
    effects = np.stack([rare, rare, other, other, rare])
    scatter = error * np.sqrt(documents) * rng.standard_normal((documents, len(BANDS), effects.shape[1]))
    net = weight[:, :, None] * (effects + scatter)
    sums = DocumentSums(net, np.abs(net), net**2, weight, weight.astype(np.int64), 0.0, 0.0)
    return SplitHalfSums(sums, np.arange(documents) % 2, BANDS)


def planted(neurons=500, seed=0):
    """A flat head of 9, a middle of slope −1.3, a fall from rank 63 on."""
    rng = np.random.default_rng(seed)
    ln_rank = np.log(np.arange(1, neurons + 1))
    first, second = np.log(0.017 * neurons), np.log(0.126 * neurons)
    curve = np.exp(-1.3 * np.maximum(ln_rank - first, 0) - 2 * np.maximum(ln_rank - second, 0))
    return rng.permutation(curve) * rng.choice([-1.0, 1.0], neurons)


def row(table, statistic, form="controlled"):
    [found] = table[(table["statistic"] == statistic) & (table["form"] == form)].to_dict("records")
    return found


def rare_table(data, draws=120):
    return regimes.statistics(data, None, 0, draws, ("rare",))


def test_planted_breaks_are_found_and_depart_from_every_null():
    table = rare_table(data_of(planted(), planted(seed=1), error=0.002))
    assert row(table, "flattening")["departs"] == 1
    assert row(table, "steepening")["departs"] == 1
    assert row(table, "head_excess")["departs"] == -1
    plateau, decay = row(table, "plateau_share"), row(table, "decay_share")
    assert plateau["low"] - 0.01 <= 0.017 <= plateau["high"] + 0.01
    assert decay["low"] - 0.03 <= 0.874 <= decay["high"] + 0.03
    assert row(table, "agreement")["estimate"] > 0.9


def test_intervals_hold_their_estimate_and_shares_add_up():
    table = rare_table(data_of(planted(), planted(seed=1), error=0.01))
    held = table[(table["form"] == "controlled") & table["low"].notna() & ~table["statistic"].isin(regimes.BREAKS)]
    assert (held["low"] <= held["estimate"]).all()
    assert (held["estimate"] <= held["high"]).all()
    shares = [row(table, f"{part}_share")["estimate"] for part in ("plateau", "middle", "decay")]
    assert sum(shares) == pytest.approx(1)
    assert table[table["form"] == "published"][["low", "high"]].isna().all().all()


@pytest.mark.parametrize("kind", ["noise", "half_normal", "exponential"])
def test_null_data_seldom_depart(kind):
    """Each statistic leaves its nulls in at most about 5 % of data sets without an answer."""
    departed = []
    for seed in range(30):
        rng = np.random.default_rng(seed)
        size = {"noise": np.zeros(300), "half_normal": rng.standard_normal(300), "exponential": rng.laplace(0, 1, 300)}[
            kind
        ]
        effects = 0.1 * size
        table = rare_table(data_of(effects, effects, seed=seed), draws=60)
        names = ["head_excess", "flattening", "steepening"] + (
            ["agreement", "top_share"] if kind == "noise" else ["top_share"]
        )
        departed.append([row(table, name)["departs"] != 0 for name in names])
    assert np.mean(departed, axis=0).max() <= 0.2  # two-sided 10 % for the signed ones, and 2 SE of 30


def test_leaders_of_rare_targets_are_told_from_leaders_of_hard_ones():
    rare = planted()
    apart = regimes.contrasts(data_of(rare, np.zeros_like(rare), error=0.005), 0, 200, ("matched",))
    alike = regimes.contrasts(data_of(rare, rare, error=0.005), 0, 200, ("matched",))
    lead = {k: t.set_index("statistic").loc["lead"] for k, t in {"apart": apart, "alike": alike}.items()}
    assert lead["apart"]["low"] > 0
    assert lead["apart"]["p"] < 0.02
    assert lead["alike"]["low"] < 0 < lead["alike"]["high"]
    assert lead["alike"]["p"] > 0.02


def test_a_trained_curve_is_placed_among_untrained_ones():
    data, start = data_of(planted(), planted(seed=1), error=0.002), data_of(np.zeros(500), np.zeros(500), seed=3)
    table = regimes.statistics(data, start, 0, 60, ("rare",))
    assert row(table, "agreement")["untrained"] > 0.95
    assert row(table, "top_share")["untrained"] > 0.95
    assert np.isnan(row(table, "top_share", "published")["untrained"])
    itself = row(regimes.statistics(start, start, 0, 200, ("rare",)), "agreement")
    assert 0.02 < itself["untrained"] < 0.98
    assert rare_table(data)["untrained"].isna().all()


def test_a_rare_curve_is_placed_among_those_with_exchanged_labels():
    rare = planted()
    apart = regimes.contrasts(data_of(rare, np.zeros_like(rare), error=0.005), 0, 200, ("matched",))
    alike = regimes.contrasts(data_of(rare, rare, error=0.005), 0, 200, ("matched",))
    assert apart.set_index("statistic").loc["lead", "exchanged"] > 0.98
    assert 0.02 < alike.set_index("statistic").loc["lead", "exchanged"] < 0.98


def test_bands_without_positions_are_left_out():
    data = data_of(planted(), planted())
    data.sums.weight[:, BANDS.index("matched")] = 0
    assert set(regimes.statistics(data, None, 0, 40)["band"]) == {"rare", "common"}
    assert set(regimes.contrasts(data, 0, 40)["other"]) == {"common"}
    assert set(regimes.curves(data, 0, 40)["band"]) == {"rare", "common"}


def test_the_published_estimator_gives_the_shares_of_its_boundaries():
    table = regimes.published(data_of(planted(), planted())).set_index(["positions", "neurons_in"])
    whole = table.loc[("rare", "all")]
    assert whole["neurons"] == 500
    assert whole["head"] == pytest.approx(33 / 500)
    assert whole["middle"] == pytest.approx((244 - 33) / 500)
    assert table.loc[("rare", "boost"), "neurons"] + table.loc[("rare", "suppress"), "neurons"] == 500


def test_curves_hold_the_observed_one_and_every_null():
    table = regimes.curves(data_of(planted(), planted(), error=0.005), 0, 60)
    net = table[(table["band"] == "rare") & (table["measure"] == "net") & (table["form"] == "published")]
    assert set(net["source"]) == {"observed", "noise", "half_normal", "exponential", "lognormal"}
    observed = net[net["source"] == "observed"]["value"].to_numpy()
    assert (np.diff(observed) <= 1e-12).all()
    assert "noise" not in set(table[table["measure"] == "activity"]["source"])
    assert set(regimes.curves(data_of(planted(), planted()), 0, 40, nulls=())["source"]) == {"observed"}
