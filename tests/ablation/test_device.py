"""Every numeric entry point on a pretended graphics card: no tensor is on the wrong device, and the numbers agree."""

import numpy as np
import pytest
import torch
from conftest import ARCHITECTURES, windows_of
from pretended import CARD, pretended_card

from raretok import Study
from raretok.ablation import ablate, ablate_group, pair_effects
from raretok.ablation.outputs import OUTPUTS, log_unigram
from raretok.ablation.reference import hooked_effects
from raretok.model.forward import run_trace
from raretok.model.load import load_model


def numbers(path, device):
    """What the engine computes on a device, and how far each number may be from the same on another device."""
    model, windows = load_model(str(path), device=device), windows_of(4)
    trace = run_trace(model, windows, progress=False)
    log_q = log_unigram(np.arange(model.readout.vocab), model.readout.vocab)
    rows = np.arange(0, len(trace), 3)
    sums = ablate(model.readout, trace[rows], "mean", outputs=OUTPUTS, log_unigram=log_q, progress=False)
    tight = ablate(model.readout, trace[rows], "resample", tolerance=1e-7, progress=False)["loss"]
    loose = 2e-4 * len(rows)
    return {
        **{name: (s.net, loose) for name, s in sums.items()},
        "tight": (tight.net, 3e-5),
        "trace": (trace.loss, 3e-5),
        "pairs": (pair_effects(model.readout, trace[rows], "zero", progress=False).value.numpy(), 2e-4),
        "group": (ablate_group(model.readout, trace, [3, 5], "mean"), 3e-5),
        "hooked": (hooked_effects(model, windows.tokens, 5, torch.tensor(0.1).to(device)).cpu().numpy(), 3e-5),
    }


def test_the_pretended_card_refuses_what_a_card_refuses():
    with pretended_card():
        there = torch.arange(3.0).to(CARD)
        with pytest.raises(RuntimeError, match="on the card and on the CPU"):
            there + torch.ones(3)
        with pytest.raises(RuntimeError, match="numpy"):
            there.numpy()
        assert (there + torch.ones(3).to(CARD)).cpu().tolist() == [1, 2, 3]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_engine_runs_on_a_card(models, architecture):
    expected = numbers(models[architecture], "cpu")
    with pretended_card():
        found = numbers(models[architecture], CARD)
    for name, (values, apart) in expected.items():
        np.testing.assert_allclose(found[name][0], values, rtol=1e-4, atol=apart, err_msg=name)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_study_runs_on_a_card(models, corpus_file, tmp_path, architecture):
    settings = {"model": str(models[architecture]), "corpus": str(corpus_file), "windows": 120, "length": 64}
    names = ("layers.layer_checks", "layers.layer_agreement", "intervention.pruning", "routing.heads")

    def made(device):
        study = Study(**settings, sample=300, device=device, store=tmp_path / device)
        return study.claims(), {name: study.table(name) for name in names}

    with pretended_card():
        claims, tables = made(CARD)
    plain, expected = made("cpu")
    assert claims["id"].tolist() == plain["id"].tolist()
    for name, table in expected.items():
        numbers = table.select_dtypes("number").drop(columns=["low", "high"], errors="ignore")
        alike = np.isclose(tables[name][numbers.columns], numbers, rtol=2e-3, atol=2e-4, equal_nan=True)
        # two neurons that are all but equal may change places in an order
        assert alike.mean() > 0.98, name
    apart = (claims["controlled"] - plain["controlled"]).abs() / (1 + plain["controlled"].abs())
    assert apart.quantile(0.8) < 1e-3
