"""Declared computations on a tiny study: each is computed once and kept, as long as nothing that changes its value
has changed.
"""

import json
from collections import Counter

import numpy as np
import pandas as pd
import pytest
import torch
from transformers import GPT2Config

from raretok import RaretokError, Study, graph
from raretok import code as package_code
from raretok.book.asked import changed
from raretok.errors import NotApplicable
from raretok.graph import Of, arrays, at_every_step, before_training, if_applicable, memory, node_of, source, table
from raretok.measure import inputs
from raretok.model.registry import ModelEntry

ROOM = __name__.rpartition(".")[2]
CALLS: Counter[str] = Counter()
"""How often each function was called."""
ADDED = {"parity": 0}
"""What an edited function adds."""


def numbers(sample):
    CALLS["numbers"] += 1
    return {"x": np.arange(4) + sample}


def parity(numbers):
    CALLS["parity"] += 1
    return pd.DataFrame({"odd": numbers["x"] % 2 + ADDED["parity"]})


def counts(parity, factor=1, extra=None):
    CALLS["counts"] += 1
    return pd.DataFrame({"count": [factor * int(parity["odd"].sum())]})


def drawn(seed):
    CALLS["drawn"] += 1
    return pd.DataFrame({"x": np.random.default_rng(seed).standard_normal(3)})


def half(sample):
    CALLS["half"] += 1
    return sample // 2


