"""How fast and how right each way of ablating is, in one run: `make bench` → `raretok/measure/benchmarks.json`.

Methods: `hooks` (a forward pass of the whole model for each neuron), `published` (residual, norm, unembedding and
cross-entropy anew for each pair, in chunks of 20 neurons × 256 tokens; `published+entropy` computes the entropy too),
`exact`, `exact+outputs` (entropy, divergence and both direct effects, too), `certified`, and `layer`: `ablate` over
the whole layer at 25,000 positions, sums by document included. Each runs in a process of its own, so that its peak
memory is its own; errors are against the exact pass in float64.
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

from raretok.ablation import ablate
from raretok.ablation.certified import Certified
from raretok.ablation.exact import tile_effects
from raretok.ablation.identity import baseline, logit_attribution, logit_shift
from raretok.ablation.kernels import can_compile
from raretok.ablation.outputs import OUTPUTS, log_unigram, tile_outputs
from raretok.ablation.reference import hooked_effects
from raretok.measure.checks import RESULTS
from raretok.model.load import pick_device
from raretok.model.readout import Readout
from raretok.model.trace import Trace

CHUNK_NEURONS, CHUNK_TOKENS = 20, 256
CHECKED = 16
"""Positions at which the exact passes are timed and checked, all neurons each."""
LAYER = 25_000
"""Positions of the run over a whole layer."""


@dataclasses.dataclass
class Task:
    """What is ablated: positions of a model, and – where it is a real one – its study."""

    readout: Readout
    trace: Trace
    mean: Tensor
    target: Tensor
    study: Any

    @property
    def residual(self) -> Tensor:
        """Residual stream, where the readout is."""
        return self.trace.residual.to(self.mean.device)

    @property
    def delta(self) -> Tensor:
        """What is added to every activation, where the readout is."""
        return self.mean - self.trace.activation.to(self.mean.device)

    def to(self, device: str) -> Task:
        """The same on a device; the trace stays where it is."""
        moved = {name: getattr(self, name).to(device) for name in ("readout", "mean", "target")}
        return dataclasses.replace(self, **moved)


def smollm2(positions: int) -> Task:
    """SmolLM2-135M at seeded positions of windows of its corpus."""
    from raretok import Study
    from raretok.model.forward import run_trace

    study = Study(windows=max(24, -(-positions // 252)))
    trace = run_trace(study.inputs.model, study.inputs.windows)
    rows = np.sort(np.random.default_rng(0).permutation(len(trace))[:positions])
    return task_of(study.inputs.model.readout, trace[rows], trace.activation.mean(0), study)


def random_task(positions: int, d_model: int, neurons: int, vocab: int, centred: bool) -> Task:
    """Random weights and activations with power-law spectra at some dimensions."""
    generator = torch.Generator().manual_seed(0)

    def spread(rows: int, scale: float) -> Tensor:
        decay = torch.arange(1, d_model + 1) ** -0.3
        return torch.randn(rows, d_model, generator=generator).mul_(scale * decay / decay.square().mean().sqrt())

    readout = Readout(
        w_out=spread(neurons, 0.03),
        gain=1 + 0.1 * torch.randn(d_model, generator=generator),
        bias=0.1 * torch.randn(d_model, generator=generator) if centred else torch.zeros(d_model),
        eps=1e-5,
        centred=centred,
        unembed=spread(vocab, 0.06).T,
        unembed_bias=torch.zeros(vocab),
    )
    activation = torch.nn.functional.gelu(torch.randn(positions, neurons, generator=generator).sub_(1.0))
    place = np.arange(positions)
    target = np.random.default_rng(0).integers(vocab, size=positions)
    trace = Trace(
        activation, spread(positions, 1.0), target, target, place, place // 250, place % 2, place, place * 0.0
    )
    return task_of(readout, trace, activation.mean(0), None)


def task_of(readout: Readout, trace: Trace, mean: Tensor, study: Any) -> Task:
    """The positions of a trace, each activation to be replaced by its mean."""
    return Task(readout, trace, mean, torch.from_numpy(trace.target.astype(np.int64)), study)


DIMENSIONS: dict[str, Callable[[int], Task]] = {
    "SmolLM2-135M": smollm2,
    "Pythia-410M dimensions": lambda positions: random_task(positions, 1024, 4096, 50304, True),
    "Gemma-3-270M dimensions": lambda positions: random_task(positions, 640, 2048, 262144, False),
}
"""What is ablated, by name; the first is a model, the others random weights of its sizes."""
SIZES = {"SmolLM2-135M": (576, 1536, 49152), "Pythia-410M": (1024, 4096, 50304), "Gemma-3-270M": (640, 2048, 262144)}
"""d_model, neurons and vocabulary."""
BOTH = ("published", "certified")
"""The methods that are timed at the largest vocabulary, where the others need more memory or time."""


@dataclasses.dataclass
class Found:
    """Seconds for so many pairs; effects, at the first positions, to be checked; and what more a record holds."""

    seconds: float
    pairs: int
    effects: Tensor | None = None
    bound: Tensor | None = None
    more: dict[str, Any] = dataclasses.field(default_factory=dict)


def published(task: Task, entropy: bool) -> Found:
    """One chunk, done as the papers describe it."""
    r, readout = task.residual[:CHUNK_TOKENS], task.readout
    target = task.target[:CHUNK_TOKENS].repeat(CHUNK_NEURONS)
    before = torch.nn.functional.cross_entropy(readout.logits(r), target[: len(r)], reduction="none")
    delta = task.delta[: len(r), :CHUNK_NEURONS].T

    def run() -> Tensor:
        moved = r[None] + delta[:, :, None] * readout.w_out[:CHUNK_NEURONS, None]
        logits = readout.logits(moved.flatten(0, 1))
        if entropy:
            p = logits.softmax(-1)
            _ = -(p * (p + 1e-12).log()).sum(-1)
        after = torch.nn.functional.cross_entropy(logits, target, reduction="none")
        return after - before.repeat(CHUNK_NEURONS)

    return Found(timed(run)[0], len(target))


def hooks(task: Task) -> Found:
    """One neuron's hooked forward passes over a window; the one without hook is shared by all."""
    tokens = task.study.inputs.windows.tokens[:1]
    seconds, effects = timed(lambda: hooked_effects(task.study.inputs.model, tokens, 7, torch.tensor(0.1)))
    return Found(seconds / 2, effects.numel())


