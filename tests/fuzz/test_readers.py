"""Readers of outside files, given damaged and invented ones: a sane value or our own error that names the file,
nothing else.
"""

import gzip
import json
import random
import struct
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save

from raretok import RaretokError
from raretok.data.frequency import load_counts
from raretok.data.text import load_corpus
from raretok.model.checkpoint import read_settings, tensor_names
from raretok.model.hub import whole
from raretok.repository import ROOT
from raretok.shipped.training import _Log, _resume
from raretok.store import Store
from raretok.sweep.jobs import noted
from raretok.sweep.spec import load_sweep

MANY = settings.get_current_profile_name() == "fuzz"
examples = settings(settings.get_profile("fuzz" if MANY else "quick"))

# Bytes that break things more often than random ones do.
PIECES = [
    b"{",
    b"}",
    b"[",
    b"]",
    b'"',
    b",",
    b":",
    b"\n",
    b"\x00",
    b"\xff",
    b"\xef\xbb\xbf",
    b"null",
    b"true",
    b"NaN",
    b"-1",
    b"1e999",
]
PIECES += [
    b"9" * 25,
    b"[" * 40,
    b"\\ud800",
    b"!!python/object:os.system",
    b"&a [*a]",
    b"- - -",
    b"\xed\xa0\x80",
    b"2001-99-99",
    b"0x",
]
seeds = st.integers(0, 2**64 - 1)
"""One draw an input, and the accidents by a generator of its own: many times as many inputs in the same time."""
LEAVES = [
    None,
    True,
    False,
    0,
    -1,
    3,
    2**70,
    0.5,
    -1e308,
    float("nan"),
    float("inf"),
    "",
    "a",
    "x" * 300,
    "\ud800",
    "é",
]


def damaged(*good: bytes) -> st.SearchStrategy[bytes]:
    """One of some good files after up to five accidents; now and then no file at all but bytes."""

    def content(seed: int) -> bytes:
        rng = random.Random(seed)
        if rng.random() < 0.1:
            return rng.randbytes(rng.randrange(80))
        found = rng.choice(good)
        for _ in range(rng.randrange(6)):
            at, length = rng.randrange(len(found) + 1), rng.choice((1, 1, 2, 8, 40, 200))
            what = rng.choice(PIECES) if rng.random() < 0.6 else rng.randbytes(rng.randrange(1, 7))
            kept = {"cut": at + length, "put": at, "over": at + len(what), "twice": at, "end": len(found)}
            kind = rng.choice(list(kept))
            between = found[at : at + length] if kind == "twice" else b"" if kind in ("cut", "end") else what
            found = found[:at] + between + found[kept[kind] :]
        return found

    return seeds.map(content)


def altered(good: dict) -> st.SearchStrategy[bytes]:
    """A good JSON object with some values replaced, left out or added."""

    def value(rng: random.Random, depth: int = 0) -> object:
        kind = rng.random() if depth < 3 else 1.0
        if kind < 0.15:
            return [value(rng, depth + 1) for _ in range(rng.randrange(4))]
        if kind < 0.3:
            return {rng.choice(("a", "", "x" * 40, *good)): value(rng, depth + 1) for _ in range(rng.randrange(4))}
        return rng.choice(LEAVES) if rng.random() < 0.8 else rng.randrange(-(2**40), 2**40)

    def content(seed: int) -> bytes:
        rng, found = random.Random(seed), dict(good)
        for _ in range(rng.randrange(1, 4)):
            name = rng.choice((*good, "other"))
            if rng.random() < 0.3:
                found.pop(name, None)
            else:
                found[name] = value(rng)
        return json.dumps(found).encode()

    return seeds.map(content)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("fuzz")


def read(reader, path: Path, content: bytes):
    """What the reader makes of the content: a value, or None for an error of ours, which must name the file or its
    folder.
    """
    path.write_bytes(content)
    try:
        return reader(path)
    except RaretokError as error:
        told = str(error)
    assert path.name in told or str(path.parent) in told, told
    return None


@examples
@given(damaged(b"[3, 0, 5, 7]", b'{"counts": [1, 2]}', b"[1.0, 2, 3e2, 4]"))
def test_counts_in_json(folder, content):
    found = read(lambda p: load_counts(p, 4), folder / "counts.json", content)
    assert found is None or (len(found.counts) == 4 and found.counts.sum() > 0 and found.counts.min() >= 0)


def _npy(array: np.ndarray, folder: Path) -> bytes:
    np.save(folder / "a.npy", array)
    return (folder / "a.npy").read_bytes()


def test_counts_in_numpy(folder):
    good = [_npy(np.arange(4), folder), _npy(np.ones(4), folder), _npy(np.arange(4, dtype="i1"), folder)]

    @examples
    @given(damaged(*good))
    def run(content):
        found = read(lambda p: load_counts(p, 4), folder / "counts.npy", content)
        assert found is None or (len(found.counts) == 4 and found.counts.sum() > 0 and found.counts.min() >= 0)

    run()


SWEEP = b"""chapters: [regimes]
ahead: 2
studies:
  - model: reviews-neox
    steps: [0, 512]
    corpus: movie-reviews-heldout
  - {model: smollm2-135m, windows: 64}
"""


@examples
@given(damaged(SWEEP, b"studies: [{model: smollm2-135m}]\n", (ROOT / "sweep.yml").read_bytes()[:900]))
def test_sweeps(folder, content):
    found = read(load_sweep, folder / "sweep.yml", content)
    assert found is None or found.jobs()


