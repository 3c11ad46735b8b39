"""Loading of a model by name, with its tokenizer, readout and identity.

Nothing is downloaded, except by ``fetch_model``.
"""

import copy
import hashlib
import sys
import warnings
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from raretok.code import digest_of
from raretok.data import packages as embedded
from raretok.errors import RaretokError
from raretok.model import hub
from raretok.model.architecture import find, layout_of, mlp_inputs
from raretok.model.checkpoint import NONSENSE, read_settings, read_tokenizer, read_weights, told
from raretok.model.loaded import LoadedModel
from raretok.model.probes import blocks_are_parallel, self_check
from raretok.model.readout import extract_readout, read_norm
from raretok.model.registry import ADAPTED, ADAPTER, ModelEntry, base_of, counts_of, find_model, steps_in
from raretok.store import Store

TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model")
"""Names of the files that hold a tokenizer's vocabulary, one for each kind of tokenizer."""


def pick_device(device: str) -> torch.device:
    """The device of a given name; ``auto`` selects CUDA if available, and otherwise the CPU (MPS has no float64).

    Raises:
        RaretokError: if there is no such device.
    """
    name = device.lower().replace("gpu", "cuda")
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=name)
    except (AssertionError, RuntimeError, NotImplementedError) as error:
        reason = str(error).partition("\n")[0]
        raise RaretokError(f"there is no device {device} here ({reason}): use auto, cpu or cuda") from None
    return torch.device(name)


def _source(entry: ModelEntry, step: int | None, store: Store | None) -> Path:
    """The folder from which ``from_pretrained`` loads the model."""
    if entry.kind in ("embedded", "gguf"):
        inputs = {"sha256": model_digest(entry, step), "code": digest_of(unpack)}
        return (store or Store()).entry("model", inputs, partial(unpack, entry), {"model": entry.name})
    if entry.kind == "adapter":
        inputs = {"digest": model_digest(entry, step), "code": digest_of(merge)}
        return (store or Store()).entry("merged", inputs, partial(merge, entry, store), {"model": entry.name})
    if entry.kind == "hub":
        return hub.snapshot(entry, step)
    return Path(entry.source) / (entry.revision(step) if entry.local_run else "")


def unpack(entry: ModelEntry, folder: Path) -> None:
    """Write a GGUF model in the common format, once, because reading its own format takes half a minute."""
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()
    print(f"unpacking {entry.name} (once, about half a minute)", file=sys.stderr)
    [path, *rest] = [Path(entry.source)] if entry.kind == "gguf" else _embedded_files(entry)
    whole = folder / "whole.gguf"
    if rest:
        with whole.open("wb") as stream:
            for part in (path, *rest):
                stream.write(part.read_bytes())
        path = whole
    here, name = path.parent, path.name
    try:
        AutoTokenizer.from_pretrained(here, gguf_file=name, local_files_only=True).save_pretrained(folder)
        read = AutoModelForCausalLM.from_pretrained(here, gguf_file=name, local_files_only=True, dtype=torch.float32)
    except NONSENSE as error:
        raise RaretokError(f"{name} is not a GGUF model that transformers can read ({told(error)})") from None
    if hasattr(read.config, "quantization_config"):  # A model marked as quantised cannot be saved.
        del read.config.quantization_config
    model = AutoModelForCausalLM.from_config(read.config, dtype=torch.float32)
    model.load_state_dict(read.state_dict())
    model.save_pretrained(folder)
    whole.unlink(missing_ok=True)


def merge(entry: ModelEntry, store: Store | None, folder: Path) -> None:
    """Write the base model of an adapter with the adapter merged into its weights, in the common format.

    Raises:
        RaretokError: if the base model is not on this machine, or the adapter does not fit it.
    """
    from peft import PeftModel

    base, own = _source(base_of(entry), None, store), Path(entry.source).resolve()
    print(f"merging {entry.name} into {base_of(entry).name} (once)", file=sys.stderr)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.filterwarnings("error", message="Found missing adapter keys")
            network = read_weights(base, read_settings(base))
            merged = PeftModel.from_pretrained(network, own, local_files_only=True).merge_and_unload()
    except (*NONSENSE, SafetensorError, UserWarning) as error:
        raise RaretokError(f"{own} cannot be merged into {base_of(entry).name} ({told(error)})") from None
    merged.save_pretrained(folder)
    read_tokenizer(own if _has_tokenizer(own) else _tokenizer_folder(base)).save_pretrained(folder)


