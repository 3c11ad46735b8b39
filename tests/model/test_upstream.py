"""Ablations and gradients before the last MLP against plain hooks on the Hugging Face model, and against finite
differences.
"""

import numpy as np
import pytest
import torch
from conftest import ARCHITECTURES, windows_of
from transformers import AutoModelForCausalLM

from raretok import RaretokError
from raretok.ablation.reference import hooked_effects
from raretok.model import passes, upstream
from raretok.model.load import _keep_float64, load_model, wrap_model
from raretok.model.loaded import forward
from raretok.model.trace import SKIP

PATHS = {
    "gpt2": ("transformer.h.{}.attn.c_proj", "transformer.h.{}.mlp.c_proj"),
    "gpt_neox": ("gpt_neox.layers.{}.attention.dense", "gpt_neox.layers.{}.mlp.dense_4h_to_h"),
    "llama": ("model.layers.{}.self_attn.o_proj", "model.layers.{}.mlp.down_proj"),
}
HEAD_LAYERS = [("gpt2", 0), ("gpt2", 1), ("gpt_neox", 0), ("llama", 0), ("llama", 1)]


class Plain:
    """The model without the package: what enters a matrix is moved by a hook, and what enters the last MLP's output
    matrix is kept.
    """

    def __init__(self, path, architecture):
        self.model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float64).eval()
        _keep_float64(self.model)
        self.attention, self.mlp = PATHS[architecture]

    def module(self, template, layer):
        return self.model.get_submodule(template.format(layer))

    def run(self, tokens, template=None, layer=0, move=None):
        kept = {}
        last = self.module(self.mlp, self.model.config.num_hidden_layers - 1)
        handles = [last.register_forward_pre_hook(lambda m, a: kept.__setitem__("z", a[0].clone()))]
        if template:
            handles.insert(
                0, self.module(template, layer).register_forward_pre_hook(lambda m, a: (move(a[0].clone()),))
            )
        with torch.inference_mode():
            logits = self.model(torch.from_numpy(tokens.astype(np.int64)), use_cache=False).logits
        for handle in handles:
            handle.remove()
        return kept["z"], logits


def losses(logits, tokens):
    target = torch.from_numpy(tokens[:, SKIP + 1 :].astype(np.int64))
    kept = logits[:, SKIP:-1]
    return torch.nn.functional.cross_entropy(kept.flatten(0, 1), target.flatten(), reduction="none").reshape(
        target.shape
    )


