"""Chapters as papermill notebooks, through the plain command and from Python."""

import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from raretok import RaretokError
from raretok.book.papermill_io import MystHandler, check_parameters, parameter_types, read_chapter, run_chapter

ROOT = Path(__file__).parents[2]
CHAPTERS = sorted(
    p.relative_to(ROOT)
    for p in (ROOT / "chapters").glob("*.md")
    if p.stem not in ("api", "glossary", "related", "references")
)


def papermill(*arguments):
    command = [sys.executable, "-m", "papermill", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT)


@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda p: p.stem)
def test_every_chapter_has_typed_literal_parameters(chapter):
    notebook = read_chapter(ROOT / chapter)
    tags = [c.metadata.get("tags", []) for c in notebook.cells if c.cell_type == "code"]
    assert "parameters" in tags[0]
    assert "parameters-check" in tags[1]
    types = parameter_types(next(c for c in notebook.cells if c.cell_type == "code").source)
    about_a_study = {"model", "step", "corpus", "windows", "seed"}
    # some are about a run of `raretok train`, all its checkpoints, all studies, or costs
    others = {
        "training": {"model"},
        "models": {"results"},
        "scorecard": {"results"},
        "provenance": {"results"},
        "run": {"teraflops", "checkpoints"},
    }
    expected = (others | {"emergence": about_a_study - {"step"}}).get(chapter.stem, about_a_study)
    assert expected <= types.keys()


def test_the_plain_command_runs_a_chapter_on_another_model(models, corpus_file, tmp_path):
    output = tmp_path / "out.ipynb"
    given = ["-p", "model", models["llama"], "-p", "corpus", corpus_file, "-p", "windows", 256, "-p", "length", 64]
    done = papermill("myst://chapters/identification.md", output, *given)
    assert done.returncode == 0, done.stderr
    notebook = nbformat.read(output, 4)
    assert any("raretok-chart" in str(o) for c in notebook.cells for o in c.get("outputs", []))
    assert str(models["llama"]) in next(c.source for c in notebook.cells if "injected-parameters" in c.metadata.tags)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["-p", "modle", "gpt2"], "unknown parameter modle; the parameters are model: str, step: int | None"),
        (["-p", "windows", "many"], "parameter windows is 'many', not int; the parameters are"),
    ],
)
def test_the_plain_command_fails_on_wrong_parameters(tmp_path, given, message):
    done = papermill("myst://chapters/corpus.md", tmp_path / "out.ipynb", *given)
    assert done.returncode != 0
    assert message in done.stderr


def test_python_fails_before_anything_is_written(tmp_path):
    with pytest.raises(RaretokError, match="unknown parameter modle"):
        run_chapter(ROOT / "chapters/corpus.md", tmp_path / "out.ipynb", modle="gpt2")
    with pytest.raises(RaretokError, match="parameter step is '3', not int"):
        run_chapter(ROOT / "chapters/corpus.md", tmp_path / "out.ipynb", step="3")
    assert not list(tmp_path.glob("*.ipynb"))


def test_what_is_not_a_chapter_is_refused(tmp_path):
    with pytest.raises(RaretokError, match="no chapter"):
        read_chapter(tmp_path / "none.md")
    with pytest.raises(RaretokError, match="no cell tagged `parameters`"):
        read_chapter(ROOT / "chapters" / "references.md")
    with pytest.raises(RaretokError, match=r"ends in \.ipynb"):
        MystHandler.write("", "myst://chapters/corpus.md")


def test_parameters_are_checked_by_type():
    types = {"n": "int", "x": "float", "s": "int | None"}
    check_parameters({"n": 1, "x": 1.5, "s": None, "_hidden": 0, "In": []}, types)
    for wrong in ({"n": True}, {"n": 1.0}, {"x": "1"}, {"s": "1"}, {"extra": 1}):
        with pytest.raises(RaretokError, match="the parameters are n: int, x: float"):
            check_parameters({"n": 1, "x": 1.0, "s": None} | wrong, types)
