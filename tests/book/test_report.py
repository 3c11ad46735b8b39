"""Executed chapters and the pages made of them."""

import os
import subprocess
import sys

import nbformat
import numpy as np
import pandas as pd
import pytest

from raretok import RaretokError, Study, StudySettings
from raretok.book.papermill_io import chapter_parameters
from raretok.book.report import CHAPTERS, _place, chapter_names, execute, render
from raretok.store import Store


def notebook(folder, name, *sources):
    cells = [nbformat.v4.new_markdown_cell(source) for source in sources]
    path = folder / f"{name}.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)
    return path


def test_chapters_about_a_model_are_named():
    names = chapter_names()
    assert {"identification", "regimes", "weights"} <= set(names)
    assert not {"models", "run", "references"} & set(names)


UNCOMPILED = {"OPENBLAS_NUM_THREADS": "1", "TORCH_COMPILE_DISABLE": "1"}


def test_every_chapter_about_a_study_takes_every_setting():
    for name in chapter_names():
        known = chapter_parameters(CHAPTERS / f"{name}.md")
        assert name == "training" or set(StudySettings.model_fields) <= set(known), name


def test_the_command_leaves_a_notebook_and_pages(models, corpus_file, tmp_path):
    settings = ["--corpus", str(corpus_file), "--windows", "120", "--length", "64"]
    command = [sys.executable, "-m", "raretok", "report", str(models["llama"]), *settings, "--chapters", "regimes"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=os.environ | UNCOMPILED)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().endswith("report/html/index.html")
    executed = nbformat.read(tmp_path / "report/regimes.ipynb", 4)
    assert any("raretok-chart" in str(o) for c in executed.cells for o in c.get("outputs", []))
    page = (tmp_path / "report/html/index.html").read_text()
    assert "raretok-chart" in page
    assert "Rare-token neurons of llama" in page
    assert "Traceback" not in page


def test_a_report_is_about_the_column_and_the_text_that_the_command_names(models, documents, tmp_path, own_store):
    other = [d.upper() for d in documents]
    pd.DataFrame({"text": other, "review": documents}).to_csv(tmp_path / "two.csv", index=False)
    settings = [
        "--corpus",
        "two.csv",
        "--text-column",
        "review",
        "--windows",
        "120",
        "--length",
        "64",
        "--sample",
        "300",
    ]
    command = [
        sys.executable,
        "-m",
        "raretok",
        "report",
        str(models["gpt2"]),
        *settings,
        "--chapters",
        "corpus,emergence",
    ]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=os.environ | UNCOMPILED)
    assert done.returncode == 0, done.stderr
    assert "emergence does not apply: gpt2 has no checkpoints" in done.stderr
    assert "has no checkpoints" in (tmp_path / "report/emergence.ipynb").read_text()
    study = Study(models["gpt2"], documents, store=tmp_path / "other", windows=120, length=64, sample=300)
    [kept] = (own_store / "effects.effects").iterdir()
    loss = np.load(kept / "loss.npy")
    np.testing.assert_allclose(loss, study.get("effects.effects")["loss"], atol=1e-9)


def test_a_chapter_for_which_a_model_has_too_few_neurons_says_so(models, corpus_file, tmp_path):
    settings = StudySettings(model=str(models["gemma2"]), corpus=str(corpus_file), windows=120, length=64, sample=300)
    reason = execute("coactivation", settings, tmp_path / "coactivation.ipynb", Store())
    assert "no group can be made that is compared with others: it takes 4 of one direction" in reason
    [cell] = nbformat.read(tmp_path / "coactivation.ipynb", 4).cells
    assert cell.source.startswith("# ")
    assert f"This chapter does not apply: {reason}." in cell.source


def test_a_chapter_that_fails_is_told_and_kept_up_to_there(tmp_path):
    with pytest.raises(
        RaretokError, match=r"corpus failed with RaretokError: unknown model 'nothing'[^$]*see .*failed"
    ):
        execute("corpus", StudySettings(model="nothing"), tmp_path / "corpus.ipynb", Store())
    assert [p.name for p in tmp_path.glob("*.ipynb")] == ["corpus.failed.ipynb"]


def test_a_killed_kernel_is_told_and_leaves_nothing(tmp_path, monkeypatch):
    chapter = """---
jupytext:
  text_representation:
    extension: .md
    format_name: myst
kernelspec:
  display_name: Python 3
  language: python
  name: python3
---

```{code-cell} python
:tags: [parameters]
x: int = 9
```

```{code-cell} python
import os
os._exit(x)
```
"""
    (tmp_path / "chapters").mkdir()
    (tmp_path / "chapters" / "dies.md").write_text(chapter)
    monkeypatch.setattr("raretok.book.report.CHAPTERS", tmp_path / "chapters")
    monkeypatch.setenv("RARETOK_STORE", "as before")
    with pytest.raises(RaretokError, match="the kernel of dies died, most likely for lack of memory"):
        execute("dies", None, tmp_path / "out" / "dies.ipynb", Store(tmp_path / "store"))
    assert os.environ["RARETOK_STORE"] == "as before"
    assert not list((tmp_path / "out").iterdir())


def test_an_unknown_chapter_lists_the_right_ones(tmp_path):
    with pytest.raises(RaretokError, match="no chapter nothing: choose from coactivation, corpus"):
        execute("nothing", StudySettings(), tmp_path / "x.ipynb", Store())


def test_links_lead_to_chapters_that_are_there_and_others_become_names(tmp_path):
    path = notebook(
        tmp_path, "one", "see [](regimes.md), [this](weights.md), [](weights.md) and [out](https://a.b/c.md)"
    )
    _place(path, tmp_path / "book" / "one.ipynb", {"one", "regimes"})
    [cell] = nbformat.read(tmp_path / "book" / "one.ipynb", 4).cells
    assert cell.source == "see [](regimes.ipynb), this, *weights* and [out](https://a.b/c.md)"


def test_pages_need_the_book_s_tools(tmp_path, monkeypatch):
    monkeypatch.setattr("sys.executable", str(tmp_path / "python"))
    with pytest.raises(RaretokError, match=r"pip install -e '.\[book\]'"):
        render("title", notebook(tmp_path, "one", "# One"), {}, tmp_path / "html")


def test_the_package_without_its_book_says_so(tmp_path, monkeypatch):
    assert CHAPTERS.is_dir()
    monkeypatch.setattr("raretok.book.report.CHAPTERS", tmp_path)
    with pytest.raises(RaretokError, match="install from a clone"):
        chapter_names()
