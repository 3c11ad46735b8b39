"""The cost model: planted rates are found, noise leaves an honest error, and sizes enter as the formula says."""

import numpy as np
import pandas as pd
import pytest

from raretok import RaretokError
from raretok.measure.cost import PARTS, fit, operations, read_points

RNG = np.random.default_rng(0)


def points(fixed=3.0, forward=0.8, ablation=0.3, noise=0.0, count=12):
    """Studies of random sizes on a machine whose rates are known."""
    table = pd.DataFrame(
        {
            "model": [f"m{k // 3}" for k in range(count)],
            "windows": [32, 64, 128] * (count // 3),
            "parameters": np.repeat(10 ** RNG.uniform(6, 9, count // 3), 3),
            "d_model": np.repeat(RNG.integers(128, 2048, count // 3), 3),
            "neurons": np.repeat(RNG.integers(512, 8192, count // 3), 3),
            "vocab": np.repeat(RNG.integers(8000, 60000, count // 3), 3),
            "tokens": [32 * 256, 64 * 256, 128 * 256] * (count // 3),
            "positions": [1000, 1900, 3600] * (count // 3),
            "gflops": RNG.uniform(80, 120, count),
        }
    )
    work = operations(table)
    seconds = fixed + (work["forward"] / forward + work["ablation"] / ablation) / (table["gflops"] * 1e9)
    kept = table["tokens"] * (table["neurons"] + table["d_model"]) / 2**20
    engine = 6 * table["vocab"] * (table["neurons"] + table["d_model"]) / 2**20
    memory = 500 + 5 * table["parameters"] / 2**20 + 8 * kept + engine
    factor = np.exp(noise * RNG.standard_normal(count))
    return table.assign(seconds=seconds * factor, peak_mib=memory * factor)


def test_planted_rates_are_found_and_nothing_is_off():
    model = fit(points())
    assert model.fixed_seconds == pytest.approx(3)
    assert model.share == pytest.approx({"forward": 0.8, "ablation": 0.3})
    assert model.memory == pytest.approx((500, 5, 8))
    assert np.abs(model.error[["relative", "memory"]]).max().max() < 1e-6


def test_the_error_is_that_of_models_that_were_not_fitted():
    table = points(noise=0.1)
    error = fit(table).error
    assert 0.03 < error["relative"].abs().median() < 0.4
    mine = table.assign(seconds=np.where(table["model"] == "m1", 10 * table["seconds"], table["seconds"]))
    changed = fit(mine).error
    same = changed["model"] == "m1"
    assert (changed.loc[same, "relative"] + 1).to_numpy() == pytest.approx(
        (error.loc[same, "relative"] + 1).to_numpy() / 10
    )


def test_a_faster_machine_and_more_checkpoints():
    model = fit(points())
    sizes = {"parameters": 6.9e9, "tokens": 65536, "positions": 6000, "vocab": 50432, "d_model": 4096, "neurons": 16384}
    slow, fast = model.seconds(sizes, 100.0), model.seconds(sizes, 1000.0)
    assert slow - model.fixed_seconds == pytest.approx(10 * (fast - model.fixed_seconds))
    assert model.seconds(sizes, 100.0, 154) == pytest.approx(154 * slow)
    assert model.mebibytes(sizes) > 4 * 6.9e9 / 2**20


def test_operations_are_counted_by_hand():
    sizes = {"parameters": 10, "tokens": 3, "positions": 2, "vocab": 7, "d_model": 4, "neurons": 5}
    assert operations(sizes) == {"forward": 60, "ablation": 2 * 7 * (24 + 10)}
    assert set(operations(sizes)) == set(PARTS)


def test_measurements_that_are_missing_say_how_to_make_them(tmp_path):
    with pytest.raises(RaretokError, match="make cost"):
        read_points(tmp_path / "none.csv")
