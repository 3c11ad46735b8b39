"""Recipes of the small models that are trained for the book: their architectures and hyperparameters."""

import math
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict


class Recipe(BaseModel):
    """A model's architecture and training hyperparameters.

    ``learning_rate`` is the peak rate, which is reached after ``warmup`` steps and followed by a cosine decay to
    ``least_rate`` times the peak.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    architecture: Literal["gpt_neox", "gpt2"] = "gpt_neox"
    corpus: str = "movie-reviews-train"
    held_out: str = "movie-reviews-heldout"
    vocab: int = 8192
    d_model: int = 128
    layers: int = 4
    heads: int = 4
    d_mlp: int = 1024
    context: int = 256
    batch: int = 32
    steps: int = 4096
    learning_rate: float = 3e-3
    least_rate: float = 0.05
    warmup: int = 128
    weight_decay: float = 0.1

    @property
    def checkpoints(self) -> tuple[int, ...]:
        """Steps at which the model is saved: 0, powers of two to 512, 512 times powers of √2, and the last step."""
        early = [0, *(2**k for k in range(10))]
        late = [round(512 * 2 ** (k / 2)) for k in range(1, 40)]
        return tuple(sorted({s for s in (*early, *late) if s < self.steps} | {self.steps}))

    def rate(self, step: int) -> float:
        """Learning rate of the update from ``step`` to ``step + 1``."""
        if step < self.warmup:
            return self.learning_rate * (step + 1) / self.warmup
        done = (step - self.warmup) / max(1, self.steps - self.warmup)
        return self.learning_rate * (self.least_rate + (1 - self.least_rate) * (1 + math.cos(math.pi * done)) / 2)


RECIPES: dict[str, Recipe] = {
    "reviews-neox": Recipe(),
    "reviews-gpt2": Recipe(architecture="gpt2"),
    "micro": Recipe(vocab=300, d_model=16, layers=1, heads=2, d_mlp=32, context=32, batch=4, steps=24, warmup=4),
}


def build_model(recipe: Recipe, seed: int) -> Any:
    """The untrained model of a recipe."""
    from transformers import GPT2Config, GPT2LMHeadModel, GPTNeoXConfig, GPTNeoXForCausalLM

    torch.manual_seed(seed)
    shared: dict[str, Any] = {"vocab_size": recipe.vocab, "bos_token_id": 0, "eos_token_id": 0, "use_cache": False}
    if recipe.architecture == "gpt2":
        config = GPT2Config(
            n_embd=recipe.d_model,
            n_layer=recipe.layers,
            n_head=recipe.heads,
            n_inner=recipe.d_mlp,
            n_positions=recipe.context,
            resid_pdrop=0.0,
            embd_pdrop=0.0,
            attn_pdrop=0.0,
            **shared,
        )
        return GPT2LMHeadModel(config)
    config = GPTNeoXConfig(
        hidden_size=recipe.d_model,
        num_hidden_layers=recipe.layers,
        num_attention_heads=recipe.heads,
        intermediate_size=recipe.d_mlp,
        max_position_embeddings=recipe.context,
        **shared,
    )
    return GPTNeoXForCausalLM(config)
