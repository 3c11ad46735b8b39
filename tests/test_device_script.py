"""The script that measures the package on a graphics card, tried on the CPU at small sizes."""

import json
import os
import subprocess
import sys

from conftest import ROOT


def test_the_device_script_runs_and_writes_every_part(tmp_path):
    out = tmp_path / "device.json"
    script = [sys.executable, str(ROOT / "benchmarks" / "device.py"), "--device", "cpu", "--small", "--out", str(out)]
    env = {**os.environ, "PYTHONPATH": str(ROOT), "TORCH_COMPILE_DISABLE": "1"}
    done = subprocess.run(script, capture_output=True, text=True, env=env)
    assert done.returncode == 0, done.stderr + done.stdout
    results = json.loads(out.read_text(encoding="utf-8"))
    assert {r["model"] for r in results["agreement"]} == {"gpt2", "gpt_neox", "llama", "reviews-neox"}
    for record in results["agreement"]:
        assert record["beyond_bound"] == 0
        assert record["largest_error"] <= 1e-4 < record["largest_effect"]
        assert record["loss_apart"] < 1e-3
    assert all(0 < record["ratio"] < float("inf") for record in results["speed"])
    assert set(results["study"]["verdicts"]) == {"C1", "C22"}
    assert results["sharding"]["relative_difference"] < 1e-12
