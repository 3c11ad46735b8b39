"""Co-activation tables: planted structure is placed beyond its controls, independent neurons are not, and each table
is what it says.
"""

import numpy as np
import pandas as pd
import pytest

from raretok.findings import coactivation
from raretok.findings.groups import Activity, Group, choose, control_groups, features, imbalance

BANDS = ("rare", "rare with controls", "matched", "common", "all")
GROUP = np.arange(20)


def activity_of(factors=0, strength=1.0, communities=0, neurons=160, documents=60, per=24, seed=0, only_rare=False):
    """Independent neurons with realistic means and skew; the first 20 may share factors, or fall into communities."""
    rng = np.random.default_rng(seed)
    rows = documents * per
    a = rng.gamma(1.0, 1.0, (rows, neurons)) * rng.lognormal(0, 0.3, neurons) - 0.3
    kind = np.arange(rows) % 3
    scale = a[:, GROUP].std(0)
    touched = (kind == 0) if only_rare else np.ones(rows, dtype=bool)
    if factors:
        shared = rng.standard_normal((rows, factors)) @ np.abs(rng.standard_normal((factors, 20)))
        a[:, GROUP] += strength * touched[:, None] * shared / np.sqrt(factors) * scale
    if communities:
        shared = rng.standard_normal((rows, communities))[:, np.arange(20) * communities // 20]
        a[:, GROUP] += strength * shared * scale
    rare, matched, common = ((kind == k).astype(float) for k in range(3))
    weight = {"rare": rare, "rare with controls": rare, "matched": matched, "common": common}
    weight["all"] = rare + matched + common
    document = np.repeat(np.arange(documents), per)
    return Activity(a.astype(np.float32), weight, document, document % 2)


GROUPS = {"controlled": Group("B", GROUP, GROUP), "published": Group("all", GROUP, GROUP)}


def matching_of(activity):
    return features(activity, np.ones(activity.activation.shape[1]))


def table_of(activity, draws=200):
    table = coactivation.statistics(activity, GROUPS, matching_of(activity), 0, draws, ("rare",))
    return table[table["group"] == "controlled"].set_index("statistic")


def test_a_factor_group_lies_beyond_its_controls():
    table = table_of(activity_of(factors=2))
    assert table.loc["within_r", ["random", "matched"]].min() > 0.98
    assert table.loc["participation", ["random", "matched"]].max() < 0.02
    assert table.loc["information", ["random", "matched"]].min() > 0.98
    assert table.loc["within_r", "low"] > 0
    assert (table["low"] <= table["estimate"]).all()
    assert (table["estimate"] <= table["high"]).all()
    assert (table["size"] == 20).all()


def test_independent_neurons_lie_among_their_controls():
    places = []
    for seed in range(20):
        table = table_of(activity_of(seed=seed, documents=30), draws=60)
        places.append(table.loc[["within_r", "rest_r", "participation", "information"], "matched"])
    outside = (np.array(places) >= 0.95).mean(0), (np.array(places) <= 0.05).mean(0)
    assert np.max(outside) <= 0.2  # 5 % and three standard errors of 20


def test_what_holds_in_rare_contexts_alone_differs_between_contexts():
    matched = activity_of(factors=1, only_rare=True)
    table = coactivation.by_context(matched, GROUPS, 0, 200).set_index(["group", "statistic"])
    row = table.loc[("controlled", "within_r")]
    assert row["low"] > 0
    assert row["p"] < 0.02
    assert row["difference"] == pytest.approx(row["rare"] - row["matched"])
    same = coactivation.by_context(activity_of(factors=1), GROUPS, 0, 200).set_index(["group", "statistic"])
    assert same.loc[("controlled", "within_r"), "low"] < 0 < same.loc[("controlled", "within_r"), "high"]


def found_of(neurons=160):
    chosen = np.isin(np.arange(neurons), GROUP)
    boost = np.arange(neurons) % 2 == 0
    return pd.DataFrame(
        {"selected": chosen, "published": chosen, "published_net": np.where(boost, 1.0, -1.0)}
        | {"direction": np.where(boost, "boost", "suppress")}
    )


def test_boost_and_suppress_neurons_of_one_factor_correlate():
    activity = activity_of(factors=1)
    table = coactivation.across(activity, found_of(), GROUPS, matching_of(activity), 0, 100)
    row = table[
        (table["group"] == "controlled") & (table["context"] == "rare") & (table["statistic"] == "between_r")
    ].iloc[0]
    use = (activity.weight["rare"] > 0) & (activity.half == 1)
    r = np.corrcoef(activity.activation[use].T.astype(float))
    assert row["estimate"] == pytest.approx(r[np.ix_(GROUP[::2], GROUP[1::2])].mean(), abs=1e-6)
    assert row["low"] < row["estimate"] < row["high"]
    assert row["matched"] > 0.98


def test_planted_communities_are_found_and_independent_neurons_have_none():
    planted = activity_of(communities=2, strength=1.0)
    row = coactivation.clusters(planted, GROUPS, matching_of(planted), 0, 60).set_index(["group", "resolution"])
    assert row.loc[("controlled", 1.0), "communities"] == 2
    assert row.loc[("controlled", 1.0), "matched_z"] > 3
    assert row.loc[("controlled", 1.0), "shuffled"] > 0.98
    free = activity_of()
    row = coactivation.clusters(free, GROUPS, matching_of(free), 0, 60).set_index(["group", "resolution"])
    assert abs(row.loc[("controlled", 1.0), "matched_z"]) < 3


def test_pairs_are_ordered_by_community():
    activity = activity_of(communities=2, strength=1.5)
    table = coactivation.correlations(activity, "B", GROUP, 0)
    assert len(table) == 400
    assert set(table["a"]) == set(GROUP)
    assert table.drop_duplicates("a")["community"].is_monotonic_increasing
    assert table.loc[table["a"] == table["b"], "r"].to_numpy() == pytest.approx(1)
    same = (table["a"] < 10) == (table["b"] < 10)
    assert table[same & (table["a"] != table["b"])]["r"].mean() > table[~same]["r"].mean() + 0.3


def test_without_anything_in_common_the_cosine_stays_and_the_correlation_goes():
    activity = activity_of(factors=2)
    means = coactivation.permuted_activations(activity, GROUPS, 0, "controlled").set_index("statistic")
    histogram = coactivation.permuted_histograms(activity, GROUPS, 0, "controlled")
    assert means.loc["cosine", "permuted"] > 0.1
    assert abs(means.loc["correlation", "permuted"]) < 0.02
    assert means.loc["correlation", "observed"] > 0.2
    assert histogram.groupby(["statistic", "data"])["share"].sum().to_numpy() == pytest.approx(1)


def test_histograms_hold_all_groups_and_the_own_value():
    activity = activity_of(factors=2)
    table = coactivation.histograms(activity, GROUPS, matching_of(activity), 0, 50)
    assert table.groupby(["group", "statistic", "kind"])["share"].sum().to_numpy() == pytest.approx(1)
    own = table_of(activity)["estimate"]
    part = table[table["group"] == "controlled"].drop_duplicates("statistic").set_index("statistic")["observed"]
    assert part[own.index].to_numpy() == pytest.approx(own.to_numpy())


def test_groups_are_chosen_on_half_a():
    found = found_of(400)
    net = np.linspace(1, 0, 400)
    matching = pd.DataFrame({"x": np.random.default_rng(0).standard_normal(400)})
    groups = choose(found, net, matching)
    assert groups["first 33"].part == "B"
    assert groups["first 33"].ids.tolist() == list(range(33))
    assert groups["controlled, all"].ids.tolist() == GROUP.tolist()
    assert groups["published boost"].ids.tolist() == GROUP[::2].tolist()
    assert {g for g in choose(found.assign(selected=False), net, matching) if "controlled" in g} == set()
    drawn = control_groups(matching, groups["controlled"], 30, np.random.default_rng(0))
    assert drawn["matched"].shape == drawn["random"].shape
    assert not np.isin(drawn["matched"], GROUP).any()


def test_members_without_equals_are_left_out_and_stand_in_for_nobody():
    matching = pd.DataFrame({"x": np.random.default_rng(0).standard_normal(400)})
    matching.loc[GROUP[:5], "x"] = 30.0
    groups = choose(found_of(400), np.linspace(1, 0, 400), matching)
    assert groups["controlled"].ids.tolist() == GROUP[5:].tolist()
    assert groups["controlled, all"].ids.tolist() == GROUP.tolist()
    drawn = control_groups(matching, groups["controlled"], 50, np.random.default_rng(0))["matched"]
    assert not np.isin(drawn, GROUP).any()
    assert imbalance(matching, groups["controlled"], drawn) < 0.1
    whole = control_groups(matching, groups["controlled, all"], 50, np.random.default_rng(0))["matched"]
    assert imbalance(matching, groups["controlled, all"], whole) > 1
