import importlib.metadata
import json
import logging
import multiprocessing
import os
import shutil
import signal
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from raretok import RaretokError
from raretok.store import Store, default_root, hash_of

TABLE = pd.DataFrame({"neuron": [1, 2], "net": [0.5, -0.25]})


def test_a_table_is_computed_once(tmp_path):
    calls = []

    def compute():
        calls.append(1)
        return TABLE

    for _ in range(3):
        pd.testing.assert_frame_equal(Store(tmp_path).table("t", {"a": 1}, compute), TABLE)
    assert len(calls) == 1
    Store(tmp_path).table("t", {"a": 2}, compute)
    assert len(calls) == 2


def test_arrays_come_back_as_they_were(tmp_path):
    made = {"x": np.arange(6.0).reshape(2, 3), "n": np.array([1, 2])}
    store = Store(tmp_path)
    store.arrays("a", {}, lambda: made)
    again = store.arrays("a", {}, lambda: pytest.fail("computed twice"))
    assert all((again[k] == made[k]).all() and again[k].dtype == made[k].dtype for k in made)


@pytest.mark.parametrize("damage", ["flip", "cut", "delete", "manifest", "no manifest"])
def test_a_damaged_entry_is_noticed_and_computed_again(tmp_path, damage, caplog):
    store = Store(tmp_path)
    store.table("t", {}, lambda: TABLE)
    folder = store.path("t", {})
    file, manifest = folder / "table.parquet", folder / "manifest.json"
    data = bytearray(file.read_bytes())
    if damage == "flip":
        data[len(data) // 2] ^= 1
        file.write_bytes(data)
    elif damage == "cut":
        file.write_bytes(data[:-7])
    elif damage == "delete":
        file.unlink()
    elif damage == "manifest":
        manifest.write_text("[1")
    else:
        manifest.unlink()
    with caplog.at_level(logging.WARNING):
        pd.testing.assert_frame_equal(store.table("t", {}, lambda: TABLE * 1), TABLE)
    assert "damaged" in caplog.text
    assert json.loads(manifest.read_text())["files"].keys() == {"table.parquet"}


def test_a_failed_computation_leaves_nothing(tmp_path):
    def fail():
        raise RaretokError("no")

    with pytest.raises(RaretokError):
        Store(tmp_path).table("t", {}, fail)
    assert not list((tmp_path / "t").iterdir())


def _killed(root: Path) -> None:
    def compute() -> pd.DataFrame:
        os.kill(os.getpid(), signal.SIGKILL)
        return TABLE

    Store(root).table("t", {}, compute)


def test_a_killed_computation_is_never_read(tmp_path):
    process = multiprocessing.get_context("spawn").Process(target=_killed, args=(tmp_path / "s",))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    pd.testing.assert_frame_equal(Store(tmp_path / "s").table("t", {}, lambda: TABLE), TABLE)


def test_a_second_writer_yields_to_the_first(tmp_path):
    store = Store(tmp_path)

    def compute():
        Store(tmp_path).table("t", {}, lambda: TABLE)
        return TABLE * 2

    pd.testing.assert_frame_equal(store.table("t", {}, compute), TABLE)


def test_an_unwritable_folder_says_so(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RaretokError, match="cannot be written .*RARETOK_STORE"):
        Store(tmp_path / "file" / "store").table("t", {}, lambda: TABLE)


def test_keys_see_every_input_and_no_order():
    assert hash_of({"a": 1, "b": None}) == hash_of({"b": None, "a": 1})
    assert len({hash_of({"a": v}) for v in (1, "1", 1.5, None, [1])}) == 5


def test_equal_content_has_one_digest_whatever_it_was_made_from(tmp_path):
    store = Store(tmp_path)
    assert store.content("t", {"a": 1}) is None
    store.table("t", {"a": 1}, lambda: TABLE)
    store.table("t", {"a": 2}, lambda: TABLE * 1)
    store.table("t", {"a": 3}, lambda: TABLE * 2)
    first, second, third = (store.content("t", {"a": k}) for k in (1, 2, 3))
    assert first == second != third


def test_a_manifest_says_in_words_what_an_entry_is_of_and_words_are_in_no_key(tmp_path):
    store = Store(tmp_path)
    store.table("t", {}, lambda: TABLE, {"model": "small"})
    store.table("t", {}, lambda: pytest.fail("computed again"), {"model": "the same"})
    [(_, manifest)] = store.manifests()
    assert manifest["about"] == {"model": "small"}
    assert manifest["versions"]["torch"] == importlib.metadata.version("torch")


def test_where_results_go(tmp_path, monkeypatch):
    monkeypatch.delenv("RARETOK_STORE")
    (tmp_path / "book" / "chapters").mkdir(parents=True)
    (tmp_path / "book" / "_toc.yml").touch()
    monkeypatch.chdir(tmp_path / "book" / "chapters")
    assert default_root() == tmp_path / "book" / ".raretok"
    monkeypatch.setenv("RARETOK_STORE", "/elsewhere")
    assert default_root() == Path("/elsewhere")


@pytest.mark.parametrize("kept", ["table", "arrays"])
def test_an_entry_that_is_replaced_while_it_is_read_is_read_again(tmp_path, monkeypatch, kept):
    store, made = Store(tmp_path), []
    values = {"table": pd.DataFrame({"x": [1.0]}), "arrays": {"x": np.ones(3)}}

    def compute():
        made.append(1)
        return values[kept]

    whole = Store.entry

    def entry(self, *arguments):
        folder = whole(self, *arguments)
        if len(made) == 1:
            shutil.rmtree(folder)  # Another process moves it aside.
        return folder

    monkeypatch.setattr(Store, "entry", entry)
    found = getattr(store, kept)("kind", {"number": 1}, compute)
    assert len(made) == 2
    assert float(found["x"][0]) == 1
