"""Tiny models of the three architectures with a tokenizer of their own, and a small corpus, made once a session."""

import os

os.environ["HF_HUB_OFFLINE"] = "1"

import functools
import http.server
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from hypothesis import HealthCheck, settings
from playwright.sync_api import sync_playwright
from tokenizers import ByteLevelBPETokenizer
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    GPT2Config,
    GPT2LMHeadModel,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

from raretok.ablation import replaced_by
from raretok.data.text import Windows
from raretok.model.forward import run_trace
from raretok.model.load import load_model

# How many inputs each reader of outside files gets: some in the tests, a hundred thousand in `make fuzz`.
settings.register_profile(
    "quick", max_examples=40, deadline=None, database=None, suppress_health_check=list(HealthCheck)
)
settings.register_profile("fuzz", settings.get_profile("quick"), max_examples=int(os.environ.get("FUZZ", 100_000)))

ROOT = Path(__file__).parents[1]
HTML = ROOT / "_build" / "html"
TOC = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
PAGES = [TOC["root"], *(c["file"] for part in TOC["parts"] for c in part["chapters"])]
ARCHITECTURES = ("gpt2", "gpt_neox", "llama")
FORMS = (*ARCHITECTURES, "gemma3")
"""Forms of the last layers that the certified pass knows: the last has a norm after the MLP."""
EXACT_FORMS = (*FORMS, "gemma2")
"""With the one that is computed exactly alone, because its logits have a soft cap."""
VOCAB = 400


LONGEST = ("sweep/test_workflow", "hub/test_protocol", "sweep/test_slurm", "shipped/", "book/test_", "cli/test_cli")
"""Parts of the names of files whose tests take longest, the longest first."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first, so that all processes end together."""
    items.sort(key=lambda item: next((k for k, name in enumerate(LONGEST) if name in item.nodeid), len(LONGEST)))


def make_documents(count: int, seed: int = 0) -> list[str]:
    """Documents with a Zipfian vocabulary of made-up words."""
    rng = np.random.default_rng(seed)
    words = ["".join(rng.choice(list("abcdefghijklmnop"), rng.integers(2, 8))) for _ in range(600)]
    weights = 1 / np.arange(1, len(words) + 1)
    return [" ".join(rng.choice(words, 120, p=weights / weights.sum())) + "." for _ in range(count)]


def make_model(architecture: str) -> torch.nn.Module:
    """A random model whose norms and biases are not the identity, so that every term of the readout is tested."""
    torch.manual_seed(0)
    common = {"vocab_size": VOCAB, "bos_token_id": 0, "eos_token_id": 0}
    gemma = {"num_hidden_layers": 2, "hidden_size": 32, "num_attention_heads": 2, "num_key_value_heads": 1}
    gemma |= {"head_dim": 16, "intermediate_size": 80, "max_position_embeddings": 64, "pad_token_id": 0}
    model = {
        "gpt2": lambda: GPT2LMHeadModel(GPT2Config(n_layer=2, n_embd=32, n_head=2, n_positions=64, **common)),
        "gpt_neox": lambda: GPTNeoXForCausalLM(
            GPTNeoXConfig(
                num_hidden_layers=2,
                hidden_size=32,
                num_attention_heads=2,
                intermediate_size=96,
                max_position_embeddings=64,
                **common,
            )
        ),
        "llama": lambda: LlamaForCausalLM(
            LlamaConfig(
                num_hidden_layers=2,
                hidden_size=32,
                num_attention_heads=2,
                num_key_value_heads=1,
                intermediate_size=80,
                max_position_embeddings=64,
                tie_word_embeddings=True,
                **common,
            )
        ),
        "gemma3": lambda: Gemma3ForCausalLM(Gemma3TextConfig(**gemma, **common)),
        "gemma2": lambda: Gemma2ForCausalLM(Gemma2Config(**gemma, final_logit_softcapping=3.0, **common)),
    }[architecture]()
    for name, parameter in model.named_parameters():
        if parameter.ndim == 1:
            torch.nn.init.normal_(parameter, 0.0 if name.endswith("bias") else 1.0, 0.3)
        else:
            torch.nn.init.normal_(parameter, 0.0, 0.3)
    return model.eval()


@pytest.fixture(scope="session")
def documents() -> list[str]:
    return make_documents(200)


@pytest.fixture(scope="session")
def corpus_file(tmp_path_factory: pytest.TempPathFactory, documents: list[str]) -> Path:
    path = tmp_path_factory.mktemp("corpus") / "documents.csv"
    path.write_text("text\n" + "\n".join(documents) + "\n", encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory, documents: list[str]) -> dict[str, Path]:
    """Directories written by ``save_pretrained``, by architecture."""
    trained = ByteLevelBPETokenizer()
    trained.train_from_iterator(documents, vocab_size=VOCAB, special_tokens=["<|endoftext|>"], show_progress=False)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=trained._tokenizer, bos_token="<|endoftext|>", eos_token="<|endoftext|>"
    )
    root = tmp_path_factory.mktemp("models")
    for architecture in EXACT_FORMS:
        make_model(architecture).save_pretrained(root / architecture)
        tokenizer.save_pretrained(root / architecture)
    return {a: root / a for a in EXACT_FORMS}


@pytest.fixture(autouse=True)
def own_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every test has a results folder of its own."""
    monkeypatch.setenv("RARETOK_STORE", str(tmp_path / "store"))
    return tmp_path / "store"


def windows_of(count: int, length: int = 24, seed: int = 0) -> Windows:
    """Windows of random tokens, two to a document."""
    tokens = np.random.default_rng(seed).integers(0, 300, (count, length)).astype(np.int32)
    return Windows(tokens, np.arange(count) // 2, np.arange(count) % 2)


@pytest.fixture
def traced(models: dict[str, Path]) -> Callable[..., Any]:
    """A function: architecture, dtype, number of windows → model, windows, trace and the mean activations."""

    def trace_of(architecture: str, dtype: torch.dtype = torch.float32, count: int = 3) -> Any:
        model = load_model(str(models[architecture]), device="cpu", dtype=dtype)
        windows = windows_of(count)
        trace = run_trace(model, windows)
        return model, windows, trace, replaced_by(trace.activation, "mean", 0)

    return trace_of


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Serves files and says nothing."""

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture(scope="module")
def address():
    """Of the built book, behind a server of its own."""
    if not (HTML / "index.html").is_file():
        pytest.fail("the book is not built: run `make book`")
    handler = functools.partial(Quiet, directory=str(HTML))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


@pytest.fixture(scope="module")
def browser():
    """A Chromium without any network of its own."""
    path = shutil.which("chromium") or shutil.which("google-chrome")
    if path is None:
        pytest.fail("no Chromium: install Debian's package chromium")
    flags = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=flags)
        yield browser
        browser.close()