def exact(task: Task) -> Found:
    """The exact pass over all neurons."""
    rows = slice(0, CHECKED)
    compiled = can_compile(str(task.mean.device))
    part = (
        logit_attribution(task.readout, task.residual),
        task.residual[rows],
        task.delta[rows],
        task.target[rows],
        compiled,
    )
    seconds, effects = timed(lambda: tile_effects(*part))
    return Found(seconds, effects.numel(), effects)


def exact_outputs(task: Task) -> Found:
    """Every output but the certified loss, over all neurons."""
    engine, rows = engine_of(task), slice(0, CHECKED)
    residual, delta, target = task.residual[rows], task.delta[rows], task.target[rows]
    log_q = torch.from_numpy(log_unigram(np.arange(task.readout.vocab), task.readout.vocab)).to(residual.device)

    def run() -> Tensor:
        base = baseline(engine.attribution, residual, target, engine.compiled)
        return tile_outputs(engine, base, logit_shift(engine.attribution, base, delta), delta, OUTPUTS[1:], log_q)[0]

    return Found(timed(run)[0], delta.numel())


def engine_of(task: Task) -> Certified:
    """The certified pass at the default tolerance."""
    return Certified(logit_attribution(task.readout, task.residual), 1e-4, can_compile(str(task.mean.device)))


def certified(task: Task) -> Found:
    """The certified pass over all neurons and positions, with what each of its stages takes."""
    engine, tile = engine_of(task), 256
    residual, delta, target = task.residual, task.delta, task.target
    parts = [slice(k, k + tile) for k in range(0, len(residual), tile)]
    seconds, found = timed(lambda: [engine(residual[p], delta[p], target[p]) for p in parts])
    share = float(torch.cat([f.used_fallback for f in found]).float().mean())
    first = parts[0]
    seconds_baseline, base = timed(
        lambda: baseline(engine.attribution, residual[first], target[first], engine.compiled)
    )
    moved = logit_shift(engine.attribution, base, delta[first])
    seconds_brackets, _ = timed(lambda: [engine.bracket(base, moved, part) for part in (0, 1)])
    stages = {"baseline": seconds_baseline, "brackets": seconds_brackets}
    stages = {name: s / moved.alpha.numel() * 1e6 for name, s in stages.items()}
    effects, bound = (torch.cat([getattr(f, name) for f in found]) for name in ("value", "bound"))
    more = {
        "fallback_share": share,
        "stages_us": stages | {"rest": seconds / delta.numel() * 1e6 - sum(stages.values())},
    }
    return Found(seconds, delta.numel(), effects, bound, more)


def layer(task: Task) -> Found:
    """The whole layer, as a study does it."""
    start = time.perf_counter()
    sums = ablate(task.readout, task.trace, task.mean.cpu())["loss"]
    seconds = time.perf_counter() - start
    more = {"fallback_share": sums.fallback_share, "seconds": seconds, "positions": len(task.trace)}
    return Found(seconds, len(task.trace) * task.readout.neurons, more=more)


