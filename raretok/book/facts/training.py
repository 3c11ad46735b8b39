"""Facts of the chapter on the model that ships with the book: its recipe, its loss, and when its effects repeat."""

import pandas as pd

from raretok.model.registry import find_model
from raretok.shipped.recipes import RECIPES

RELIABLE = 0.95
"""Reliability above which effects are said to repeat."""


def facts(model: str, log: pd.DataFrame, baselines: pd.DataFrame, reliability: pd.DataFrame) -> dict[str, str]:
    """Return the numbers that the chapter on training prints.

    Args:
        model: the name of a model that ships with the book and is named after its recipe.
        log: the model's ``trajectory.loss_table``.
        baselines: the model's ``trajectory.baseline_table``.
        reliability: the ``trajectory.reliability_table``.
    """
    return _recipe(model) | _losses(log, baselines) | _repeats(reliability)


def _recipe(model: str) -> dict[str, str]:
    """Return the sizes of the model and of its training."""
    recipe = RECIPES[model]
    batch = recipe.batch * recipe.context
    return {
        "layers": str(recipe.layers),
        "d_model": f"{recipe.d_model:,}",
        "d_mlp": f"{recipe.d_mlp:,}",
        "vocab": f"{recipe.vocab:,}",
        "batch": f"{batch:,}",
        "steps": f"{recipe.steps:,}",
        "checkpoints": str(len(find_model(model).steps)),
        "tokens": f"{recipe.steps * batch / 1e6:.0f}",
        "rate": f"{recipe.learning_rate:g}",
    }


def _losses(log: pd.DataFrame, baselines: pd.DataFrame) -> dict[str, str]:
    """Return held-out losses in nats per token, and the steps at which the model becomes better than n-gram models."""
    held_out = log[log["text"] == "held out"].set_index("step")["loss"].sort_index()
    of = baselines.set_index("model")["loss"]
    return {
        "held_out": f"{held_out.iloc[-1]:.3f}",
        **{name: f"{of[name]:.3f}" for name in ("unigram", "bigram", "trigram")},
        "margin": f"{of.min() - held_out.iloc[-1]:.2f}",
        "passes": _stays_below(held_out, of["unigram"]),
        "passes_bigram": _stays_below(held_out, of["bigram"]),
    }


def _stays_below(loss: "pd.Series[float]", level: float) -> str:
    """Return the step from which on a loss is below a level; a dash if there is none."""
    below = loss.index[loss[::-1].cummax()[::-1] < level]
    return f"{below[0]:,}" if len(below) else "–"


def _repeats(reliability: pd.DataFrame) -> dict[str, str]:
    """Say from which step on the effects of every run are reliable, and how reliable they are before training."""
    least = reliability.groupby("step")["reliability"].min()
    lasting = least[least[::-1].cummin() > RELIABLE].index
    return {
        "reliable": f"{RELIABLE:g}",
        "settled": f"{lasting.min():,}" if len(lasting) else "–",
        "untrained_reliability": f"{reliability.loc[reliability['step'] == 0, 'reliability'].max():.2f}",
        "least_targets": f"{reliability['targets'].min():,}",
    }
