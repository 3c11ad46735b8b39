"""The package outside its repository: the engine on its own, quick imports, and a wheel that is whole."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

EXTRAS = (
    *("altair", "papermill", "jupytext", "ipykernel", "IPython", "nbclient", "nbformat", "myst_nb", "jupyter_book"),
    *("vl_convert", "latex2mathml", "snakemake"),
)
"""What the extras `book` and `sweep` bring."""
OTHERS = (
    *("transformers", "transformer_lens", "huggingface_hub", "safetensors", "tokenizers", "gguf", "datasets"),
    *("pandas", "scipy", "pyarrow", "pydantic", "typer", "tqdm"),
)
"""What the package needs, but not its engine."""
BLOCK = """
import sys
sys.modules.update(dict.fromkeys({names}))  # what is None there cannot be imported, as if it were not installed
"""
ENGINE = """
import torch
from raretok.ablation import ablate
from raretok.model.readout import Readout
from raretok.model.trace import Trace

torch.manual_seed(0)
tokens, neurons, width, vocab = 12, 6, 8, 20
readout = Readout(torch.randn(neurons, width), torch.ones(width), torch.zeros(width), 1e-5, True,
                  torch.randn(width, vocab), torch.zeros(vocab))
import numpy as np
whole = np.arange(tokens)
trace = Trace(torch.randn(tokens, neurons), torch.randn(tokens, width), whole % vocab, whole, whole // 4, whole // 4,
              whole % 2, whole, np.ones(tokens))
sums = ablate(readout, trace)["loss"]
step = trace.activation.mean(0) - trace.activation
for i in range(neurons):
    moved = trace.residual + step[:, [i]] * readout.w_out[i]
    target = torch.from_numpy(trace.target)
    losses = [torch.nn.functional.cross_entropy(readout.logits(r), target) for r in (moved, trace.residual)]
    assert abs(float(losses[0] - losses[1]) * tokens - sums.net[:, 0, i].sum()) < 1e-3, i
print("the engine agrees")
"""
IMPORTED = """
import sys
import {module}
print(*sorted({{name.split(".")[0] for name in sys.modules}}))
"""


def run(code: str, *arguments, cwd=None, **environment):
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=os.environ | environment, check=False)


def test_the_engine_needs_torch_numpy_and_jaxtyping_alone():
    done = run(BLOCK.format(names=set(EXTRAS + OTHERS)) + ENGINE)
    assert done.returncode == 0, done.stderr
    assert "the engine agrees" in done.stdout


@pytest.mark.parametrize(
    ("module", "heavy"),
    [("raretok", {"torch", "numpy", "pandas"}), ("raretok.cli", {"torch", "transformers", "pandas"})],
)
def test_imports_load_nothing_heavy(module, heavy):
    done = run(IMPORTED.format(module=module))
    assert done.returncode == 0, done.stderr
    assert not heavy & set(done.stdout.split())


def test_importing_charts_changes_nobody_s_altair():
    code = """
import altair

before = altair.theme.active, altair.renderers.active
import raretok.charts.regimes

assert (altair.theme.active, altair.renderers.active) == before
"""
    done = run(code)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """A folder with what a wheel installs, and with the extras blocked."""
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    subprocess.run(
        [*pip, "wheel", str(ROOT), "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder)], check=True
    )
    [wheel] = folder.glob("raretok-*.whl")
    subprocess.run([*pip, "install", "--no-deps", "--target", str(folder / "site"), str(wheel)], check=True)
    (folder / "site" / "sitecustomize.py").write_text(BLOCK.format(names=set(EXTRAS)))
    return folder / "site"


def command(installed, tmp_path, *arguments):
    """The command line of the wheel, in an empty folder."""
    code = "import raretok, sys; print(raretok.__file__, file=sys.stderr); from raretok.cli import main; main()"
    return run(code, *arguments, cwd=tmp_path, PYTHONPATH=str(installed), RARETOK_STORE=str(tmp_path / "store"))


def test_a_wheel_lists_models_measures_a_local_one_and_judges_a_claim(installed, tmp_path, models, corpus_file):
    listed = command(installed, tmp_path, "models", "--json")
    assert listed.returncode == 0, listed.stderr
    assert str(installed) in listed.stderr
    rows = {r["model"]: r for r in json.loads(listed.stdout)}
    assert rows["reviews-neox"]["here"] == "no"
    assert {"smollm2-135m", "pythia-70m"} <= set(rows)
    study = [models["gpt2"], "--corpus", corpus_file, "--windows", 120, "--length", 64, "--sample", 300]
    measured = command(installed, tmp_path, "measure", *study)
    assert measured.returncode == 0, measured.stderr
    judged = command(installed, tmp_path, "claims", *study, "--only", "C1", "--json")
    assert [r["id"] for r in json.loads(judged.stdout)] == ["C1"]
    code = "from raretok.claims.calibration import calibration_table; print(calibration_table(['C1'])['planted'][0])"
    told = run(code, cwd=tmp_path, PYTHONPATH=str(installed))
    assert float(told.stdout) > 0.8, told.stderr
    missing = command(installed, tmp_path, "report", models["gpt2"])
    assert missing.returncode == 2
    assert "raretok: jupytext is not installed: pip install 'raretok[book]'" in missing.stderr
