"""Every architecture of the book's table is exact against hooks on the plain model, or refused as the table says."""

import importlib.util

import pytest
import torch
from conftest import ROOT

from raretok.model import load
from raretok.model.architecture import find, tried
from raretok.model.loaded import forward
from raretok.model.registry import ModelEntry

spec = importlib.util.spec_from_file_location("architectures", ROOT / "benchmarks" / "architectures.py")
architectures = importlib.util.module_from_spec(spec)
spec.loader.exec_module(architectures)
BEFORE_MLP = ("ln_2", "post_attention_layernorm", "ffn_norm")
"""Names of the norm that the MLP reads."""
TABLE = tried().set_index(["family", "variant"])


def test_the_table_has_every_family_that_is_tried():
    assert list(TABLE.index) == [family[:2] for family in architectures.FAMILIES]
    assert (TABLE["form"] != "refused").sum() >= 60


@pytest.mark.parametrize(
    ("family", "inputs"),
    [
        ("gpt2", ["W_in"]),
        ("nemotron", ["W_up"]),
        ("llama", ["W_gate", "W_up"]),
        ("phi3", ["W_gate", "W_up"]),
        ("glm4", ["W_gate", "W_up"]),
        ("lfm2", ["W_gate", "W_up"]),
    ],
)
def test_the_input_matrices_are_those_that_make_the_activations(family, inputs):
    model = load._wrap(
        ModelEntry(family, "memory", ""), architectures.tiny(family, {}), architectures.Tokens(), "cpu", torch.float32
    )
    assert sorted(model.inputs) == inputs
    block, kept = model.blocks[-1], {}
    norm = next(m for n, m in reversed(list(block.named_modules())) if n in BEFORE_MLP)
    norm.register_forward_hook(lambda m, a, out: kept.update(x=out))
    activation, _ = forward(model, torch.arange(1, 9)[None])
    made = {name: kept["x"] @ w.T for name, w in model.inputs.items()}
    bias = getattr(getattr(find(block, "mlp"), "c_fc", None), "bias", None)
    act = (
        find(block, "mlp.act")
        or find(block, "mlp.act_fn")
        or find(block, "mlp.activation_fn")
        or torch.nn.functional.silu
    )
    if "W_gate" in made:
        expected = act(made["W_gate"]) * made["W_up"]
    else:
        [only] = made.values()
        expected = act(only if bias is None else only + bias)
    torch.testing.assert_close(activation, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("family", architectures.FAMILIES, ids=lambda f: f"{f[0]} {f[1]}".strip())
def test_a_family_is_exact_or_refused_as_the_table_says(family):
    row, listed = architectures.compare(*family), TABLE.loc[family[:2]]
    assert row["form"] == listed["form"]
    assert row["why"] == listed["why"]
    if row["form"] != "refused":
        assert row["error"] < (1e-5 if family[0] in architectures.SINGLE else 1e-10)
        assert row["plain"] < 2e-5, "the plain model as it is, in float32"
        assert row["outside"] == 0
