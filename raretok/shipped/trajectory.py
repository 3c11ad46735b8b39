"""Training trajectories of the shipped models: loss by step, n-gram baselines on the same tokens, and samples."""

import json
import platform
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from raretok.claims import rank_curve_claims
from raretok.code import digest_of
from raretok.data.ngrams import ngram_losses
from raretok.data.text import load_corpus
from raretok.errors import NotApplicable, RaretokError
from raretok.model.load import load_model, load_tokenizer, model_digest
from raretok.model.registry import MODELS, find_model
from raretok.shipped.recipes import RECIPES, Recipe
from raretok.shipped.training import HELD_OUT_WINDOWS, stream
from raretok.store import Store
from raretok.study import Study

RELIABILITY = Path(__file__).with_name("reliability.csv")
BASELINES = {1: "unigram", 2: "bigram", 3: "trigram"}


def loss_table(name: str) -> pd.DataFrame:
    """The log of a shipped model's training with one row per entry; losses are in nats per token.

    Columns: ``step``, ``tokens`` (read so far), ``text`` (training: one batch; held out: the same 51,200 targets each
    time), ``loss``.
    """
    lines = _file(name, "log.jsonl").read_text(encoding="utf-8").splitlines()
    log = pd.DataFrame([json.loads(line) for line in lines])
    parts = [
        log[["step", "tokens"]].assign(text=text, loss=log[column])
        for text, column in (("training", "loss"), ("held out", "held_out"))
    ]
    return pd.concat(parts).dropna().reset_index(drop=True)


def baseline_code() -> str:
    """Digest of the code that computes the baselines."""
    return digest_of(ngram_losses, stream, Recipe)


def baseline_table(name: str, store: Store | None = None) -> pd.DataFrame:
    """Loss on a model's held-out targets of n-gram models with Kneser–Ney smoothing, estimated on its training tokens.

    Columns: ``model``, ``loss`` (nats per token).
    """
    entry = find_model(name)
    recipe = RECIPES[entry.recipe or name]
    inputs = {
        "tokenizer": model_digest(entry, None),
        "train": load_corpus(recipe.corpus).digest,
        "held out": load_corpus(recipe.held_out).digest,
        "code": baseline_code(),
    }

    def compute() -> pd.DataFrame:
        tokenizer = load_tokenizer(name)
        train, held_out = stream(tokenizer, recipe.corpus), stream(tokenizer, recipe.held_out)
        targets = min(HELD_OUT_WINDOWS, (len(held_out) - 1) // recipe.context) * recipe.context
        test = np.concatenate([[0], held_out[: targets + 1]])
        losses = {n: ngram_losses(train, test, recipe.vocab, n)[-targets:].mean() for n in BASELINES}
        return pd.DataFrame({"model": BASELINES.values(), "loss": losses.values()})

    return (store or Store()).table("baselines", inputs, compute, {"model": name})


def sample_table(name: str, steps: tuple[int, ...], prompt: str, tokens: int = 40, seed: int = 0) -> pd.DataFrame:
    """One seeded continuation of a prompt at temperature 0.8 for each of some steps. Columns: ``step``, ``text``."""
    rows = []
    for step in steps:
        model = load_model(name, step, "cpu")
        ids = [int(model.tokenizer.bos_token_id), *model.tokenizer(prompt, add_special_tokens=False)["input_ids"]]
        generator = torch.Generator().manual_seed(seed)
        with torch.inference_mode():
            for _ in range(tokens):
                logits = model.network(torch.tensor([ids]), use_cache=False).logits[0, -1]
                ids.append(int(torch.multinomial((logits / 0.8).softmax(0), 1, generator=generator)))
        rows.append({"step": step, "text": model.tokenizer.decode(ids[1:], skip_special_tokens=True)})
    return pd.DataFrame(rows)


def write_results(study: Study, seed: int, folder: Path) -> None:
    """Write the tables at every checkpoint that the emergence chapter needs of a run that is not shipped.

    Writes ``statistics.csv`` (``regimes.statistics`` by step), ``reliability.csv``, ``verdicts.csv``
    (``verdicts_by_step``), ``tails.csv`` (``weights.tails_over_training``) and ``manifest.json`` (settings, versions,
    and the commands that produced the files).

    Args:
        study: A study of the run.
        seed: Seed with which the run was trained.
        folder: Folder for the files, which is created if necessary.
    """
    folder.mkdir(parents=True, exist_ok=True)
    steps = study.inputs.entry.steps
    last = study.at(steps[-1])
    tables: dict[str, Callable[[], pd.DataFrame]] = {
        "statistics": lambda: study.over_training("regimes.statistics"),
        "reliability": lambda: study.over_training("identification.reliability"),
        "verdicts": lambda: verdicts_by_step(study),
        "tails": lambda: last.table("weights.tails_over_training"),
    }
    left_out = {}
    for name, table in tables.items():
        path = folder / f"{name}.csv"
        try:
            table().assign(seed=seed).to_csv(path, index=False, float_format="%.5g")
        except NotApplicable as error:
            path.unlink(missing_ok=True)
            left_out[name] = str(error)
    settings = study.settings.model_dump() | {"model": study.inputs.entry.name}
    options = " ".join(f"--{k} {v}" for k, v in settings.items() if k in ("corpus", "windows", "length", "seed"))
    manifest = {
        "study": settings,
        "left_out": left_out,
        "weights": {str(step): study.at(step).inputs.weights for step in steps},
        "versions": {"python": platform.python_version()}
        | {p: version(p) for p in ("torch", "transformers", "numpy", "raretok")},
        "commands": [
            f"raretok train {settings['model'].rsplit('-seed', 1)[0]} --seed {seed} --out runs/{settings['model']}",
            f"raretok emergence runs/{settings['model']} {options} --training-seed {seed} --out results/{folder.name}",
        ],
    }
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")


def verdicts_by_step(study: Study) -> pd.DataFrame:
    """Verdicts by step: on the claims about the rank curve at every checkpoint, and on all claims at the last."""
    *earlier, last = study.inputs.steps
    rank_curve = [study.at(step).claims(rank_curve_claims()).assign(step=step) for step in earlier]
    return pd.concat([*rank_curve, study.at(last).claims().assign(step=last)], ignore_index=True)


def seed_table(name: str, table: str) -> pd.DataFrame:
    """A table by step for the other seeds of a shipped model, from its shipped results; empty if there are none.

    Args:
        name: Name of the model.
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
    """Split-half reliability of the effects on rare targets at every checkpoint of every seed that ships.

    `make reliability` measures it. Columns: ``model``, ``step``, ``targets``, ``documents``, ``reliability`` (median
    over random splits), ``low``, ``high`` (95% of the splits), ``rank`` (Spearman's correlation of the absolute effects
    in two halves).
    """
    if not RELIABILITY.is_file():
        raise RaretokError(f"{RELIABILITY} is missing: clone the book's repository again, it comes with it")
    return pd.read_csv(RELIABILITY)


def _file(name: str, file: str) -> Path:
    entry = find_model(name)
    if entry.kind != "shipped":
        shipped = ", ".join(e.name for e in MODELS.values() if e.kind == "shipped")
        raise NotApplicable(f"{name} has no training log here: choose a model that ships with the book ({shipped})")
    path = Path(entry.source) / file
    if not path.is_file():
        raise RaretokError(f"{path} is missing: clone the book's repository again, it comes with it")
    return path
