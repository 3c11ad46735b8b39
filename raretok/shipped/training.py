"""Training of small models from scratch on the embedded reviews, with a trajectory of checkpoints from step 0.

A run is a folder with the tokenizer and its training counts, ``log.jsonl``, one ``step<N>`` folder per checkpoint in
the format of ``save_pretrained`` (fp16), and ``state.safetensors``, from which an interrupted run resumes exactly as if
it had not been interrupted.
"""

import hashlib
import json
import shutil
import tempfile
import time
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from numpy import ndarray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from raretok.data.text import load_corpus
from raretok.errors import RaretokError
from raretok.model.checkpoint import read_tokenizer
from raretok.model.load import pick_device
from raretok.shipped.recipes import RECIPES, Recipe, build_model
from raretok.store import replacing

END = "<|endoftext|>"
STATE_EVERY = 100
"""Number of steps between saves of the state, and so the most that an interruption loses."""
HELD_OUT_WINDOWS = 200


def train_tokenizer(recipe: Recipe) -> Any:
    """A byte-level BPE tokenizer of the recipe's training documents; its token 0 ends documents and starts windows."""
    from tokenizers import ByteLevelBPETokenizer
    from transformers import PreTrainedTokenizerFast

    trained = ByteLevelBPETokenizer()
    documents = load_corpus(recipe.corpus).documents
    trained.train_from_iterator(documents, vocab_size=recipe.vocab, special_tokens=[END], show_progress=False)
    return PreTrainedTokenizerFast(
        tokenizer_object=trained._tokenizer, bos_token=END, eos_token=END, model_max_length=recipe.context
    )


def stream(tokenizer: Any, corpus: str) -> Int[ndarray, " token"]:
    """All documents of a corpus as one sequence of token ids, each preceded by the token that ends documents."""
    encoded = tokenizer(list(load_corpus(corpus).documents), add_special_tokens=False, verbose=False)["input_ids"]
    return np.concatenate([np.asarray([0, *ids], dtype=np.int32) for ids in encoded])


def batch_at(ids: Int[ndarray, " token"], recipe: Recipe, seed: int, step: int) -> Int[ndarray, "window position"]:
    """The windows of a step, with one extra token each as the last target.

    Every epoch cuts the text at a new offset and in a new order. The result depends only on the arguments, so that a
    resumed run reads the same windows as an uninterrupted one.
    """
    count = len(ids) // recipe.context - 1
    if count < recipe.batch:
        raise RaretokError(f"the corpus has {len(ids):,} tokens, too few for one batch: use a larger one")
    rows = np.empty((recipe.batch, recipe.context + 1), dtype=np.int64)
    for k in range(recipe.batch):
        epoch, place = divmod(step * recipe.batch + k, count)
        shift, order = _epoch(seed, epoch, count, recipe.context)
        begin = shift + order[place] * recipe.context
        rows[k] = ids[begin : begin + recipe.context + 1]
    return rows


@cache
def _epoch(seed: int, epoch: int, count: int, context: int) -> tuple[int, Int[ndarray, " window"]]:
    rng = np.random.default_rng([seed, epoch])
    return int(rng.integers(context)), rng.permutation(count)


def train(name: str, seed: int, out: Path, device: str = "auto", stop: int | None = None) -> Path:
    """Train a recipe into a folder, or resume a run that is there; returns the last checkpoint's folder.

    Args:
        name: A name in ``RECIPES``.
        seed: Seed of the initial weights and of the order of the text.
        out: Folder of the run.
        device: ``auto``, ``cpu``, ``cuda`` …
        stop: Step after which to stop; the run can be resumed later.

    Raises:
        RaretokError: if the recipe is unknown, the folder holds another run, the state is damaged, or the disk is full.
    """
    if name not in RECIPES:
        raise RaretokError(f"unknown recipe {name!r}: known are {', '.join(RECIPES)}")
    recipe, where = RECIPES[name], pick_device(device)
    identity = hashlib.sha256(f"{recipe.model_dump_json()} {seed}".encode()).hexdigest()[:16]
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)
    try:
        out.mkdir(parents=True, exist_ok=True)
        return _train(recipe, seed, out, where, recipe.steps if stop is None else min(stop, recipe.steps), identity)
    except (OSError, SafetensorError) as error:
        raise RaretokError(
            f"{out} cannot be written ({getattr(error, 'strerror', None) or error}): what is there stays; make room "
            "and run the same command again"
        ) from None
    finally:
        torch.use_deterministic_algorithms(before)