def _embedded_files(entry: ModelEntry) -> list[Path]:
    """The file of an embedded model, or its pieces in order."""
    assert entry.package
    assert entry.sha256
    if entry.parts:
        paths = [
            p for part in entry.parts for p in embedded.files(part, f"{part.distribution.replace('-', '_')}/data/")
        ]
    else:
        paths = embedded.files(entry.package, entry.source)
    embedded.checked(paths, entry.sha256, entry.name)
    return paths


def model_digest(entry: ModelEntry, step: int | None, model: Any = None) -> str:
    """A string that identifies the weights.

    It is the digest of the files, the digest of the settings and tensors of a ``model`` in memory, or the commit of a
    hub revision on this machine.

    Raises:
        RaretokError: if the model has no such step, or is not on this machine; the message says how to get it.
    """
    if model is not None:
        digest = hashlib.sha256(model.config.to_json_string().encode())
        for name, tensor in sorted(model.state_dict().items()):
            digest.update(
                name.encode() + tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()
            )
        return digest.hexdigest()
    revision = entry.revision(step)
    if entry.kind == "embedded":
        _embedded_files(entry)
        return str(entry.sha256)
    if entry.kind == "gguf":
        return embedded.digest_files((Path(entry.source),))
    if entry.kind == "adapter":
        own = Path(entry.source)
        if not (own / ADAPTED).is_file():
            raise RaretokError(f"{own} has no {ADAPTED}: write the adapter again with save_pretrained")
        kept = (ADAPTER, ADAPTED, *TOKENIZERS, "tokenizer_config.json", "merges.txt", "special_tokens_map.json")
        paths = [own / name for name in kept if (own / name).is_file()]
        whole = embedded.digest_files(tuple(paths)) + model_digest(base_of(entry), None)
        return hashlib.sha256(whole.encode()).hexdigest()
    if entry.local_run or entry.kind == "path":
        folder = Path(entry.source) / (revision if entry.local_run else "")
        if not folder.is_dir():
            raise RaretokError(
                f"{entry.name} is not in {folder.parent}: it comes with the book's repository, clone that"
            )
        kinds = (".safetensors", ".json", ".model", ".txt")
        paths = sorted(p for place in {folder, _tokenizer_folder(folder)} for p in place.iterdir() if p.suffix in kinds)
        # The folder of a run's tokenizer also holds the training state, which is not part of a checkpoint's weights.
        paths = [p for p in paths if p.suffix != ".safetensors" or p.parent == folder]
        if not any(p.suffix == ".safetensors" for p in paths):
            raise RaretokError(f"{folder} has no .safetensors weights: write it again with save_pretrained")
        return hashlib.sha256("".join(embedded.digest_files((p.resolve(),)) for p in paths).encode()).hexdigest()
    return f"{entry.source}@{hub.snapshot(entry, step).name}"


def load_tokenizer(name: str, step: int | None = None, store: Store | None = None) -> Any:
    """The model's own tokenizer.

    ``store`` is where a model that comes in a package is unpacked; it defaults to the default store.
    """
    entry = find_model(name)
    where = _tokenizer_folder(_source(entry, step, store))
    if not _has_tokenizer(where):  # settings alone would give one without a vocabulary
        if entry.kind == "hub":
            raise hub.missing(entry, step, FileNotFoundError())
        raise RaretokError(f"{where} has no tokenizer ({', '.join(TOKENIZERS)}): write it there with save_pretrained")
    return read_tokenizer(where)


def _tokenizer_folder(folder: Path) -> Path:
    """The folder with the tokenizer: ``folder`` itself, and for a checkpoint of a run its folder or that above."""
    run = folder.resolve().parent
    shared = (run, run.parent) if steps_in(run) and counts_of(run) else ()
    return next((place for place in (folder, *shared) if _has_tokenizer(place)), folder)


def _has_tokenizer(folder: Path) -> bool:
    return any((folder / name).is_file() for name in TOKENIZERS)


def bos_id(tokenizer: Any, entry: ModelEntry, choice: str = "auto") -> int | None:
    """Id of the token that starts a window, or None if none does.

    With ``auto`` it is the one that the registry names or the tokenizer itself puts before a text; where that puts
    none, the one that also ends a document (GPT-2, Pythia), because every document of the training text follows one.

    Raises:
        RaretokError: if ``choice`` is ``yes`` and the tokenizer has no such token.
    """
    if choice == "no":
        return None
    own = int(tokenizer.convert_tokens_to_ids(entry.bos)) if entry.bos else _put_before(tokenizer)
    first = tokenizer.bos_token_id
    if own is None and (choice == "yes" or first == tokenizer.eos_token_id):
        own = first
    if own is None and choice == "yes":
        raise RaretokError(f"the tokenizer of {entry.name} has no token that starts a text: leave --bos out")
    return own


