"""Claims on disjoint sets of documents: no document twice, every set a study, and a summary that counts."""

import numpy as np
import pandas as pd
import pytest

from raretok import RaretokError, Study
from raretok.claims import Verdict
from raretok.claims.replication import replicate, replicates, summary


@pytest.fixture
def study(models, corpus_file):
    settings = {"corpus": corpus_file, "windows": 44, "length": 64, "sample": 200, "device": "cpu"}
    return Study(model=models["gpt_neox"], **settings)


def test_sets_share_no_document_and_leave_the_rest_as_it_is(study):
    parts = list(replicates(study, 3))
    documents = [set(p.inputs.windows.document) for p in parts]
    assert all(len(d) >= 20 for d in documents)
    assert sum(map(len, documents)) == len(set().union(*documents))
    assert [p.settings.part for p in parts] == ["1/3", "2/3", "3/3"]
    for part in parts:
        assert part.inputs.frequency.digest == study.inputs.frequency.digest
        assert part.settings.model_copy(update={"part": None}) == study.settings
    keys = {str(p.key("effects.effects")) for p in (*parts, study)}
    assert len(keys) == 4


def test_every_set_is_judged_as_a_study_of_its_own(study):
    study = Study(device="cpu", store=study.store, **study.settings.model_dump() | {"windows": 90})
    verdicts = replicate(study, 2, ["C1", "C22"])
    assert verdicts[["id", "set"]].to_numpy().tolist() == [["C1", 1], ["C22", 1], ["C1", 2], ["C22", 2]]
    settings = study.settings.model_dump() | {"part": "2/2"}
    alone = Study(device="cpu", store=study.store, **settings).claims(["C1", "C22"])
    pd.testing.assert_frame_equal(verdicts[verdicts["set"] == 2].drop(columns="set").reset_index(drop=True), alone)
    rows = summary(verdicts).set_index("id")
    assert rows["of"].tolist() == [2, 2]
    means = verdicts.groupby("id", sort=False)["controlled"].mean()
    assert np.allclose(rows["mean"], means, equal_nan=True)


def test_of_verdicts_as_frequent_the_most_cautious_is_named():
    said = [Verdict.SUPPORTED, Verdict.NULL, Verdict.SUPPORTED, Verdict.NULL]
    table = pd.DataFrame({"id": "C1", "claim": "a", "set": range(4), "verdict": said, "controlled": [1.0, 2, 3, 4]})
    [row] = summary(table).to_dict("records")
    assert (row["most"], row["sets"], row["of"], row["mean"]) == (Verdict.NULL, 2, 4, 2.5)


@pytest.mark.parametrize(
    ("change", "sets", "message"),
    [
        ({}, 1, "1 set of documents is no replication: ask for at least 2"),
        ({"part": "1/2"}, 2, "the study is on part 1/2 of the documents already: leave part out"),
    ],
)
def test_what_is_no_replication_is_told(study, change, sets, message):
    asked = Study(device="cpu", **study.settings.model_dump() | change)
    with pytest.raises(RaretokError, match=message):
        list(replicates(asked, sets))


@pytest.mark.parametrize(("part", "message"), [("3/2", "there is no part 3 of 2"), ("half", "String should match")])
def test_a_part_that_is_none_is_told(study, part, message):
    with pytest.raises(RaretokError, match=message):
        Study(**study.settings.model_dump() | {"part": part})


def test_given_windows_have_no_parts(study):
    windows = study.inputs.windows
    given = Study(study.settings.model, (windows.tokens, windows.document), part="1/2", device="cpu")
    with pytest.raises(RaretokError, match="the windows are given, without documents to take a part of"):
        _ = given.inputs.windows
