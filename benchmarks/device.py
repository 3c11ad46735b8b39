"""What the package does on a graphics card, in one run of a few minutes: `make device` → `benchmarks/device.json`.

Four parts, each of which is written as soon as it is done: *agreement* of the engine with float64 on the CPU, on random
models of three architectures and on the trained `reviews-neox`; *speed* at the dimensions of three models with random
weights, beside the published procedure on the same card; a whole *study*; and *sharding*, two processes on one card.
The text is drawn from `reviews-neox` itself, so that the run needs nothing but the repository, torch, transformers and
the packages that a study imports (numpy, pandas, scipy, pyarrow, pydantic, jaxtyping, tqdm).
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ablation import SIZES, Task, certified, layer, limit, published, random_task, rates
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
)

from raretok import Study
from raretok.ablation import ablate, make_engine, merge, replaced_by, tile_inputs
from raretok.ablation.exact import exact_effects
from raretok.data.text import Windows
from raretok.model.forward import run_trace
from raretok.model.load import load_model, load_tokenizer, wrap_model
from raretok.model.loaded import LoadedModel
from raretok.model.registry import find_model
from raretok.store import replacing

OUT = Path(__file__).with_name("device.json")
TRAINED, STEP = "reviews-neox", 4096
CHECKED = 48
"""Positions at which effects are compared with float64."""


def sampled_windows(model: LoadedModel, windows: int, length: int) -> Windows:
    """Windows of tokens drawn from a model at temperature 1, each a document of its own."""
    torch.manual_seed(0)
    ids = torch.full((windows, 1), int(model.tokenizer.bos_token_id)).to(model.device)
    with torch.inference_mode():
        ids = model.network.generate(
            ids, attention_mask=torch.ones_like(ids), do_sample=True, top_k=0, min_new_tokens=length - 1,
            max_new_tokens=length - 1, pad_token_id=0,
        )  # fmt: skip
    tokens = ids.cpu().numpy().astype(np.int32)
    return Windows(tokens, np.arange(windows), np.arange(windows) % 2)


def random_model(architecture: str) -> Any:
    """A random model whose norms and biases are not the identity."""
    torch.manual_seed(0)
    common = {"vocab_size": 8192, "bos_token_id": 0, "eos_token_id": 0}
    wide = {"hidden_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4, "max_position_embeddings": 256}
    model = {
        "gpt2": lambda: GPT2LMHeadModel(GPT2Config(n_layer=2, n_embd=128, n_head=4, n_positions=256, **common)),
        "gpt_neox": lambda: GPTNeoXForCausalLM(GPTNeoXConfig(intermediate_size=512, **wide, **common)),
        "llama": lambda: LlamaForCausalLM(LlamaConfig(intermediate_size=384, **wide, **common)),
    }[architecture]()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, float(parameter.ndim == 1), 0.15)
    return model.eval()


def agreement(device: str, windows: Windows) -> list[dict[str, Any]]:
    """Errors of the certified pass on the card against float64 on the CPU, and of the model's own losses."""
    tokenizer, records = load_tokenizer(TRAINED, STEP), []
    for name in ("gpt2", "gpt_neox", "llama", TRAINED):
        if name == TRAINED:
            model, plain = (load_model(TRAINED, STEP, d) for d in (device, "cpu"))
        else:
            model, plain = (wrap_model(find_model(TRAINED), random_model(name), tokenizer, d) for d in (device, "cpu"))
        trace, on_cpu = (run_trace(m, windows, progress=False) for m in (model, plain))
        rows = np.linspace(0, len(trace) - 1, CHECKED).astype(int)
        mean = replaced_by(trace.activation, "mean", 0)
        engine = make_engine(model.readout, 1e-4, 10**6, trace.residual)
        found = engine(*tile_inputs(model.readout, trace[rows], mean))
        truth = exact_effects(
            plain.readout.to(torch.float64), *tile_inputs(plain.readout, trace[rows], mean, torch.float64)
        )
        error, bound = (found.value.cpu() - truth).abs(), found.bound.cpu()
        sure = bound <= 1e-4
        records.append(
            {
                "model": name,
                "pairs": error.numel(),
                "compiled": engine.compiled,
                "low_precision": engine.attribution.low_precision,
                "fallback_share": float(found.used_fallback.float().mean()),
                "beyond_bound": int((error > bound).sum()),
                "largest_error": float(error[sure].max()),
                "largest_effect": float(truth.abs().max()),
                "loss_apart": float(np.abs(trace.loss - on_cpu.loss).max()),
            }
        )
    return records


