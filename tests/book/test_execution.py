"""Pages run again when they would show something else, and only then."""

import importlib.util
import json
import subprocess
from concurrent.futures import Future
from types import SimpleNamespace

import pytest
from conftest import ROOT

PAGE = """---
kernelspec: {name: python3, display_name: Python 3}
---

```{code-cell}
from raretok.claims.wording import number
number(1.0)
```
"""
NAMES = ("chapters/one", "chapters/two", "chapters/index")


@pytest.fixture
def execution():
    spec = importlib.util.spec_from_file_location("execution", ROOT / "_ext" / "execution.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def book(tmp_path, execution, monkeypatch):
    """A book of three pages of which each has run; ``records()`` reads their records as another build would."""
    pages = {name: tmp_path / f"{name}.md" for name in NAMES}
    (tmp_path / "chapters").mkdir()
    for page in pages.values():
        page.write_text(PAGE, encoding="utf-8")
    state = {"data": "a", "folder": "a", "code": "a"}
    monkeypatch.setattr(execution, "data", lambda root: state["data"])
    monkeypatch.setattr(execution, "folder", lambda root: state["folder"])
    monkeypatch.setattr(execution, "digest", lambda *paths: state["code"])
    app = SimpleNamespace(srcdir=tmp_path, config=SimpleNamespace(nb_execution_cache_path=tmp_path / "cache"))

    def records():
        return execution.Records(app)

    def stale():
        return set(records().stale(pages))

    for name in NAMES:
        records().path(name, "asked").write_text("{}\n{}\n", encoding="utf-8")
        records().ran(name, execution.code_of(pages[name]), "cells")
    return SimpleNamespace(records=records, stale=stale, state=state, pages=pages)


def test_unchanged_pages_are_not_run(book):
    assert book.stale() == set()
    assert book.records().read("chapters/one")["asked"] == ["{}"]


def test_pages_without_a_record_that_can_be_read_are_run(book):
    book.records().path("chapters/one").unlink()
    book.records().path("chapters/two").write_text('{"data": "a', encoding="utf-8")
    assert book.stale() == {"chapters/one", "chapters/two"}


def test_changed_data_runs_every_page_and_a_changed_results_folder_those_that_show_it(book):
    book.state["folder"] = "b"
    assert book.stale() == {"chapters/index"}
    book.state["data"] = "b"
    assert book.stale() == set(NAMES)


@pytest.mark.parametrize("changed", [[], ["chapters/two"]])
def test_after_an_edit_of_the_package_studies_are_asked_again(book, monkeypatch, changed):
    asked = {}

    def ask(command, input, **_):
        asked.update(json.loads(input))
        return SimpleNamespace(returncode=0, stdout=json.dumps(changed))

    monkeypatch.setattr(subprocess, "run", ask)
    book.state["code"] = "b"
    assert book.stale() == {"chapters/index", *changed}
    assert asked == {"chapters/one": ["{}"], "chapters/two": ["{}"]}
    asked.clear()
    assert book.stale() == {"chapters/index", *changed}
    assert list(asked) == changed, "a page that shows the same is as new"


def test_pages_run_again_where_asking_fails(book, monkeypatch):
    monkeypatch.setattr(subprocess, "run", lambda *a, **k: SimpleNamespace(returncode=1, stdout=""))
    book.state["code"] = "b"
    assert book.stale() == set(NAMES)


def test_a_page_whose_cells_are_edited_and_changed_back_is_run_each_time(book, execution, monkeypatch, tmp_path):
    """The cache keeps what both versions showed, but the record is of the later run."""
    ran = []

    class Cells(execution.ExecutionWorkerLocalMProc):
        def __call__(self, page):
            ran.append(page.uri)
            return super().__call__(page)

    class Here:
        def __init__(self, *_):
            pass

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def submit(self, function, *arguments):
            done = Future()
            done.set_result(function(*arguments))
            return done

    monkeypatch.setattr(execution, "ExecutionWorkerLocalMProc", Cells)
    monkeypatch.setattr(execution, "ProcessPoolExecutor", Here)
    place = str(tmp_path / "cache")
    app = SimpleNamespace(srcdir=tmp_path, config=SimpleNamespace(nb_execution_cache_path=place))
    page = book.pages["chapters/one"]
    one = {"chapters/one": page}

    def build():
        records = book.records()
        execution.run(app, records, one, set(records.stale(one)))

    build()
    build()
    assert len(ran) == 1, "unchanged"
    page.write_text(PAGE.replace("number(1.0)", "number(2.0)"), encoding="utf-8")
    build()
    page.write_text(PAGE, encoding="utf-8")
    build()
    assert len(ran) == 3


def test_a_page_whose_own_code_is_edited_is_run_without_asking(book, execution, monkeypatch):
    monkeypatch.setattr(execution, "code_of", lambda page: page.stem)
    monkeypatch.setattr(subprocess, "run", lambda *a, **k: pytest.fail("asked"))
    book.state["code"] = "b"
    assert book.stale() == set(NAMES)


def test_the_code_of_a_page_is_what_its_cells_import(book, execution):
    page = book.pages["chapters/one"]
    before = execution.code_of(page)
    page.write_text(PAGE.replace("number(1.0)", "number(2.0)") + "\nA sentence.\n", encoding="utf-8")
    assert execution.code_of(page) == before
    page.write_text(PAGE.replace("number", "place"), encoding="utf-8")
    assert execution.code_of(page) != before


def test_pages_are_read_again_if_they_ran_since(book, execution, monkeypatch):
    ran = []
    monkeypatch.setattr(execution, "run", lambda app, records, pages, stale: ran.append(stale))
    monkeypatch.setattr(execution, "pages_of", lambda app: book.pages)
    root = book.records().root
    config = SimpleNamespace(nb_execution_mode="cache", nb_execution_cache_path=root / "cache")
    app = SimpleNamespace(srcdir=root, config=config, env=SimpleNamespace())
    assert set(execution.outdated(app)) == set(NAMES), "Sphinx has read none"
    assert execution.outdated(app) == []
    book.records().ran("chapters/two", "code", "cells")
    assert execution.outdated(app) == ["chapters/two"]
    assert ran == [set()] * 3
