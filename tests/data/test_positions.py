import numpy as np
import pytest

from raretok import RaretokError
from raretok.data.frequency import type_bands
from raretok.data.positions import BANDS, match_controls, select

VOCAB = 2000


@pytest.fixture(scope="module")
def text():
    """Zipfian targets and inputs, losses that grow with rarity."""
    rng = np.random.default_rng(0)
    p = 1 / np.arange(1, VOCAB + 1)
    ids = rng.choice(VOCAB, (2, 20_000), p=p / p.sum())
    counts = np.bincount(rng.choice(VOCAB, 200_000, p=p / p.sum()), minlength=VOCAB)
    loss = np.log(1 + ids[0]) + rng.gamma(2, 1, 20_000)
    return {
        "target": ids[0],
        "input": ids[1],
        "loss": loss,
        "position": rng.integers(3, 255, 20_000),
        "half": rng.integers(0, 2, 20_000),
        "bands": type_bands(counts),
        "word_start": rng.random(VOCAB) < 0.5,
    }


def test_all_rare_targets_are_ablated(text):
    chosen = select(**text, sample=1000, seed=0)
    rare = np.flatnonzero(text["bands"]["rare"][text["target"]])
    assert np.isin(rare, chosen.rows).all()
    weight = chosen.weights[BANDS.index("rare")]
    assert weight.sum() == len(rare)
    assert set(np.unique(weight)) == {0.0, 1.0}


def test_band_means_are_unbiased(text):
    """Over samples, the weighted mean of every band is the mean over all its positions."""
    occurs = text["bands"]
    value = np.sin(np.arange(len(text["target"]))) + text["loss"]
    draws = {band: [] for band in BANDS}
    for seed in range(120):
        chosen = select(**text, sample=1000, seed=seed)
        for band, weight in zip(BANDS, chosen.weights, strict=True):
            draws[band].append((weight * value[chosen.rows]).sum() / weight.sum())
    for band in set(BANDS) - {"matched", "rare with controls"}:
        by = "input" if band.endswith("input") else "target"
        member = np.ones(VOCAB, dtype=bool) if band == "all" else occurs[band.removesuffix(" input")]
        truth = value[member[text[by]]].mean()
        error = np.std(draws[band]) / np.sqrt(len(draws[band]))
        assert abs(np.mean(draws[band]) - truth) < 4 * error + 0.01, band


def test_controls_are_common_and_as_hard(text):
    rng = np.random.default_rng(0)
    bands = text["bands"]
    rare, common = bands["rare"][text["target"]], bands["common"][text["target"]]
    starts = text["word_start"][text["target"]]
    loss = np.random.default_rng(1).gamma(4, 1, len(rare)) + rare
    half = text["half"]
    weight, paired = match_controls(rare, common, loss, text["position"], half, starts, rng)
    assert paired.sum() > 0.95 * rare.sum()
    assert not (paired & ~rare).any()
    assert not weight[~common].any()
    for h in (0, 1):
        here, w = paired & (half == h), weight * (half == h)
        assert w.sum() == pytest.approx(here.sum())
        assert abs(np.average(loss, weights=w) - loss[here].mean()) < 0.15
        assert abs(np.average(starts, weights=w) - starts[here].mean()) < 0.03
        assert abs(np.average(text["position"], weights=w) - text["position"][here].mean()) < 8
    assert abs(loss[common].mean() - loss[rare].mean()) > 0.5


def test_rare_targets_without_controls_stay_out(text):
    """No common target is as hard as the hardest fifth of the rare ones: these are left out, not overweighted."""
    bands = text["bands"]
    rare, common = bands["rare"][text["target"]], bands["common"][text["target"]]
    rng = np.random.default_rng(7)  # not the one that drew the text
    loss = rng.uniform(0, 8, len(rare))
    hardest = rare & (rng.random(len(rare)) < 0.2)
    loss[hardest] += 8
    weight, paired = match_controls(
        rare, common, loss, text["position"], text["half"], text["word_start"][text["target"]], rng
    )
    assert not (paired & hardest & (loss > 9)).any()
    assert paired.sum() > 0.7 * rare.sum()
    assert weight.max() <= 20


def test_rare_targets_harder_than_every_common_one_have_no_controls(text):
    bands = text["bands"]
    rare, common = bands["rare"][text["target"]], bands["common"][text["target"]]
    loss = rare * 10.0 + np.arange(len(rare)) * 1e-6
    weight, paired = match_controls(rare, common, loss, text["position"], text["half"], rare, np.random.default_rng(0))
    assert not weight.any()
    assert not paired.any()


def test_too_few_rare_targets_is_an_error(text):
    few = {k: v[:1000] if len(v) > VOCAB else v for k, v in text.items()}
    with pytest.raises(RaretokError, match="band rare has .* targets, fewer than 200"):
        select(**few, sample=100, seed=0)


def test_a_target_that_the_counts_never_saw_is_in_no_band(text):
    """Such as the mark between packed documents, which may well follow a rare type."""
    seen = np.flatnonzero(text["bands"]["half of types"])
    unseen = seen[: len(seen) // 2]
    changed = {name: band & ~np.isin(np.arange(VOCAB), unseen) for name, band in text["bands"].items()}
    # only as targets: as inputs they stay rare
    target = np.where(np.isin(text["target"], unseen), unseen[0], text["target"])
    chosen = select(**text | {"bands": changed, "target": target}, sample=1000, seed=0)
    at = np.isin(target[chosen.rows], unseen)
    assert not chosen.weights[:, at].any()
    assert chosen.weights[BANDS.index("half of types input")].sum() > 100