def means_of(model, tokens, what):
    """Mean inputs of each layer's output matrices over the used positions."""
    with passes.summed_inputs(model, tokens.shape[1]) as sums:
        for rows in (slice(0, 1), slice(1, len(tokens))):
            forward(model, torch.from_numpy(tokens[rows].astype(np.int64)))
    return torch.stack(sums[what]) / (len(tokens) * (tokens.shape[1] - 1 - SKIP))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_summed_inputs_are_those_of_the_plain_model(models, architecture):
    model = load_model(str(models[architecture]), device="cpu", dtype=torch.float64)
    tokens, plain = windows_of(3).tokens, Plain(models[architecture], architecture)
    kept = {}
    for what, template in (("heads", plain.attention), ("neurons", plain.mlp)):
        for layer in range(2):
            hook = lambda m, a, at=(what, layer): kept.__setitem__(at, a[0][:, SKIP:-1].mean((0, 1)))  # noqa: E731
            plain.module(template, layer).register_forward_pre_hook(hook)
    plain.run(tokens)
    for (what, layer), mean in kept.items():
        torch.testing.assert_close(means_of(model, tokens, what)[layer], mean, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(("architecture", "layer"), HEAD_LAYERS)
def test_an_ablated_head_changes_the_last_mlp_as_a_plain_hook_says(models, architecture, layer):
    model = load_model(str(models[architecture]), device="cpu", dtype=torch.float64)
    tokens = windows_of(3).tokens
    mean = means_of(model, tokens, "heads")[layer]
    base = passes.run_pass(model, tokens)
    width = len(mean) // 2

    def move(x):
        x[:, SKIP:, width:] = mean[width:]
        return x

    plain = Plain(models[architecture], architecture)
    before, _ = plain.run(tokens)
    after, _ = plain.run(tokens, plain.attention, layer, move)
    torch.testing.assert_close(base.neurons[-1], before, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(passes.ablate_heads(model, base, layer, [[1]], mean)[0], after, rtol=1e-5, atol=1e-5)
    assert float((after - before).abs().max()) > 1e-2


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_a_resumed_pass_is_the_pass(models, architecture, attention):
    """Masks and positions reach the blocks of a resumed pass, whichever way the attention is computed."""
    loaded = load_model(str(models[architecture]), device="cpu")
    network = AutoModelForCausalLM.from_pretrained(models[architecture], attn_implementation=attention)
    model = wrap_model(loaded.entry, network, loaded.tokenizer, "cpu")
    for count in (1, 3):
        base = passes.run_pass(model, windows_of(count).tokens)
        for layer in (0, 1):
            activation, residual = passes._go_on(model, base, layer, 2)
            for one in residual.chunk(2):
                torch.testing.assert_close(one, base.residual, rtol=1e-5, atol=1e-5)
            torch.testing.assert_close(activation.chunk(2)[1], base.neurons[-1], rtol=1e-5, atol=1e-5)


def test_heads_that_cannot_reach_the_last_mlp_are_refused(models):
    model = load_model(str(models["gpt_neox"]), device="cpu")
    tokens = windows_of(2).tokens
    base = passes.run_pass(model, tokens)
    with pytest.raises(RaretokError, match=r"layer 1 cannot reach .* parallel"):
        passes.ablate_heads(model, base, 1, [[0]], base.heads[1][0, 0])
    assert passes.layers_reaching(model) == 1
    assert passes.layers_reaching(load_model(str(models["llama"]), device="cpu")) == 2


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_an_ablated_neuron_of_the_last_layer_has_its_hooked_effect(models, architecture):
    model = load_model(str(models[architecture]), device="cpu", dtype=torch.float64)
    tokens = windows_of(3).tokens
    mean = means_of(model, tokens, "neurons")[-1]
    base = passes.run_pass(model, tokens)
    chosen = np.random.default_rng(0).random((3, tokens.shape[1] - 1 - SKIP)) < 0.5
    after = upstream.losses(model, passes.ablate_neuron(model, base, model.layer, 5, mean), tokens, chosen)
    found = after - upstream.losses(model, base.residual, tokens, chosen)
    expected = hooked_effects(model, tokens, 5, mean[5])[torch.from_numpy(chosen)]
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_attributions_are_the_slope_of_the_loss(models, architecture):
    model = load_model(str(models[architecture]), device="cpu", dtype=torch.float64)
    tokens = windows_of(4).tokens
    used = tokens.shape[1] - 1 - SKIP
    weights = np.random.default_rng(0).random((2, 4, used))
    weights[:, :, ::3] = 0.0
    mean = means_of(model, tokens, "neurons")
    found = upstream.neuron_attributions(model, tokens, weights, mean.numpy(), progress=False)
    plain = Plain(models[architecture], architecture)
    before = losses(plain.run(tokens)[1], tokens)
    small = 1e-5
    for layer, neuron in ((0, 3), (1, 7)):

        def move(x, layer=layer, neuron=neuron):
            x[:, SKIP:, neuron] += small * (mean[layer][neuron] - x[:, SKIP:, neuron])
            return x

        rise = (losses(plain.run(tokens, plain.mlp, layer, move)[1], tokens) - before).numpy() / small
        np.testing.assert_allclose(found[layer, :, :, neuron], (weights * rise).sum(2).T, rtol=2e-3, atol=2e-5)


def test_the_screen_of_heads_is_the_sum_of_squared_first_order_changes(models):
    model = load_model(str(models["llama"]), device="cpu", dtype=torch.float64)
    tokens = windows_of(3).tokens
    used = tokens.shape[1] - 1 - SKIP
    weights = (np.random.default_rng(1).random((1, 3, used)) < 0.5).astype(float)
    spread = np.full(model.readout.neurons, 2.0)
    members = np.arange(0, 40)
    mean = means_of(model, tokens, "heads")
    found = upstream.screen_heads(model, tokens, weights, spread, mean.numpy(), members, seed=0, probes=400)
    plain = Plain(models["llama"], "llama")
    before, _ = plain.run(tokens)
    small, width = 1e-5, len(mean[0]) // 2
    for head in range(4):
        layer, columns = head // 2, slice(head % 2 * width, (head % 2 + 1) * width)

        def move(x, layer=layer, columns=columns):
            x[:, SKIP:, columns] += small * (mean[layer][columns] - x[:, SKIP:, columns])
            return x

        after, _ = plain.run(tokens, plain.attention, layer, move)
        change = ((after - before)[:, SKIP:-1, members] / small / 2.0).square().sum(2).numpy()
        np.testing.assert_allclose(found[head, :, 0], (weights[0] * change).sum(1), rtol=0.35)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_influences_add_up_over_windows_and_bands(models, dtype):
    model = load_model(str(models["gpt2"]), device="cpu", dtype=dtype)
    tokens = windows_of(4).tokens
    used = tokens.shape[1] - 1 - SKIP
    rare = np.random.default_rng(2).random((4, used)) < 0.3
    spread = np.random.default_rng(3).random(model.readout.neurons) + 0.5
    weights, mean = np.stack([rare, ~rare]).astype(float), means_of(model, tokens, "heads")
    sets = [(1, [0]), (0, [1]), (0, [0, 1]), (1, [1]), (0, [0])]
    found = upstream.head_influences(model, tokens, weights, spread, mean.numpy(), sets, progress=False)
    assert found.shape == (5, 4, 2, model.readout.neurons)
    base = passes.run_pass(model, tokens)
    for influence, (layer, heads) in zip(found, sets, strict=True):
        [one] = passes.ablate_heads(model, base, layer, [heads], mean[layer].to(dtype))
        both = passes.ablate_heads(model, base, layer, [[1 - heads[0]], heads], mean[layer].to(dtype))
        torch.testing.assert_close(both[1], one, rtol=1e-5, atol=1e-5)
        expected = ((one - base.neurons[-1])[:, SKIP:-1].abs().numpy() / spread).sum(1)
        np.testing.assert_allclose(influence.sum(1), expected, rtol=1e-4, atol=1e-4)
