"""Validation of a checkpoint's folder, which must hold the settings of a model, a tokenizer, and complete weights.

``transformers`` validates little: invalid settings raise whatever error occurs first, and weights that a file lacks are
initialised at random. Nothing here runs code that comes with a checkpoint or reads pickled weights.
"""

from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError, safe_open

from raretok.errors import RaretokError

NONSENSE = (
    *(ArithmeticError, AssertionError, AttributeError, ImportError, LookupError, OSError),
    *(RuntimeError, TypeError, ValueError, StrictDataclassError),
)
"""Exceptions that ``transformers`` raises for invalid settings."""
AGAIN = "fetch it again, or write it again with save_pretrained"


def read_settings(folder: Path) -> Any:
    """The settings in ``config.json`` as ``transformers`` reads them, checked against the tensor names of the weights.

    Raises:
        RaretokError: if these are not the settings of a model, or the safetensors weights are missing or damaged.
    """
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except NONSENSE as error:
        raise RaretokError(f"config.json in {folder} is not that of a model ({told(error)}): {AGAIN}") from None
    layers, tensors = getattr(config, "num_hidden_layers", 1), len(tensor_names(folder))
    # Layers are built before their weights are loaded, so a wrong number of layers could take hours to build.
    if not isinstance(layers, int) or not 1 <= layers <= tensors:
        raise RaretokError(
            f"config.json in {folder} says {layers!r} layers, but the weights are {tensors} tensors: {AGAIN}"
        )
    return config


def tensor_names(folder: Path) -> set[str]:
    """Names of all tensors in a folder's ``.safetensors`` files.

    Raises:
        RaretokError: if there is no such file, or one is damaged.
    """
    names: set[str] = set()
    paths = sorted(folder.glob("*.safetensors"))
    if not paths:
        raise RaretokError(f"{folder} has no .safetensors weights: {AGAIN}")
    for path in paths:
        try:
            with safe_open(path, "pt") as weights:
                names |= set(weights.keys())
        except (SafetensorError, OSError) as error:
            raise RaretokError(f"{path.name} in {folder} is damaged ({told(error)}): {AGAIN}") from None
    return names


PROBES = (
    "The film's 2nd half isn't half-bad: 12,345.67 people (and I) laughed … a lot!",
    "  Two  spaces,\ttabs\n\nand\r\nlines; naïve cafés — “quoted”. ALLCAPS mixedCase snake_case",
    "def f(x):\n    return x**2 != 3\n日本語, русский язык, עברית 😀 ½ ﬁ",
)
"""Texts by which two tokenizers are told apart."""


def read_tokenizer(folder: Path) -> Any:
    """The tokenizer of a folder, which splits text as its own ``tokenizer.json`` says.

    ``transformers`` replaces parts of that file when ``tokenizer_config.json`` is missing or names another class.

    Raises:
        RaretokError: if its files are damaged, or it requires custom code.
    """
    from tokenizers import Tokenizer
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    file = folder / "tokenizer.json"
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        if not file.is_file():
            return tokenizer
        own = Tokenizer.from_file(str(file))
        own.no_truncation()
        own.no_padding()
        if _ids(tokenizer) == [own.encode(text, add_special_tokens=False).ids for text in PROBES]:
            return tokenizer
        known = {k: v for k, v in tokenizer.special_tokens_map.items() if own.token_to_id(str(v)) is not None}
        return PreTrainedTokenizerFast(tokenizer_object=own, **known)
    except Exception as error:  # the tokenizers library raises no narrower class
        raise RaretokError(f"the tokenizer in {folder} cannot be read ({told(error)}): {AGAIN}") from None


def _ids(tokenizer: Any) -> list[list[int]]:
    return [list(tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]) for text in PROBES]


def read_weights(folder: Path, config: Any) -> Any:
    """The causal language model of a folder, in float32 on the CPU.

    Raises:
        RaretokError: if there is no such model, or its weights are incomplete.
    """
    from transformers import AutoModelForCausalLM

    try:
        model, info = AutoModelForCausalLM.from_pretrained(
            folder,
            config=config,
            local_files_only=True,
            dtype=torch.float32,
            trust_remote_code=False,
            use_safetensors=True,
            output_loading_info=True,
        )
    except (SafetensorError, *NONSENSE) as error:
        raise RaretokError(
            f"{folder} could not be loaded as a causal language model ({told(error)}): give another, or {AGAIN}"
        ) from None
    if missing := sorted(info["missing_keys"]):
        raise RaretokError(f"the weights in {folder} lack {len(missing)} tensors, such as {missing[0]}: {AGAIN}")
    return model


def told(error: Exception) -> str:
    """The message of an error as one line of at most 300 characters, or the error's class if the message is empty."""
    return (" ".join(str(error).split()) or type(error).__name__)[:300]
