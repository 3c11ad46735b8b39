"""Adding a finding is one file: a computation and a claim that are declared are everywhere, with no other edit."""

import importlib.util
import sys

import pandas as pd
import pytest
from typer.testing import CliRunner

from raretok import Study
from raretok.charts import claims as say
from raretok.claims import all_claims, questions
from raretok.claims.calibration import calibration_table, simulations, try_rules
from raretok.claims.declaration import REGISTERED
from raretok.cli import app
from raretok.graph import NODES

SOURCE = '''"""Is the mean effect on rare targets positive?"""

import pandas as pd

from raretok.claims import Estimate, Judgement, Simulation, Verdict, claim
from raretok.graph import table
from raretok.measure.effects import band_sums
from raretok.stats.resampling import ratio
from raretok.stats.streams import stream
from raretok.stats.sums import SplitHalfSums

QUESTION = "Do neurons help on average?"


@table(band_sums)
def mean_effect(sums: SplitHalfSums) -> pd.DataFrame:
    """Mean net effect over all neurons, in nats, and how many there are."""
    net = ratio(*sums.of("rare"))
    return pd.DataFrame({"mean": [net.mean()], "neurons": [len(net)]})


def simulated(sign, _, seed):
    """A mean of that sign, with noise."""
    return {mean_effect: pd.DataFrame({"mean": [sign + 0.1 * stream(seed, "toy").standard_normal()], "neurons": [9]})}


def material(study):
    """Nothing of a study."""


def positive(_, seed):
    """A set in which the claim is true."""
    return simulated(1.0, _, seed)


def negative(_, seed):
    """A set in which it is untrue."""
    return simulated(-1.0, _, seed)


@claim(
    "X1",
    "neurons help on average",
    source="nobody",
    reported="–",
    quantity="mean effect (nats)",
    reads=(mean_effect,),
    nulls=[Simulation("mean below 0", material, negative)],
    plants=[Simulation("mean above 0", material, positive)],
)
def helps(found: pd.DataFrame) -> Judgement:
    """X1: the mean is above 0."""
    mean = float(found["mean"].iloc[0])
    verdict = Verdict.SUPPORTED if mean > 0 else Verdict.NOT_SUPPORTED
    return Judgement(verdict, "by its sign", controlled=Estimate(mean), n=int(found["neurons"].iloc[0]))
'''


@pytest.fixture
def finding(tmp_path):
    """One new file, imported; gone after the test."""
    path = tmp_path / "toy_finding.py"
    path.write_text(SOURCE)
    spec = importlib.util.spec_from_file_location("toy_finding", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules["toy_finding"] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules["toy_finding"], REGISTERED["X1"], NODES["toy_finding.mean_effect"]


@pytest.fixture
def settings(models, corpus_file):
    return {"model": str(models["gpt2"]), "corpus": str(corpus_file), "windows": 120, "length": 64, "sample": 300}


def test_one_new_file_is_in_tables_claims_explanations_calibration_and_scorecard(finding, settings):
    study = Study(**settings)
    [row] = study.table("toy_finding.mean_effect").to_dict("records")
    assert row["neurons"] == 128
    pd.testing.assert_frame_equal(study.toy_finding.mean_effect(), study.table("toy_finding.mean_effect"))
    claims = study.claims(("C1", "X1"))
    assert list(claims["id"]) == ["C1", "X1"]
    assert claims["controlled"].iloc[1] == row["mean"]
    assert questions()["toy_finding"] == "Do neurons help on average?"
    options = [x for k, v in settings.items() if k != "model" for x in (f"--{k}", str(v))]
    explained = CliRunner().invoke(app, ["explain", settings["model"], "X1", *options])
    assert explained.exit_code == 0, explained.output
    assert "rule: toy_finding.helps" in explained.output
    assert "toy_finding.mean_effect: kept as a table" in explained.output
    tried = {key: s for key, s in simulations().items() if key[0] == "toy_finding"}
    assert len(tried) == 2
    for key, expected in (
        (("toy_finding", "mean above 0"), "supported"),
        (("toy_finding", "mean below 0"), "not supported"),
    ):
        assert [(r["id"], str(r["verdict"])) for r in try_rules(key, 0, None)] == [("X1", expected)]
    assert "X1" in calibration_table([c.id for c in all_claims()])["rule"].tolist()
    page = say.scorecard(claims, "one").to_html()
    assert "X1 neurons help on average" in page
    assert "X1 " in say.at_a_glance(claims.assign(study="one")).to_html()


def test_an_edit_of_the_new_file_is_noticed(finding, settings, tmp_path):
    from raretok import code

    before = NODES["toy_finding.mean_effect"].code
    path = tmp_path / "toy_finding.py"
    path.write_text(SOURCE.replace("net.mean()", "net.sum()"))
    code._parse.cache_clear()
    code._text.cache_clear()
    code._references.cache_clear()
    assert code.digest_of(finding.mean_effect) != before
