"""How fast and how right each way of ablating is, in one run: `make bench` → `benchmarks/results.json`.

Methods: `hooks` (a forward pass of the whole model for each neuron), `published` (residual, norm, unembedding and cross-entropy anew for
each pair, in chunks of 20 neurons × 256 tokens; `published+entropy` computes the entropy too), `exact` and `certified`. Each runs in
a process of its own, so that its peak memory is its own; errors are against the exact pass in float64.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import multiprocessing
import os
import platform
import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from raretok.ablation.certified import Certified
from raretok.ablation.exact import exact_effects, tile_effects
from raretok.ablation.identity import footprints
from raretok.ablation.kernels import can_compile
from raretok.ablation.reference import hooked_effects
from raretok.model.load import pick_device
from raretok.model.readout import Readout

CHUNK_NEURONS, CHUNK_TOKENS = 20, 256
CHECKED = 16
"""Positions at which errors are measured, all neurons each."""


@dataclasses.dataclass
class Task:
    """What is ablated: positions of a model, and – where it is a real one – the model itself."""

    readout: Readout
    residual: Tensor
    delta: Tensor
    target: Tensor
    study: Any = None


def smollm2() -> Task:
    """SmolLM2-135M at 512 seeded positions of 8 windows of its corpus."""
    from raretok import Study
    from raretok.model.trace import run_trace

    study = Study(windows=8)
    trace = run_trace(study.model, study.windows, progress=False)
    rows = np.sort(np.random.default_rng(0).permutation(len(trace))[:512])
    part = trace[rows]
    target = torch.from_numpy(part.target.astype(np.int64))
    return Task(study.model.readout, part.residual, trace.activation.mean(0) - part.activation, target, study)


def pythia_410m_dimensions() -> Task:
    """Random weights and activations with power-law spectra at the dimensions of Pythia-410M, 256 positions."""
    generator = torch.Generator().manual_seed(0)
    d_model, neurons, vocab, tokens = 1024, 4096, 50304, 256

    def spread(rows: int, scale: float) -> Tensor:
        decay = torch.arange(1, d_model + 1) ** -0.3
        return scale * torch.randn(rows, d_model, generator=generator) * decay / decay.square().mean().sqrt()

    readout = Readout(
        w_out=spread(neurons, 0.03),
        gain=1 + 0.1 * torch.randn(d_model, generator=generator),
        bias=0.1 * torch.randn(d_model, generator=generator),
        eps=1e-5,
        centred=True,
        unembed=spread(vocab, 0.06).T.contiguous(),
        unembed_bias=torch.zeros(vocab),
    )
    activation = torch.nn.functional.gelu(torch.randn(tokens, neurons, generator=generator) * 1.5)
    target = torch.randint(vocab, (tokens,), generator=generator)
    return Task(readout, spread(tokens, 1.0), activation.mean(0) - activation, target)


DIMENSIONS: dict[str, Callable[[], Task]] = {"SmolLM2-135M": smollm2, "Pythia-410M dimensions": pythia_410m_dimensions}


def published(task: Task, entropy: bool) -> tuple[float, int, None]:
    """Seconds and pairs of one chunk, done as the papers describe it."""
    r, readout = task.residual[:CHUNK_TOKENS], task.readout
    target = task.target[:CHUNK_TOKENS].repeat(CHUNK_NEURONS)
    before = torch.nn.functional.cross_entropy(readout.logits(r), target[: len(r)], reduction="none")

    def run() -> Tensor:
        moved = r[None] + task.delta[: len(r), :CHUNK_NEURONS].T[:, :, None] * readout.w_out[:CHUNK_NEURONS, None]
        logits = readout.logits(moved.flatten(0, 1))
        if entropy:
            p = logits.softmax(-1)
            _ = -(p * (p + 1e-12).log()).sum(-1)
        after = torch.nn.functional.cross_entropy(logits, target, reduction="none")
        return after - before.repeat(CHUNK_NEURONS)

    return timed(run)[0], len(target), None


def hooks(task: Task) -> tuple[float, int, None]:
    """Seconds and pairs of one neuron's hooked forward passes over a window; the one without hook is shared by all."""
    tokens = task.study.windows.tokens[:1]
    seconds, effects = timed(lambda: hooked_effects(task.study.model, tokens, 7, torch.tensor(0.1)))
    return seconds / 2, effects.numel(), None


def exact(task: Task) -> tuple[float, int, tuple[Tensor, Tensor | None]]:
    """Seconds, pairs and effects of the exact pass over all neurons."""
    rows = slice(0, CHECKED)
    compiled = can_compile(task.residual.device.type)
    part = (footprints(task.readout), task.residual[rows], task.delta[rows], task.target[rows], compiled)
    seconds, effects = timed(lambda: tile_effects(*part))
    return seconds, effects.numel(), (effects, None)