def speed(device: str, small: bool) -> list[dict[str, Any]]:
    """µs a pair of the published procedure and of the certified pass, their ratio, limits and memory."""
    machine, records = rates(device), []
    for name, (d_model, neurons, vocab) in SIZES.items():
        centred = name.startswith("Pythia")
        if small:
            d_model, neurons, vocab = 64, 128, 4096
        task = random_task(64 if small else 2048, d_model, neurons, vocab, centred).to(device)
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()
        times = {
            "published": _us(lambda task=task: published(task, False)),
            "published+entropy": _us(lambda task=task: published(task, True)),
            "certified": _us(lambda task=task: certified(task)),
        }
        del task
        whole = layer(random_task(256 if small else 25_000, d_model, neurons, vocab, centred).to(device))
        bound = limit({"method": "certified"}, machine, (d_model, neurons, vocab))
        records.append(
            {"dimensions": name, "d_model": d_model, "neurons": neurons, "vocab": vocab}
            | {f"{way} us_per_pair": us for way, us in times.items()}
            | {"ratio": times["published"] / times["certified"], "limit us_per_pair": bound}
            | {"layer_seconds": whole.more["seconds"], "layer_positions": whole.more["positions"]}
            | {"fallback_share": whole.more["fallback_share"]}
            | {"peak_device_mib": round(torch.cuda.max_memory_allocated() / 2**20) if torch.cuda.is_available() else 0}
        )
        print(records[-1], flush=True)
    return records


def _us(run: Callable[[], Any]) -> float:
    found = run()
    return float(found.seconds / found.pairs * 1e6)


def study(device: str, windows: Windows, only: tuple[str, ...] | None) -> dict[str, Any]:
    """Seconds of a whole study of the trained model, and its verdicts."""
    with tempfile.TemporaryDirectory() as store:
        started = time.perf_counter()
        made = Study(TRAINED, (windows.tokens, windows.document), step=STEP, device=device, store=store)
        claims = made.claims(only)
        return {
            "model": f"{TRAINED} @ {STEP}",
            "windows": len(windows.tokens),
            "seconds": time.perf_counter() - started,
            "device": made.get("effects.sizes")["device"],
            "verdicts": dict(zip(claims["id"], claims["verdict"].astype(str), strict=True)),
        }


def _shard(task: Task, device: str, shard: tuple[int, int], queue: Any) -> None:
    sums = ablate(task.readout.to(device), task.trace, task.mean, shard=shard, progress=False)["loss"]
    queue.put(sums)


def sharding(device: str, small: bool) -> dict[str, Any]:
    """Two processes on one card: seconds, and how far their merged sums are from one process's."""
    # More positions than a tile holds, so that both processes have work.
    task = random_task(3000 if small else 8192, *((16, 512, 256) if small else (576, 1536, 49152)), False)
    started = time.perf_counter()
    whole = ablate(task.readout.to(device), task.trace, task.mean, progress=False)["loss"]
    alone = time.perf_counter() - started
    context = multiprocessing.get_context("spawn")
    queue, started = context.Queue(), time.perf_counter()
    jobs = [context.Process(target=_shard, args=(task, device, (k, 2), queue)) for k in (0, 1)]
    for job in jobs:
        job.start()
    merged = merge([queue.get(timeout=300) for _ in jobs])
    for job in jobs:
        job.join()
    apart = float(np.abs(merged.net - whole.net).max() / np.abs(whole.net).max())
    return {
        "seconds_alone": alone,
        "seconds_two_processes": time.perf_counter() - started,
        "relative_difference": apart,
    }


def main() -> None:
    """Run all parts and write each when it is done."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--small", action="store_true", help="small sizes, to try the script without a card")
    arguments = parser.parse_args()
    device, small, started = arguments.device, arguments.small, time.perf_counter()
    name = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    results: dict[str, Any] = {"card": name, "torch": torch.__version__, "cuda": torch.version.cuda, "small": small}
    model = load_model(TRAINED, STEP, device)
    windows = sampled_windows(model, 96 if small else 256, 96 if small else 256)
    few = Windows(*(x[:8] for x in (windows.tokens, windows.document, windows.half)))
    parts: dict[str, Callable[[], Any]] = {
        "agreement": lambda: agreement(device, few),
        "speed": lambda: speed(device, small),
        "study": lambda: study(device, windows, ("C1", "C22") if small else None),
        "sharding": lambda: sharding(device, small),
    }
    for part, run in parts.items():
        try:
            results[part] = run()
        except Exception as error:  # One part that fails must not cost the others their minutes on a card.
            results[part] = {"failed": repr(error)}
        results["seconds"] = round(time.perf_counter() - started)
        print(part, json.dumps(results[part]), flush=True)
        with replacing(arguments.out) as draft:
            draft.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    if failed := [part for part in parts if isinstance(results[part], dict) and "failed" in results[part]]:
        raise SystemExit(f"failed: {', '.join(failed)}; see {arguments.out}")


if __name__ == "__main__":
    main()
