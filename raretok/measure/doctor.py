"""What a study would measure, and what it lacks, before an hour is spent on it."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch

from raretok.ablation.kernels import has_bf16
from raretok.ablation.tiles import EXPONENTIALS
from raretok.data.text import Windows
from raretok.errors import NotApplicable, RaretokError
from raretok.measure.cost import fit, read_points
from raretok.measure.inputs import Inputs
from raretok.model.loaded import LoadedModel
from raretok.model.tokens import is_word_start

RARE_SHARE = 0.09
"""Approximate share of the positions of a text that are ablated as rare targets or their controls."""
PRODUCT = 2048
"""Rows and columns of the matrices by which the machine's rate is measured."""


@dataclass(frozen=True)
class Finding:
    """What was looked at, what was found, and what is wrong with it, if anything."""

    what: str
    found: str
    wrong: str = ""


def examine(inputs: Inputs, first_token: Callable[[], Any]) -> Iterator[Finding]:
    """Yield what a study would measure, part by part; a part that fails does not keep others from being looked at.

    ``first_token`` returns the table of the loss with and without a first token, ``checks.first_token``.
    """
    parts: tuple[tuple[str, Callable[[], str]], ...] = (
        ("model", lambda: _model(inputs.model)),
        ("readout", lambda: _readout(inputs.model)),
        ("tokenizer", lambda: _tokenizer(inputs)),
        ("text", lambda: _text(inputs)),
        ("windows", lambda: _windows(inputs)),
        ("first token", lambda: _first_token(inputs, first_token())),
        ("frequencies", lambda: inputs.frequency.source),
        ("checkpoints", lambda: _checkpoints(inputs)),
        ("cost", lambda: _cost(inputs)),
    )
    seen: set[str] = set()
    for what, look in parts:
        try:
            yield Finding(what, look())
        except NotApplicable as error:
            yield Finding(what, f"none: {error}")
        except RaretokError as error:
            # What several parts need is told once.
            if (wrong := str(error)) not in seen:
                yield Finding(what, "", wrong)
            seen.add(wrong)


def _model(model: LoadedModel) -> str:
    parameters, layers, d_model, neurons, vocab = model.sizes
    blocks = "parallel" if model.parallel else "serial"
    return (
        f"{type(model.network).__name__} on {model.hardware}: {parameters / 1e6:,.1f} M parameters, {layers} {blocks} "
        f"layers, d_model {d_model}, {neurons} neurons in the last MLP, {vocab} token types"
    )


def _readout(model: LoadedModel) -> str:
    readout = model.readout
    form = "RMSNorm" if not readout.centred else "LayerNorm"
    form += ", a norm after the MLP" if readout.after else ""
    form += f", soft cap of {readout.cap:g}: every pair takes exponentials" if readout.cap else ""
    return f"{form}; its logits equal the model's to {model.readout_error:.1e} of their spread"


def _tokenizer(inputs: Inputs) -> str:
    tokenizer, model = inputs.tokenizer, inputs.model
    starts = int(is_word_start(tokenizer, len(tokenizer)).sum())
    marks = (
        f"{starts} begin a word" if starts else "none is marked as beginning a word, which controls cannot match then"
    )
    return f"{type(tokenizer).__name__}, {len(tokenizer)} types of which {marks}; the model reads {model.embedded}"


def _text(inputs: Inputs) -> str:
    corpus, tokens = inputs.text.corpus, inputs.text.tokens
    return f"{corpus.description}: {len(corpus.documents):,} documents, {len(tokens.ids):,} tokens"


def _windows(inputs: Inputs) -> str:
    windows: Windows = inputs.windows
    count, length = windows.tokens.shape
    if inputs.model.context is not None and length > inputs.model.context:
        raise RaretokError(f"windows of {length} tokens do not fit the model's context of {inputs.model.context}")
    return f"{count} of {length} tokens, from {windows.count} documents"


def _first_token(inputs: Inputs, loss: Any) -> str:
    row = loss.iloc[0]
    name = inputs.tokenizer.convert_ids_to_tokens(int(row["first"]))
    found = f"{name!r} is {'' if row['used'] else 'not '}used: a mean loss of {row['with_it']:.2f} nats with it and "
    found += f"{row['without_it']:.2f} without"
    if row["other_is_better"]:
        raise RaretokError(f"{found}: try --bos {'no' if row['used'] else 'yes'}")
    return found


def _checkpoints(inputs: Inputs) -> str:
    return f"{len(inputs.steps)} on this machine, from step {inputs.steps[0]:,} to {inputs.steps[-1]:,}"


def _cost(inputs: Inputs) -> str:
    names = ("parameters", "layers", "d_model", "neurons", "vocab")
    sizes = dict(zip(names, inputs.model.sizes, strict=True))
    tokens = inputs.windows.tokens.size
    sizes |= {"tokens": tokens, "positions": min(tokens, int(RARE_SHARE * tokens) + inputs.settings.sample)}
    model, device = fit(read_points()), inputs.model.device
    # Where every pair takes exponentials, the ablations are as much dearer.
    dear = {"positions": sizes["positions"] * (1 if inputs.model.readout.cap is None else EXPONENTIALS)}
    seconds = model.seconds(sizes | dear, _rate(device))
    mebibytes = model.mebibytes(sizes, has_bf16(device.type))
    return (
        f"about {max(1, round(seconds / 60))} min and {mebibytes / 1024:.1f} GiB for the effects of all neurons; what "
        "else the claims need comes on top"
    )


def _rate(device: torch.device) -> float:
    """Rate of this machine's float32 matrix products, in 10⁹ operations a second."""
    x = torch.ones(PRODUCT, PRODUCT, device=device)
    best = float("inf")
    for _ in range(4):
        started = time.perf_counter()
        float((x @ x)[0, 0])
        best = min(best, time.perf_counter() - started)
    return 2 * PRODUCT**3 / best / 1e9