def certified(task: Task) -> tuple[float, int, tuple[Tensor, Tensor | None]]:
    """Seconds, pairs and effects of the certified pass over all neurons and positions."""
    tile = 256
    engine = Certified(footprints(task.readout), 1e-4, can_compile(task.residual.device.type))
    parts = [slice(k, k + tile) for k in range(0, len(task.residual), tile)]
    seconds, found = timed(lambda: [engine(task.residual[p], task.delta[p], task.target[p]) for p in parts])
    share = torch.cat([f.exact for f in found]).float().mean()
    return seconds, task.delta.numel(), (found[0].value[:CHECKED], share)


METHODS: dict[str, Callable[[Task], tuple[float, int, Any]]] = {
    "hooks": hooks,
    "published": lambda task: published(task, False),
    "published+entropy": lambda task: published(task, True),
    "exact": exact,
    "certified": certified,
}


def timed(function: Callable[[], Any], repeats: int = 3) -> tuple[float, Any]:
    """Best time of several runs after a first one that compiles and warms up, and the result."""
    result, best = function(), float("inf")
    for _ in range(repeats):
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        start = time.perf_counter()
        result = function()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - start)
    return best, result


def measure(name: str, method: str, device: str, queue: Any) -> None:
    """One record, in a process of its own."""
    task = DIMENSIONS[name]()
    moved = {f: getattr(task, f).to(device) for f in ("readout", "residual", "delta", "target")}
    task = dataclasses.replace(task, **moved)
    seconds, pairs, found = METHODS[method](task)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    record = {
        "name": name,
        "method": method,
        "device": device,
        "us_per_pair": seconds / pairs * 1e6,
        "peak_mib": round(peak),
    }
    if found is not None:
        effects, share = found
        rows = slice(0, CHECKED)
        truth = exact_effects(
            task.readout.to(torch.float64), task.residual[rows].double(), task.delta[rows].double(), task.target[rows]
        )
        error = (effects - truth).abs()
        record |= {"rms_error": float(error.square().mean().sqrt()), "max_error": float(error.max())}
        record |= {"fallback_share": None if share is None else float(share)}
    queue.put(record)


def rates(device: str) -> dict[str, float]:
    """What this machine can do: matrix products at the size that matters (GFLOP/s) and exponentials (10⁹/s)."""
    found = {}
    for dtype in (torch.float32, torch.bfloat16):
        a = torch.randn(256, 49152, device=device).to(dtype)
        b = torch.randn(49152, 1536, device=device).to(dtype)
        seconds, _ = timed(lambda a=a, b=b: a @ b)
        found[f"matmul_{str(dtype).removeprefix('torch.')}_gflops"] = round(2 * 256 * 49152 * 1536 / seconds / 1e9)
    x = torch.randn(64, 49152, device=device)
    found["exp_per_ns"] = round(x.numel() / timed(lambda: torch.exp(x))[0] / 1e9, 2)
    return found


def main() -> None:
    """Run every method at all dimensions and write the records."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("results.json"))
    arguments = parser.parse_args()
    device = str(pick_device(arguments.device))
    context = multiprocessing.get_context("spawn")
    records: list[dict[str, Any]] = []
    for name in DIMENSIONS:
        for method in METHODS:
            if method == "hooks" and name != "SmolLM2-135M":
                continue  # there is no model of these dimensions to run forward
            queue: Any = context.SimpleQueue()
            process = context.Process(target=measure, args=(name, method, device, queue))
            process.start()
            process.join()
            if process.exitcode:
                raise SystemExit(f"{name} {method} failed: see above")
            record = queue.get()
            records.append(record)
            print(f"{name:24} {method:18} {record['us_per_pair']:12.3f} µs/pair  {record['peak_mib']} MiB", flush=True)
    for record in records:
        baseline = next(r["us_per_pair"] for r in records if (r["name"], r["method"]) == (record["name"], "published"))
        record["ratio_to_published"] = baseline / record["us_per_pair"]
        for field in ("rms_error", "max_error", "fallback_share"):
            record.setdefault(field, None)
    machine = {
        "processor": platform.processor() or platform.machine(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }
    machine |= rates(device)
    temporary = arguments.out.with_suffix(".tmp")
    temporary.write_text(json.dumps([record | {"machine": machine} for record in records], indent=1) + "\n")
    os.replace(temporary, arguments.out)
    print(f"written to {arguments.out}")


if __name__ == "__main__":
    main()
