"""What a study's effects cost for models and texts of many sizes: ``raretok/measure/cost.csv``. Run by ``make
cost``, on a quiet machine.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd
import torch

from raretok import Study
from raretok.measure.cost import RESULTS
from raretok.model.load import load_tokenizer
from raretok.store import Store

WINDOWS = (32, 64, 128)
EFFECTS = "effects.effects"
RANDOM = {
    "neox 20M": {"hidden_size": 256, "num_hidden_layers": 6, "intermediate_size": 1024, "num_attention_heads": 4},
    "neox 70M": {"hidden_size": 512, "num_hidden_layers": 6, "intermediate_size": 2048, "num_attention_heads": 8},
    "neox 160M": {"hidden_size": 768, "num_hidden_layers": 12, "intermediate_size": 3072, "num_attention_heads": 12},
}
"""Models of random weights: GPT-NeoX with the tokenizer of SmolLM2."""


def rate(size: int = 3072, repeats: int = 5) -> float:
    """Rate of float32 matrix products, the best of some, in 10⁹ operations a second."""
    a, b = torch.randn(size, size), torch.randn(size, size)
    best = float("inf")
    for _ in range(repeats):
        start = time.perf_counter()
        a @ b
        best = min(best, time.perf_counter() - start)
    return 2 * size**3 / best / 1e9


def make_random(folder: Path) -> dict[str, str]:
    """Write the random models; folders by name."""
    from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

    tokenizer = load_tokenizer("smollm2-135m")
    made = {}
    for name, sizes in RANDOM.items():
        torch.manual_seed(0)
        config = GPTNeoXConfig(vocab_size=len(tokenizer), max_position_embeddings=512, **sizes)
        place = folder / name.replace(" ", "-")
        GPTNeoXForCausalLM(config).save_pretrained(place)
        tokenizer.save_pretrained(place)
        made[name] = str(place)
    return made


def one(name: str, source: str, corpus: str, windows: int) -> dict[str, object]:
    """Measure one study in this process, in a store of its own that only shares the tokenised text."""
    store = Store()
    study = Study(model=source, corpus=corpus, windows=windows, device="cpu", store=store)
    place = store.path(EFFECTS, study.key(EFFECTS))  # the text is tokenised before the clock starts
    study.get(EFFECTS)
    [manifest] = [m for folder, m in store.manifests(EFFECTS) if folder == place]
    about = {k: v for k, v in study.get("effects.sizes").items() if k not in ("architecture", "device")}
    return {
        "model": name,
        "windows": windows,
        **about,
        "seconds": manifest["seconds"],
        "peak_mib": manifest["peak_mib"],
    }


def main() -> None:
    """Every size in a process of its own, so that peaks of memory do not mix; then the table."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        text = "movie-reviews"
        sources = {"smollm2-135m": ("smollm2-135m", text), "reviews-neox": ("reviews-neox", f"{text}-heldout")}
        sources |= {name: (place, text) for name, place in make_random(Path(folder)).items()}
        environment = os.environ | {"RARETOK_STORE": f"{folder}/store"}
        for name, (source, corpus) in sources.items():
            for windows in WINDOWS:
                gflops = rate()
                command = [sys.executable, __file__, name, source, corpus, str(windows)]
                done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)
                rows.append(json.loads(done.stdout.splitlines()[-1]) | {"gflops": round(gflops, 1)})
                print(rows[-1], flush=True)
    pd.DataFrame(rows).to_csv(RESULTS, index=False)


if __name__ == "__main__":
    if sys.argv[1:]:
        model, place, text, count = sys.argv[1:]
        print(json.dumps(one(model, place, text, int(count))))
    else:
        main()
