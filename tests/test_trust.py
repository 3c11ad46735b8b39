"""Nothing that comes from outside is run: no pickle, no code of a checkpoint, no YAML that makes objects, no markup
of a corpus.
"""

import ast
import json
import re
from pathlib import Path

import pandas as pd
import pytest
import torch

from raretok import RaretokError
from raretok.charts import neuron_cards as cards
from raretok.charts.claims import verdict_matrix
from raretok.charts.theme import show_table
from raretok.model.load import load_model, load_tokenizer

ROOT = Path(__file__).parents[1]
CODE = [p for folder in ("raretok", "_ext", "benchmarks") for p in sorted((ROOT / folder).rglob("*.py"))]
BANNED = {
    "eval",
    "exec",
    "compile",
    "pickle",
    "cPickle",
    "dill",
    "joblib",
    "shelve",
    "marshal",
    "unsafe_load",
    "full_load",
}
EVIL = "</script><script>alert(1)</script> & \"'"


def calls(tree: ast.AST):
    """Every call, with the dotted name of what is called."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), {k.arg: ast.unparse(k.value) for k in node.keywords}


@pytest.mark.parametrize("path", CODE, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_no_code_unpickles_or_runs_what_it_reads(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    imported = {a.name.split(".")[0] for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names}
    imported |= {(n.module or "").split(".")[0] for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)}
    assert not imported & BANNED
    for name, keywords in calls(tree):
        assert name not in BANNED, name
        assert name not in ("torch.load", "pd.read_pickle", "yaml.load", "yaml.unsafe_load", "yaml.full_load"), name
        assert keywords.get("trust_remote_code", "False") == "False"
        assert keywords.get("allow_pickle", "False") == "False"
        assert keywords.get("shell", "False") == "False"
        if name == "np.load":
            assert keywords.get("allow_pickle") == "False"
        if name.endswith(".from_pretrained"):
            assert keywords.get("local_files_only") == "True", name


def test_pickled_weights_are_not_read(models, tmp_path):
    for path in models["gpt2"].iterdir():
        if path.suffix != ".safetensors":
            (tmp_path / path.name).write_bytes(path.read_bytes())
    torch.save({"a": torch.zeros(1)}, tmp_path / "pytorch_model.bin")
    with pytest.raises(RaretokError, match=r"no \.safetensors weights"):
        load_model(str(tmp_path), None, "cpu")


def test_code_of_a_checkpoint_is_not_run(models, tmp_path):
    for path in models["gpt2"].iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    config = json.loads((tmp_path / "config.json").read_text())
    names = {
        "AutoConfig": "evil.Config",
        "AutoModelForCausalLM": "evil.Model",
        "AutoTokenizer": ["evil.Tokenizer", None],
    }
    (tmp_path / "config.json").write_text(json.dumps(config | {"model_type": "evil", "auto_map": names}))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"auto_map": names, "tokenizer_class": "Evil"}))
    (tmp_path / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Config: pass\n")
    with pytest.raises(RaretokError):
        load_model(str(tmp_path), None, "cpu")
    with pytest.raises(RaretokError):
        load_tokenizer(str(tmp_path))
    assert not (tmp_path / "ran").exists()


def test_markup_in_tables_and_charts_is_text():
    shown = show_table(pd.DataFrame({EVIL: [EVIL]}), caption=EVIL).to_html()
    assert "<script" not in re.sub(r"base64,[^\"]*", "", shown)
    claims = pd.DataFrame(
        [
            {
                "id": "C1",
                "study": EVIL,
                "claim": EVIL,
                "verdict": "supported",
                "why": EVIL,
                "published_says": EVIL,
                "null": 0.5,
            }
        ]
    )
    page = verdict_matrix(claims, "study", EVIL)._repr_mimebundle_()
    page = page[0] if isinstance(page, tuple) else page
    assert page["text/html"].count("<script") == page["text/html"].count("</script") == 1
    assert json.loads(re.search(r"<script[^>]*>(.*)</script>", page["text/html"], re.S)[1])


def test_what_cannot_be_printed_is_shown_by_its_number():
    shown = show_table(pd.DataFrame({"a": ["\x96 x\x00é 語\n"], "n": [1.5], "k": [2]}), {"n": "{:.2f}"}).to_html()
    assert "\\x96 x\\x00é 語\n" in shown
    assert "1.50" in shown


def test_markup_in_tokens_and_contexts_of_a_card_is_text():
    part = pd.DataFrame({"rank": [1], "promotes": [EVIL], "suppresses": [EVIL]})
    assert "<script" not in cards._tokens(part)
    contexts = pd.DataFrame({"before": [EVIL], "target": [EVIL], "activation": [1.0]})
    assert "<script" not in cards._contexts(contexts)