def test_corpora(folder):
    pd.DataFrame({"text": ["one <script>", "two"], "n": [1, 2]}).to_parquet(folder / "a.parquet")
    good = {
        ".txt": [b"One paragraph.\n\nAnother one.\n", "Zwölf – 語\n".encode()],
        ".csv": [b'text,n\n"a, b",1\nc,2\n', b'n,text\n1,"x""y"\n', b"\xef\xbb\xbftext\nabc\n"],
        ".jsonl": [b'{"text": "a"}\n{"text": "b", "n": [1]}\n', b'{"text": "\\u00e9"}\n'],
        ".parquet": [(folder / "a.parquet").read_bytes()],
        ".tsv": [b"text\tn\na\t1\n"],
        ".json": [b'["a", {"text": "b"}]', b'[{"text": ["a", "b"]}]'],
        ".jsonl.gz": [gzip.compress(b'{"text": "a"}\n')],
        ".md": ["\ufeffa\n\nb".encode("utf-16"), b"a<|endoftext|>b"],
    }

    @examples
    @given(st.sampled_from(sorted(good)).flatmap(lambda kind: st.tuples(st.just(kind), damaged(*good[kind]))))
    def run(drawn):
        kind, content = drawn
        found = read(lambda p: load_corpus(str(p)), folder / f"corpus{kind}", content)
        assert found is None or (found.documents and all(isinstance(d, str) and d.strip() for d in found.documents))

    run()


NEOX = {
    "model_type": "gpt_neox",
    "architectures": ["GPTNeoXForCausalLM"],
    "hidden_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "vocab_size": 20,
    "max_position_embeddings": 32,
    "rope_parameters": {"rope_theta": 10000.0, "rope_type": "default"},
}


@examples
@given(st.one_of(damaged(json.dumps(NEOX).encode()), altered(NEOX)))
def test_settings_of_a_checkpoint(folder, content):
    place = folder / "checkpoint"
    place.mkdir(exist_ok=True)
    if not (place / "model.safetensors").is_file():
        (place / "model.safetensors").write_bytes(save({"a": torch.zeros(2), "b": torch.ones(3)}))
    found = read(lambda p: read_settings(p.parent), place / "config.json", content)
    assert found is None or 1 <= getattr(found, "num_hidden_layers", 1) <= 2


WEIGHTS = save(
    {"weight.w": torch.ones(2, 3), "exp_avg.w": torch.ones(2, 3), "exp_avg_sq.w": torch.ones(2, 3)}, {"run": "abc 3"}
)


@examples
@given(st.one_of(damaged(WEIGHTS), st.binary(max_size=60).map(lambda b: struct.pack("<Q", len(b)) + b)))
def test_weights_of_a_checkpoint(folder, content):
    place = folder / "weights"
    place.mkdir(exist_ok=True)
    found = read(lambda p: tensor_names(p.parent), place / "model.safetensors", content)
    assert found is None or all(isinstance(name, str) for name in found)


@examples
@given(
    st.one_of(
        damaged(b'{"weight_map": {"a": "model.safetensors"}}'),
        altered({"metadata": {}, "weight_map": {"a": "model-1.safetensors"}}),
    )
)
def test_indices_of_a_checkpoint(folder, content):
    place = folder / "index"
    place.mkdir(exist_ok=True)
    assert read(lambda p: whole(p.parent), place / "model.safetensors.index.json", content) is False


@examples
@given(damaged(WEIGHTS))
def test_the_state_of_a_run(folder, content):
    model = torch.nn.Module()
    model.register_parameter("w", torch.nn.Parameter(torch.zeros(2, 3)))
    optimizer = torch.optim.AdamW(model.parameters())
    found = read(lambda p: _resume(p, "abc", 10, model, optimizer), folder / "state.safetensors", content)
    assert found is None or 0 <= found <= 10


@examples
@given(damaged(b'{"step": 1, "tokens": 4, "loss": 2.5}\n{"step": 2, "tokens": 8, "held_out": 2.25}\n'))
def test_the_log_of_a_run(folder, content):
    path = folder / "log.jsonl"
    path.write_bytes(content)
    _Log(path, 2)
    for line in path.read_text().splitlines():
        assert json.loads(line)["step"] <= 2


def test_manifests_of_the_store(folder):
    store, inputs = Store(folder / "store"), {"a": 1}
    table = pd.DataFrame({"x": [1.0, 2.0]})
    store.table("kind", inputs, lambda: table)
    path = store.path("kind", inputs) / "manifest.json"
    good = path.read_bytes()

    @examples
    @given(st.one_of(damaged(good), altered(json.loads(good))))
    def run(content):
        path.write_bytes(content)
        list(store.manifests())
        if store.intact("kind", inputs):
            assert json.loads(content)["inputs"] == inputs
            assert store.table("kind", inputs, lambda: pytest.fail("computed though intact")).equals(table)

    run()
    path.write_bytes(b"{")
    assert store.table("kind", inputs, lambda: table).equals(table)
    assert store.intact("kind", inputs)


@examples
@given(st.one_of(damaged(b'{"kind": "study", "inputs": {"a": 1}}'), altered({"kind": "study", "inputs": {"a": 1}})))
def test_markers_of_a_sweep(folder, content):
    path = folder / "studies" / "a.json"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    found = noted(folder, "a")
    assert found is None or isinstance(found, dict)