DEFAULTS = ("hooks", "published", "published+entropy")
METHODS: dict[str, Callable[[Task], Found]] = {
    "hooks": hooks,
    "published": lambda task: published(task, False),
    "published+entropy": lambda task: published(task, True),
    "exact": exact,
    "exact+outputs": exact_outputs,
    "certified": certified,
    "layer": layer,
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
    positions = LAYER if method == "layer" else 1024 if method == "certified" and name == "SmolLM2-135M" else 256
    task = DIMENSIONS[name](positions).to(device)
    found = METHODS[method](task)
    record = {
        "name": name,
        "method": method,
        "device": device,
        "us_per_pair": found.seconds / found.pairs * 1e6,
        "peak_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        **found.more,
    }
    if device.startswith("cuda"):
        record["peak_device_mib"] = round(torch.cuda.max_memory_allocated() / 2**20)
    if found.effects is not None:
        record |= errors(task, found.effects, found.bound)
    queue.put(record)


def errors(task: Task, effects: Tensor, bound: Tensor | None) -> dict[str, Any]:
    """Root mean square and largest error against float64 in nats, and how many pairs lie beyond their bound."""
    attribution = logit_attribution(task.readout.to(torch.float64), task.residual.double())
    compiled = can_compile(str(task.mean.device))
    wrong: list[Tensor] = []
    for k in range(0, len(effects), CHECKED):
        rows = slice(k, k + CHECKED)
        truth = tile_effects(
            attribution, task.residual[rows].double(), task.delta[rows].double(), task.target[rows], compiled
        )
        wrong.append((effects[rows] - truth).abs())
    error = torch.cat(wrong)
    record = {"rms_error": float(error.square().mean().sqrt()), "max_error": float(error.max())}
    if bound is not None:
        record |= {"checked_pairs": error.numel(), "beyond_bound": int((error > bound).sum())}
        record |= {"beyond_tolerance_before_float64": float((bound > 1e-4).double().mean())}
    return record


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


def processor() -> str:
    """The processor's name and vector units, as far as the system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    facts = dict(line.split(":", 1) for line in reversed(lines) if ":" in line)
    facts = {key.strip(): value.strip() for key, value in facts.items()}
    units = [u for u in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if u in facts.get("flags", "").split()]
    return f"{facts.get('model name', platform.machine())} ({', '.join(units)})"


def limit(record: dict[str, Any], machine: dict[str, Any], sizes: tuple[int, int, int]) -> float | None:
    """µs per pair that the matrix products and exponentials alone would take at the machine's measured rates."""
    d_model, neurons, vocab = sizes
    single, half = (machine[f"matmul_{name}_gflops"] * 1e3 for name in ("float32", "bfloat16"))
    product, exponentials = 2 * d_model * vocab, vocab / (machine["exp_per_ns"] * 1e3)
    return {
        "published": product / single + exponentials,
        "published+entropy": product / single + 2 * exponentials,
        "exact": exponentials,
        "certified": (2 * product / single + (product + 2 * vocab * neurons) / half + exponentials) / neurons,
    }.get(record["method"])


def main() -> None:
    """Run every method at all dimensions and write the records."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--only", nargs="*", choices=METHODS, help="methods to run; `published` must be among them")
    arguments = parser.parse_args()
    device = str(pick_device(arguments.device))
    context = multiprocessing.get_context("spawn")
    records: list[dict[str, Any]] = []
    if arguments.only and "published" not in arguments.only:
        parser.error("--only must hold published: the others are compared with it")
    for name in DIMENSIONS:
        for method in METHODS:
            if method == "hooks" and name != "SmolLM2-135M":
                continue  # there is no model of these dimensions to run forward
            if name.startswith("Gemma") and method not in BOTH:
                continue
            if arguments.only and method not in arguments.only:
                continue
            # Large pages are set by raretok/__init__.py; the procedures compared with run as torch runs by default.
            os.environ["THP_MEM_ALLOC_ENABLE"] = "0" if method in DEFAULTS else "1"
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
        "processor": processor(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }
    machine |= rates(device)
    for record in records:
        record["limit_us"] = limit(record, machine, SIZES[record["name"].removesuffix(" dimensions")])
    temporary = arguments.out.with_suffix(".tmp")
    temporary.write_text(json.dumps([record | {"machine": machine} for record in records], indent=1) + "\n")
    os.replace(temporary, arguments.out)
    print(f"written to {arguments.out}")


if __name__ == "__main__":
    main()
