"""What the models that ship with the book know when: loss by step, beside n-gram models on the same tokens, and samples."""

import json
import platform
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from raretok.data.ngrams import ngram_losses
from raretok.data.text import load_corpus
from raretok.errors import RaretokError
from raretok.findings.identification import NoControls
from raretok.model.load import load_model, load_tokenizer, model_digest
from raretok.model.registry import MODELS, find_model
from raretok.recipes import RECIPES
from raretok.store import Store, code_digest
from raretok.study import Study
from raretok.training import HELD_OUT_WINDOWS, stream

RELIABILITY = Path(__file__).parents[1] / "benchmarks" / "reliability.csv"
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
    entry = find_model(name)
    recipe = RECIPES[entry.recipe or name]
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


def write_results(study: Study, seed: int, folder: Path) -> None:
    """What the emergence chapter needs of a run whose checkpoints are not shipped: its tables at every checkpoint.

    Writes ``statistics.csv`` (``Study.regimes`` by step), ``reliability.csv``, ``verdicts.csv`` (``Study.verdicts``), ``tails.csv`` (``Study.tails_over_training``) and
    ``manifest.json`` (settings, versions, and the commands that made it).

    Args:
        study: of the run.
        seed: that the run was trained with.
        folder: where to, made if need be.
    """
    folder.mkdir(parents=True, exist_ok=True)
    last = study.at(study.entry.steps[-1])
    tables = {
        "statistics": lambda: study.over_training(Study.regimes),
        "reliability": lambda: study.over_training(Study.reliability),
        "verdicts": study.verdicts,
        "tails": last.tails_over_training,
    }
    for name, table in tables.items():
        with suppress(NoControls):  # where the last checkpoint has none, there are no neurons whose tails to follow
            table().assign(seed=seed).to_csv(folder / f"{name}.csv", index=False, float_format="%.5g")
    config = study.config.model_dump() | {"model": study.entry.name}
    options = " ".join(f"--{k} {v}" for k, v in config.items() if k in ("corpus", "windows", "length", "seed"))
    manifest = {
        "study": config,
        "weights": {str(step): study.at(step).weights_digest for step in study.entry.steps},
        "versions": {"python": platform.python_version()}
        | {p: version(p) for p in ("torch", "transformers", "numpy", "raretok")},
        "commands": [
            f"raretok train {config['model'].rsplit('-seed', 1)[0]} --seed {seed} --out runs/{config['model']}",
            f"raretok emergence runs/{config['model']} {options} --training-seed {seed} --out results/{folder.name}",
        ],
    }
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")


def seed_table(name: str, table: str) -> pd.DataFrame:
    """A table by step of the other seeds of a shipped model, from the results that ship with it; none is an empty table.

    Args:
        name: of the model.
        table: statistics, reliability, verdicts or tails, see ``write_results``.
    """
    entry = find_model(name)
    paths = (
        sorted(Path(entry.source).parent.glob(f"results/{entry.name}-seed*/{table}.csv"))
        if entry.kind == "shipped"
        else []
    )
    return pd.concat([pd.read_csv(p) for p in paths]) if paths else pd.DataFrame()


def reliability_table() -> pd.DataFrame:
    """Split-half reliability of the effects on rare targets at every checkpoint of every seed that ships, as ``benchmarks/reliability.py`` measured it.

    Columns: ``model``, ``step``, ``targets``, ``documents``, ``reliability`` (median over random splits), ``low``, ``high`` (95 % of the splits), ``rank`` (Spearman's correlation
    of the absolute effects in two halves).
    """
    if not RELIABILITY.is_file():
        raise RaretokError(f"{RELIABILITY} is missing: clone the book's repository again, it comes with it")
    return pd.read_csv(RELIABILITY)


def _file(name: str, file: str) -> Path:
    entry = find_model(name)
    if entry.kind != "shipped":
        shipped = ", ".join(e.name for e in MODELS.values() if e.kind == "shipped")
        raise RaretokError(f"{name} has no training log here: choose a model that ships with the book ({shipped})")
    path = Path(entry.source) / file
    if not path.is_file():
        raise RaretokError(f"{path} is missing: clone the book's repository again, it comes with it")
    return path