def _train(recipe: Recipe, seed: int, out: Path, device: torch.device, stop: int, identity: str) -> Path:
    from tqdm import tqdm

    tokenizer = _tokenizer(recipe, out)
    text = stream(tokenizer, recipe.corpus)
    held_out = held_out_tokens(tokenizer, recipe).to(device)
    if not (out / "counts.json").is_file():
        counts = np.bincount(text, minlength=recipe.vocab)
        with replacing(out / "counts.json") as draft:
            draft.write_text(json.dumps([int(c) for c in counts]) + "\n")
    model = build_model(recipe, seed).to(device).train()
    optimizer = torch.optim.AdamW(
        model.parameters(), recipe.learning_rate, (0.9, 0.95), weight_decay=recipe.weight_decay
    )
    step = _resume(out / "state.safetensors", identity, recipe.steps, model, optimizer)
    log = _Log(out / "log.jsonl", step)
    tokens = recipe.batch * recipe.context
    with tqdm(total=recipe.steps * tokens, initial=step * tokens, unit="token", unit_scale=True, disable=None) as bar:
        while True:
            if step in recipe.checkpoints:
                if not (out / f"step{step}").is_dir():
                    _checkpoint(model, out / f"step{step}")
                log.add(
                    step=step,
                    tokens=step * tokens,
                    held_out=held_out_loss(model, held_out, recipe.context),
                )
            if step >= stop:
                _save_state(out / "state.safetensors", identity, step, model, optimizer)
                return out / f"step{max(s for s in recipe.checkpoints if s <= step)}"
            if step % STATE_EVERY == 0 and step:
                _save_state(out / "state.safetensors", identity, step, model, optimizer)
            batch = torch.from_numpy(batch_at(text, recipe, seed, step)).to(device)
            started = time.perf_counter()
            loss = _update(model, optimizer, batch, recipe.rate(step))
            step += 1
            if step % 10 == 0:
                log.add(step=step, tokens=step * tokens, loss=float(loss))
                bar.set_postfix(loss=f"{float(loss):.3f}", speed=f"{tokens / (time.perf_counter() - started):.0f}/s")
            bar.update(tokens)


def _update(model: Any, optimizer: torch.optim.Optimizer, batch: Tensor, rate: float) -> Tensor:
    for group in optimizer.param_groups:
        group["lr"] = rate
    with torch.autocast(batch.device.type, torch.bfloat16):
        logits = model(batch[:, :-1]).logits
    loss = torch.nn.functional.cross_entropy(logits.float().flatten(0, 1), batch[:, 1:].flatten())
    if not loss.isfinite():
        raise RaretokError("the loss is not finite: the recipe's learning rate is too high")
    torch.autograd.backward(loss)
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad()
    return loss.detach()


