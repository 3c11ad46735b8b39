"""The numbers of the chapter on training, from tables whose answer is known and from those that ship."""

import pandas as pd

from raretok.book.facts import training
from raretok.model.registry import find_model
from raretok.shipped import trajectory

BASELINES = pd.DataFrame({"model": ["unigram", "bigram", "trigram"], "loss": [6.0, 5.0, 4.5]})


def test_losses_and_the_steps_at_which_the_model_passes_the_baselines():
    log = pd.DataFrame({"step": [0, 1000, 2000, 3000, 500], "loss": [9.0, 5.5, 5.2, 4.25, 1.0]})
    log["text"] = ["held out"] * 4 + ["training"]
    reliability = pd.DataFrame(
        {
            "model": ["a", "b"] * 4,
            "step": [0, 0, 1000, 1000, 2000, 2000, 3000, 3000],
            "reliability": [0.3, 0.4, 0.96, 0.97, 0.9, 0.99, 0.96, 0.98],
            "targets": [700, 800] * 4,
        }
    )
    facts = training.facts("reviews-neox", log, BASELINES, reliability)
    assert all(isinstance(text, str) for text in facts.values())
    assert (facts["held_out"], facts["margin"]) == ("4.250", "0.25")
    assert (facts["passes"], facts["passes_bigram"]) == ("1,000", "3,000")
    assert (facts["settled"], facts["untrained_reliability"], facts["least_targets"]) == ("3,000", "0.40", "700")
    assert facts["checkpoints"] == str(len(find_model("reviews-neox").steps))
    rising = log.replace({"loss": {5.2: 6.5}})
    assert training.facts("reviews-neox", rising, BASELINES, reliability)["passes"] == "3,000"
    never = training.facts("reviews-neox", log, BASELINES.assign(loss=1.0), reliability.assign(reliability=0.5))
    assert (never["passes"], never["settled"]) == ("–", "–")


def test_the_model_that_ships_ends_as_its_log_says():
    log = trajectory.loss_table("reviews-neox")
    facts = training.facts("reviews-neox", log, BASELINES, trajectory.reliability_table())
    last = log[(log["text"] == "held out") & (log["step"] == find_model("reviews-neox").steps[-1])]
    assert facts["held_out"] == f"{last['loss'].item():.3f}"
    assert f"{log['tokens'].max() / 1e6:.0f}" == facts["tokens"]
