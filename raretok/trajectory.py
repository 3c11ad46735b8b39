"""What the models that ship with the book know when: loss by step, beside n-gram models on the same tokens, and samples."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from raretok.data.ngrams import ngram_losses
from raretok.data.text import load_corpus
from raretok.errors import RaretokError
from raretok.model.load import load_model, load_tokenizer, model_digest
from raretok.model.registry import MODELS, find_model
from raretok.recipes import RECIPES
from raretok.store import Store, code_digest
from raretok.training import HELD_OUT_WINDOWS, stream

BASELINES = {1: "unigram", 2: "bigram", 3: "trigram"}


def loss_table(name: str) -> pd.DataFrame:
    """The log of a shipped model's training, a row an entry; losses in nats per token.

    Columns: ``step``, ``tokens`` (read so far), ``text`` (training: one batch; held out: the same 51,200 targets each time), ``loss``.
    """
    lines = _file(name, "log.jsonl").read_text(encoding="utf-8").splitlines()
    log = pd.DataFrame([json.loads(line) for line in lines])
    parts = [
        log[["step", "tokens"]].assign(text=text, loss=log[column])
        for text, column in (("training", "loss"), ("held out", "held_out"))
    ]
    return pd.concat(parts).dropna().reset_index(drop=True)


def baseline_table(name: str, store: Store | None = None) -> pd.DataFrame:
    """Loss of n-gram models with Kneser–Ney smoothing, estimated on the model's training tokens, on its held-out targets.

    Columns: ``model``, ``loss`` (nats per token).
    """
    entry, recipe = find_model(name), RECIPES[name]
    inputs = {
        "tokenizer": model_digest(entry, None),
        "train": load_corpus(recipe.corpus).digest,
        "held out": load_corpus(recipe.held_out).digest,
        "code": code_digest("data", "trajectory", "recipes", "training"),
    }

    def compute() -> pd.DataFrame:
        tokenizer = load_tokenizer(name)
        train, held_out = stream(tokenizer, recipe.corpus), stream(tokenizer, recipe.held_out)
        targets = min(HELD_OUT_WINDOWS, (len(held_out) - 1) // recipe.context) * recipe.context
        test = np.concatenate([[0], held_out[: targets + 1]])
        losses = {n: ngram_losses(train, test, recipe.vocab, n)[-targets:].mean() for n in BASELINES}
        return pd.DataFrame({"model": BASELINES.values(), "loss": losses.values()})

    return (store or Store()).table("baselines", inputs, compute)


def sample_table(name: str, steps: tuple[int, ...], prompt: str, tokens: int = 40, seed: int = 0) -> pd.DataFrame:
    """What the model writes after a prompt at some steps: ``step``, ``text``; one seeded sample each, at temperature 0.8."""
    rows = []
    for step in steps:
        model = load_model(name, step, "cpu")
        ids = [int(model.tokenizer.bos_token_id), *model.tokenizer(prompt, add_special_tokens=False)["input_ids"]]
        generator = torch.Generator().manual_seed(seed)
        with torch.inference_mode():
            for _ in range(tokens):
                logits = model.bridge(torch.tensor([ids]))[0, -1]
                ids.append(int(torch.multinomial((logits / 0.8).softmax(0), 1, generator=generator)))
        rows.append({"step": step, "text": model.tokenizer.decode(ids[1:], skip_special_tokens=True)})
    return pd.DataFrame(rows)


def _file(name: str, file: str) -> Path:
    entry = find_model(name)
    if entry.kind != "shipped":
        shipped = ", ".join(e.name for e in MODELS.values() if e.kind == "shipped")
        raise RaretokError(f"{name} has no training log here: choose a model that ships with the book ({shipped})")
    path = Path(entry.source) / file
    if not path.is_file():
        raise RaretokError(f"{path} is missing: clone the book's repository again, it comes with it")
    return path