def held_out_tokens(tokenizer: Any, recipe: Recipe) -> Tensor:
    """The start of the recipe's held-out text, int64 [token]: up to 200 windows, and one extra token as last target."""
    ids = torch.from_numpy(stream(tokenizer, recipe.held_out).astype(np.int64))
    windows = min(HELD_OUT_WINDOWS, (len(ids) - 1) // recipe.context)
    return ids[: windows * recipe.context + 1]


@torch.inference_mode()
def held_out_loss(model: Any, ids: Tensor, context: int) -> float:
    """Mean loss in nats per token of a causal language model over ``ids`` [token], in windows of ``context`` tokens."""
    inputs, targets = ids[:-1].reshape(-1, context), ids[1:].reshape(-1, context)
    total = 0.0
    for x, y in zip(torch.split(inputs, 32), torch.split(targets, 32), strict=True):
        total += float(torch.nn.functional.cross_entropy(model(x).logits.flatten(0, 1), y.flatten(), reduction="sum"))
    return total / targets.numel()


def _tokenizer(recipe: Recipe, out: Path) -> Any:
    if not (out / "tokenizer_config.json").is_file():
        with tempfile.TemporaryDirectory(dir=out, prefix=".draft-") as folder:
            train_tokenizer(recipe).save_pretrained(folder)
            for path in sorted(Path(folder).iterdir(), key=lambda p: p.name == "tokenizer_config.json"):
                path.replace(out / path.name)
    return read_tokenizer(out)


def _checkpoint(model: Any, place: Path) -> None:
    """Write a checkpoint next to its final place and rename it, so that it appears atomically."""
    draft = Path(tempfile.mkdtemp(prefix=".draft-", dir=place.parent))
    try:
        half = {k: v.half().cpu().contiguous() for k, v in model.state_dict().items()}
        if model.config.tie_word_embeddings:
            half.pop("lm_head.weight")
        model.config.dtype = torch.float16
        model.config.architectures = [type(model).__name__]
        model.config.save_pretrained(draft)
        save_file(half, draft / "model.safetensors", {"format": "pt"})
        draft.chmod(0o755)
        draft.rename(place)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _save_state(path: Path, identity: str, step: int, model: Any, optimizer: torch.optim.Optimizer) -> None:
    tensors = {}
    for name, parameter in model.named_parameters():
        tensors[f"weight.{name}"] = parameter.detach().cpu()
        for moment in ("exp_avg", "exp_avg_sq"):
            tensors[f"{moment}.{name}"] = optimizer.state[parameter].get(moment, torch.zeros_like(parameter)).cpu()
    with replacing(path) as draft:
        save_file(tensors, draft, {"run": f"{identity} {step}"})


def _resume(path: Path, identity: str, steps: int, model: Any, optimizer: torch.optim.Optimizer) -> int:
    """Load a saved state into a model and its optimizer; returns the step of the state, 0 if there is none."""
    if not path.is_file():
        return 0
    try:
        with safe_open(path, "pt") as saved:
            whose, at = saved.metadata()["run"].split()
            if whose != identity:
                raise RaretokError(
                    f"{path.parent} holds a run of another recipe or seed: give --out another folder, or delete it"
                )
            if not 0 <= (step := int(at)) <= steps:
                raise ValueError(f"it is of step {step}")
            for name, parameter in model.named_parameters():
                parameter.data.copy_(_saved(saved, f"weight.{name}", parameter))
                if step:
                    moments = {m: _saved(saved, f"{m}.{name}", parameter) for m in ("exp_avg", "exp_avg_sq")}
                    optimizer.state[parameter] = {"step": torch.tensor(float(step)), **moments}
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise RaretokError(
            f"{path} is damaged ({error}): delete it, and the run starts again from step 0; its checkpoints stay"
        ) from None
    return step


def _saved(saved: Any, name: str, like: Tensor) -> Tensor:
    tensor = saved.get_tensor(name)
    if (tensor.shape, tensor.dtype) != (like.shape, like.dtype):
        raise ValueError(f"{name} is {tuple(tensor.shape)} {tensor.dtype}, not {tuple(like.shape)} {like.dtype}")
    return tensor.to(like.device)


class _Log:
    """A log with one JSON object per line; entries after the step from which a run resumes are dropped and redone."""

    def __init__(self, path: Path, step: int) -> None:
        self.path = path
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.is_file() else []
        kept = [x for x in map(_parsed, lines) if x is not None and x["step"] < step + (1 if "loss" in x else 0)]
        with replacing(path) as draft:
            draft.write_text("".join(json.dumps(x) + "\n" for x in kept))

    def add(self, **values: int | float) -> None:
        with self.path.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(values) + "\n")


def _parsed(line: str) -> dict[str, int | float] | None:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None  # an interruption truncated this line
    whole = isinstance(record, dict) and all(type(value) in (int, float) for value in record.values())
    return record if whole and type(record.get("step")) is int else None