def _put_before(tokenizer: Any) -> int | None:
    """The special token that a tokenizer puts before a text by itself."""
    with_special, plain = (list(tokenizer("a", add_special_tokens=x)["input_ids"]) for x in (True, False))
    return int(with_special[0]) if len(with_special) > len(plain) and with_special[0] != plain[0] else None


def load_model(
    name: str,
    step: int | None = None,
    device: str = "auto",
    dtype: torch.dtype = torch.float32,
    store: Store | None = None,
) -> LoadedModel:
    """Load a model that is on this machine, and check its readout against the model's own logits.

    Args:
        name: A known name, a directory or a hub id, see ``raretok models``.
        step: Training step, for models with checkpoints.
        device: ``auto``, ``cpu``, ``cuda`` …
        dtype: float32 for studies, float64 for reference numbers.
        store: Where a model that comes in a package is unpacked; by default the default store.

    Raises:
        RaretokError: if the model is unknown, missing, damaged or unsupported.
    """
    from transformers.utils import logging

    entry = find_model(name)
    logging.disable_progress_bar()
    tokenizer = load_tokenizer(name, step, store)
    where = _source(entry, step, store)
    if entry.kind == "hub" and not hub.here(entry, step):
        raise hub.missing(entry, step, FileNotFoundError())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = read_weights(where, read_settings(where))
    return _wrap(entry, model, tokenizer, device, dtype)


def wrap_model(entry: ModelEntry, model: Any, tokenizer: Any, device: str = "auto") -> LoadedModel:
    """Prepare a causal language model in memory for measurement.

    The model is copied to float32, so that the caller's model is not modified.

    Raises:
        RaretokError: if the architecture is not supported.
    """
    return _wrap(entry, copy.deepcopy(model), tokenizer, device, torch.float32)


def _wrap(entry: ModelEntry, network: Any, tokenizer: Any, device: str, dtype: torch.dtype) -> LoadedModel:
    network = network.to(device=pick_device(device), dtype=dtype).eval().requires_grad_(False)
    if dtype == torch.float64:
        _keep_float64(network)
    readout, layout = extract_readout(network), layout_of(network)
    assert layout
    inputs = mlp_inputs(find(network, layout.blocks)[-1], layout)
    loaded = LoadedModel(entry, network, layout, tokenizer, readout, 0.0, inputs, False)
    return replace(loaded, readout_error=self_check(loaded), parallel=blocks_are_parallel(loaded))


def _keep_float64(model: torch.nn.Module) -> None:
    """Make every norm compute in its input's dtype: most norms of transformers always compute in float32."""
    where = next(model.parameters()).device
    for module in model.modules():
        if "Norm" in type(module).__name__ and type(module) is not torch.nn.LayerNorm:
            weight = getattr(module, "weight", None)
            width = getattr(module, "normalized_shape", None) if weight is None else weight.shape
            if width is not None and (
                norm := read_norm(module, torch.zeros(1, *width, dtype=torch.float64, device=where))
            ):
                module.forward = norm.normed


def is_here(entry: ModelEntry) -> bool:
    """Whether a model is on this machine; for a hub model, whether its main revision is."""
    try:
        model_digest(entry, None)
    except RaretokError:
        return False
    return True


def fetch_model(name: str, step: int | None = None, accept_terms: bool = False) -> str:
    """Download a hub model's weights and tokenizer, or install an embedded model; returns its location.

    Raises:
        RaretokError: if the model has terms of use that are not accepted yet; the message says where to read them.
    """
    entry = find_model(name)
    if entry.kind == "embedded":
        assert entry.package
        embedded.install((entry.package,))
        if entry.parts and not accept_terms:
            terms = [
                p for p in embedded.files(entry.package) if p.suffix in (".html", ".md") and "TERMS" in p.name.upper()
            ]
            raise RaretokError(
                f"{entry.name} has terms of use ({entry.licence}): read {', '.join(map(str, terms))}, and run `raretok "
                f"fetch {entry.name} --accept-terms` if you accept them"
            )
        embedded.install(entry.parts)
        return entry.source
    if entry.local_run or entry.kind in ("path", "adapter", "gguf"):
        return entry.source
    return str(hub.fetch(entry, step))
