import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from raretok import RaretokError
from raretok.data.frequency import (
    DECILES,
    UnigramCounts,
    count_tokens,
    cumulative_mass,
    load_counts,
    type_bands,
    type_table,
)

some_counts = hnp.arrays(np.int64, st.integers(1, 60), elements=st.integers(0, 500)).filter(lambda c: c.any())


def test_bands_by_hand():
    # masses ascending: 1, 1, 1 (0.03), 2 (0.05), 15 (0.20), 30 (0.50), 50 (1.0); one type never occurs
    counts = np.array([50, 1, 30, 0, 1, 15, 1, 2])
    bands = type_bands(counts)
    assert np.flatnonzero(bands["rare"]).tolist() == [1, 4, 6, 7]
    assert np.flatnonzero(bands["common"]).tolist() == [0]
    assert np.flatnonzero(bands["half of types"]).tolist() == [1, 4, 6]


@given(some_counts)
def test_bands_are_what_they_say(counts):
    bands, (_, mass) = type_bands(counts), cumulative_mass(counts)
    total = counts.sum()
    assert not any(band[counts == 0].any() for band in bands.values())
    assert counts[bands["rare"]].sum() <= 0.05 * total + 1e-9
    beyond = counts[(counts > 0) & ~bands["rare"]]
    if len(beyond):
        # the next count level would not have fitted any more
        assert counts[counts <= beyond.min()].sum() > 0.05 * total
    assert counts[bands["common"]].sum() >= 0.5 * total - 1e-9
    assert counts[bands["common"] & (counts > counts[bands["common"]].min())].sum() < 0.5 * total + 1e-9
    assert sum(bands[d].astype(int) for d in DECILES).tolist() == (counts > 0).astype(int).tolist()
    assert mass.max() == pytest.approx(1)
    for band in bands.values():
        for value in set(counts.tolist()):
            assert len(set(band[counts == value])) == 1


def test_another_order_ranks_the_types_and_counts_give_their_mass():
    # from the rarest: type 0 (2 of 100 tokens), 2 and 3 alike (8), 1 (40), 4 (45); 5 never occurs; 6 has no rank
    counts = np.array([2, 40, 5, 3, 50, 0, 900])
    order = np.array([-9.0, -2.0, -5.0, -5.0, -1.0, -3.0, np.nan])
    bands = type_bands(counts, order)
    assert np.flatnonzero(bands["rare"]).tolist() == [0]
    assert np.flatnonzero(bands["common"]).tolist() == [4]
    assert np.flatnonzero(bands["half of types"]).tolist() == [0]
    assert not any(band[[5, 6]].any() for band in bands.values())
    below, mass = cumulative_mass(counts, order)
    assert np.isnan([below[6], mass[6]]).all()
    assert np.allclose([below[2], mass[2], below[3], mass[3]], [0.02, 0.1, 0.02, 0.1])
    frequency = UnigramCounts(counts, "t", order)
    assert type_table(frequency, lambda ids: [str(i) for i in ids])["token"].tolist() == [4, 1, 2, 3, 0]
    assert np.array_equal(frequency.ranking, order, equal_nan=True)


@given(some_counts)
def test_any_increasing_function_of_the_counts_ranks_the_types_as_they_do(counts):
    given = type_bands(counts, np.log(counts + 1.0) - 7)
    for name, band in type_bands(counts).items():
        assert (given[name] == band).all()


def test_an_order_is_a_part_of_the_identity():
    counts = np.array([3, 1, 2])
    orders = [None, counts.astype(float), -counts.astype(float)]
    assert len({UnigramCounts(counts, "t", order).digest for order in orders}) == 3


def test_counts_are_counts():
    assert count_tokens(np.array([2, 0, 2]), 4, "t").counts.tolist() == [1, 0, 2, 0]


@pytest.mark.parametrize("kind", ["npy", "json"])
def test_counts_file_round_trip(tmp_path, kind):
    path = tmp_path / f"c.{kind}"
    np.save(path, np.arange(5)) if kind == "npy" else path.write_text(json.dumps(list(range(5))))
    assert load_counts(path, 5).counts.tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([1, 2, 3], r"shape \(3,\), but the model has 5"),
        ([1, 2, 3, 4, -1], "not counts"),
        ([1, 2, 3, 4, 0.5], "not counts"),
        ([0, 0, 0, 0, 0], "only zeros"),
        ("hello", r"shape \(\)"),
        ({"a": 1}, r"shape \(\)"),
    ],
)
def test_bad_counts_are_refused(tmp_path, values, message):
    path = tmp_path / "c.json"
    path.write_text(json.dumps(values))
    with pytest.raises(RaretokError, match=message):
        load_counts(path, 5)


def test_pickled_or_broken_or_missing_counts_are_refused(tmp_path):
    np.save(tmp_path / "p.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    (tmp_path / "b.json").write_text("[1, 2")
    for name, message in (("p.npy", "not a readable"), ("b.json", "not a readable"), ("none.npy", "no counts file")):
        with pytest.raises(RaretokError, match=message):
            load_counts(tmp_path / name, 1)