def quarter(half):
    CALLS["quarter"] += 1
    return pd.DataFrame({"x": [half // 2]})


def by_hand(step):
    CALLS[f"by_hand at {step}"] += 1
    if step == 4:
        raise NotApplicable("nothing at step 4")
    return pd.DataFrame({"x": [10 * (step or 0)]})


def all_steps(every, start, single):
    CALLS["all_steps"] += 1
    start_x = np.nan if start is None else int(start["x"].iloc[0])
    rows = [{"step": step, "x": int(t["x"].iloc[0])} for step, t in (every or {}).items()]
    return pd.DataFrame(rows, columns=["step", "x"]).assign(start=start_x, skipped=str(getattr(every, "skipped", None)))


def hopeless(numbers):
    CALLS["hopeless"] += 1
    raise NotApplicable("there is nothing to see")


def optional(hopeless):
    CALLS["optional"] += 1
    return pd.DataFrame({"there": [hopeless is not None]})


@pytest.fixture(autouse=True)
def declared(monkeypatch):
    """The functions above as a room; gone after the test."""
    monkeypatch.setattr(package_code, "_followed", {__name__})
    step = source("step")
    arrays(inputs.sample)(numbers)
    table(numbers)(parity)
    table(parity)(counts)
    table()(drawn)
    memory(inputs.sample)(half)
    table(half)(quarter)
    table(step)(by_hand)
    table(if_applicable(at_every_step(by_hand)), before_training(by_hand), by_hand)(all_steps)
    table(numbers)(hopeless)
    table(if_applicable(hopeless))(optional)
    CALLS.clear()
    yield
    for name in [n for n in graph.NODES if n.startswith(f"{ROOM}.")]:
        del graph.NODES[name]


@pytest.fixture
def study(tmp_path):
    """A function that makes a study of a model in memory which nobody reads, as a new process would."""
    model = torch.nn.Linear(2, 2)
    model.config = GPT2Config()

    def make(**settings):
        return Study(model=model, tokenizer=object(), store=tmp_path / "store", **settings)

    return make


@pytest.fixture
def edit(monkeypatch):
    """A function that gives other functions another digest, as if they had been edited."""
    versions: Counter[str] = Counter()
    monkeypatch.setattr(graph, "digest_of", lambda f: f"{f.__name__} {versions[f.__name__]}")
    for node in graph.NODES.values():
        node.__dict__.pop("code", None)

    def change(*functions):
        versions.update(f.__name__ for f in functions)
        for node in graph.NODES.values():
            node.__dict__.pop("code", None)

    return change


def name(function):
    return f"{ROOM}.{function.__name__}"


def test_every_node_is_computed_once_and_kept(study):
    first = study(sample=300)
    assert not first.is_kept(counts)
    assert first.get(counts)["count"].tolist() == [2]
    assert first.table(name(counts))["count"].tolist() == [2]
    assert getattr(first, ROOM).counts()["count"].tolist() == [2]
    assert CALLS == {"numbers": 1, "parity": 1, "counts": 1}
    assert all(first.is_kept(f) for f in (numbers, parity, counts))
    again = study(sample=300)
    pd.testing.assert_frame_equal(again.get(counts), first.get(counts))
    assert CALLS == {"numbers": 1, "parity": 1, "counts": 1}
    # What is kept of a value is asked for, not the value.
    assert again.key(counts) == first.key(counts)
    assert CALLS == {"numbers": 1, "parity": 1, "counts": 1}


def test_values_of_every_kind_come_back_as_they_were(study):
    first, again = study(sample=301), study(sample=301)
    for one in (first, again):
        assert one.get(numbers)["x"].tolist() == [301, 302, 303, 304]
        assert one.get(parity)["odd"].tolist() == [1, 0, 1, 0]
        assert one.get(half) == 150
        assert one.get(inputs.sample) == 301
    assert CALLS["numbers"] == CALLS["parity"] == 1
    assert CALLS["half"] == 2  # in memory alone


def test_a_table_that_is_changed_by_its_user_stays_as_it_was(study):
    one = study(sample=300)
    for ask in (lambda: one.table(name(counts)), getattr(one, ROOM).counts):
        table = ask()
        table["count"] = 0
        assert ask()["count"].tolist() == [2]


def test_a_node_whose_input_comes_out_equal_is_not_computed_again(study, edit):
    study(sample=300).get(counts)
    edit(numbers)
    assert study(sample=300).get(counts)["count"].tolist() == [2]
    assert CALLS == {"numbers": 2, "parity": 1, "counts": 1}
    # Other numbers, of the same parity.
    assert study(sample=302).get(counts)["count"].tolist() == [2]
    assert CALLS == {"numbers": 3, "parity": 2, "counts": 1}


def test_an_edited_node_is_computed_again_and_so_is_what_hangs_on_it_if_its_value_changes(study, edit, monkeypatch):
    study(sample=300).get(counts)
    edit(counts)
    study(sample=300).get(counts)
    assert CALLS == {"numbers": 1, "parity": 1, "counts": 2}
    edit(parity)
    monkeypatch.setitem(ADDED, "parity", 1)
    assert study(sample=300).get(counts)["count"].tolist() == [6]
    assert CALLS == {"numbers": 1, "parity": 2, "counts": 3}


def test_what_hangs_on_a_value_in_memory_hangs_on_its_code(study, edit):
    study(sample=300).get(quarter)
    study(sample=300).get(quarter)
    assert CALLS["quarter"] == 1
    edit(half)
    study(sample=300).get(quarter)
    assert CALLS["quarter"] == 2


def test_only_what_a_node_depends_on_is_in_its_key(study):
    key = study(sample=300, seed=0).key(counts)
    assert study(sample=300, seed=1, windows=99, length=32, device="cuda").key(counts) == key
    assert study(sample=300, seed=0).key(drawn) != study(sample=300, seed=1).key(drawn)
    assert study(sample=300).key(drawn) == study(sample=301).key(drawn)
    assert not study(seed=0).get(drawn).equals(study(seed=1).get(drawn))


def test_parameters_join_the_key_and_the_value(study):
    one = study(sample=300)
    assert one.table(name(counts), factor=3)["count"].tolist() == [6]
    assert one.table(name(counts))["count"].tolist() == [2]
    assert one.table(name(counts), factor=3)["count"].tolist() == [6]
    assert CALLS == {"numbers": 1, "parity": 1, "counts": 2}
    assert one.key(node_of(counts).of(factor=3)) != one.key(counts)
    numpy_number = node_of(counts).of(factor=np.int64(3))
    assert one.key(numpy_number) == one.key(node_of(counts).of(factor=3))


def test_a_parameter_takes_the_place_of_a_need(study):
    given = pd.DataFrame({"odd": [1, 1, 1]})
    assert study().get(node_of(counts).of(parity=Of(study(sample=301), parity)))["count"].tolist() == [2]
    assert CALLS["numbers"] == 1  # the other study's
    assert counts(given)["count"].tolist() == [3]


def test_a_value_of_another_study_joins_the_key(study):
    one = study(sample=300)
    first = node_of(counts).of(extra=Of(study(sample=302), numbers))
    other = node_of(counts).of(extra=Of(study(sample=304), numbers))
    same = node_of(counts).of(extra=Of(study(sample=302), parity))
    equal = node_of(counts).of(extra=Of(study(sample=304), parity))
    assert one.key(first) != one.key(other)
    assert one.key(first) != one.key(counts)
    assert one.key(same) == one.key(equal)  # two studies, one content
    one.get(first)
    one.get(other)
    assert CALLS["counts"] == 2


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (
            lambda s: s.table(f"{ROOM}.nothing"),
            rf"no table '{ROOM}.nothing': choose from {ROOM}.numbers, {ROOM}.parity",
        ),
        (lambda s: s.table("nothing.numbers"), r"no table 'nothing.numbers': choose from .*regimes.*weights"),
        (lambda s: s.table(f"{ROOM}.counts", fctor=2), rf"{ROOM}.counts has no parameter fctor: it has factor, extra"),
        (lambda s: s.table(f"{ROOM}.drawn", draws=2), rf"{ROOM}.drawn has no parameter draws: it has none"),
        (
            lambda s: s.table(f"{ROOM}.numbers"),
            rf"{ROOM}.numbers is no table but dict: use study.get\('{ROOM}.numbers'",
        ),
        (lambda s: getattr(s, ROOM).nothing, rf"no table '{ROOM}.nothing'"),
    ],
)
def test_what_there_is_not_is_an_error_that_lists_what_there_is(study, ask, message):
    with pytest.raises(RaretokError, match=message):
        ask(study(sample=300))


def test_a_room_lists_its_computations_and_a_study_has_no_other_attributes(study):
    assert {"numbers", "parity", "counts"} <= set(dir(getattr(study(), ROOM)))
    with pytest.raises(AttributeError, match="a study has no 'no_room'"):
        _ = study().no_room


def test_what_is_not_applicable_says_so_and_is_none_where_it_is_optional(study):
    one = study(sample=300)
    with pytest.raises(NotApplicable, match="there is nothing to see"):
        one.get(hopeless)
    assert not one.is_kept(hopeless)
    assert one.get(optional)["there"].tolist() == [False]
    study(sample=300).get(optional)
    assert CALLS["optional"] == 1


def trained(study, **settings):
    """A study of a model with checkpoints at steps 0, 4 and 8."""
    one = study(**settings)
    one.inputs.entry = ModelEntry("tiny", "run", "", steps=(0, 4, 8))
    one.inputs.steps = (0, 4, 8)
    return one


def test_a_table_at_every_step_leaves_out_what_does_not_apply_and_says_why(study):
    found = trained(study, step=8).over_training(by_hand)
    assert found.to_dict("list") == {"x": [0, 80], "step": [0, 8]}
    assert found.attrs["skipped"] == {4: "nothing at step 4"}
    with pytest.raises(NotApplicable, match="has no checkpoint"):
        study().over_training(by_hand)


def test_values_of_other_checkpoints_are_needs_like_any_other(study):
    one = trained(study, step=8)
    assert one.get(all_steps)[["step", "x", "start"]].to_numpy().tolist() == [[0, 0, 0], [8, 80, 0]]
    assert "nothing at step 4" in one.get(all_steps)["skipped"].iloc[0]
    assert CALLS["by_hand at 0"] == CALLS["by_hand at 8"] == 1
    again = trained(study, step=8)
    again.get(all_steps)
    assert CALLS["all_steps"] == 1
    alone = study(step=8)
    assert alone.get(all_steps).empty
    assert alone.key(all_steps) != one.key(all_steps)


def test_a_given_seed_is_in_the_key_and_a_set_has_no_order(study):
    one = study(seed=3)
    seeded = node_of(drawn).of
    assert one.key(seeded(seed=3)) == one.key(drawn)
    assert one.key(seeded(seed=5)) != one.key(drawn)
    values = (one.get(drawn), one.get(seeded(seed=5)), study(seed=5).get(drawn))
    assert values[1].equals(values[2])
    assert not values[0].equals(values[1])
    sets = [one.key(node_of(counts).of(extra=group)) for group in ({"b", "a", "c"}, {"c", "b", "a"})]
    assert sets[0] == sets[1]
    assert sets[0]["given"]["extra"] == ["a", "b", "c"]


def test_a_wrapped_need_is_told_from_one_with_other_parameters(study):
    one = study()
    digests = [one.digest(if_applicable(node_of(counts).of(factor=f))) for f in (1, 2)]
    assert digests[0] != digests[1]


def test_a_name_is_declared_once_and_not_in_a_notebook():
    def curves(sample): ...

    curves.__module__ = "mine.regimes"
    graph.load_all()
    with pytest.raises(RaretokError, match="regimes.curves is already declared in raretok.findings.regimes"):
        table()(curves)
    curves.__module__ = "__main__"
    with pytest.raises(RaretokError, match="move it to a .py file"):
        table()(curves)


@pytest.fixture
def noted(models, tmp_path, monkeypatch):
    """A function that returns what a study notes while it is asked."""

    def notes(ask):
        path = tmp_path / "notes"
        monkeypatch.setenv("RARETOK_ASKED", str(path))
        ask(Study(model=models["gpt2"]))
        monkeypatch.delenv("RARETOK_ASKED")
        return path.read_text(encoding="utf-8").splitlines()

    return notes


def test_notes_hold_as_long_as_a_study_would_return_the_same(noted, edit, monkeypatch):
    def ask(asked):
        asked.table(f"{ROOM}.counts", factor=3)

    notes = noted(ask)
    assert len(notes) == 1, "only what is asked for from outside is noted, not what is needed for it"
    pages = {"a": notes, "b": []}
    CALLS.clear()
    assert changed(pages) == []
    assert not CALLS, "what is kept is not computed again"
    edit(parity)
    assert changed(pages) == [], "edited, but what it returns is the same"
    assert CALLS == {"parity": 1}
    monkeypatch.setitem(ADDED, "parity", 1)
    edit(parity)
    assert changed(pages) == ["a"]


def test_notes_tell_results_that_do_not_apply_and_results_of_other_studies(noted, models):
    other = Of(Study(model=models["llama"], seed=5), f"{ROOM}.drawn")

    def ask(asked):
        with pytest.raises(NotApplicable):
            asked.get(f"{ROOM}.hopeless")
        asked.table(f"{ROOM}.optional")
        asked.table(f"{ROOM}.counts", extra=other)

    notes = noted(ask)
    assert [json.loads(n)["name"].partition(".")[2] for n in notes] == ["hopeless", "optional", "counts"]
    assert json.loads(notes[0])["digest"] == "there is nothing to see"
    assert changed({name: [note] for name, note in zip("abc", notes, strict=True)}) == []
    assert changed({"a": [notes[0].replace("nothing", "something")]}) == ["a"]
    assert changed({"a": [notes[2].replace('"seed": 5', '"seed": 6')]}) == ["a"]
    assert changed({"a": [notes[2].replace(".counts", ".gone")]}) == ["a"]
    assert changed({"a": [notes[2].replace('"extra": ', '"factor": "three", "extra": ')]}) == ["a"], "cannot be asked"
