"""Every architecture of the book's table is exact against hooks on the plain model, or refused as the table says."""

import importlib.util

import pytest
from conftest import ROOT

from raretok.model.architecture import tried

spec = importlib.util.spec_from_file_location("architectures", ROOT / "benchmarks" / "architectures.py")
architectures = importlib.util.module_from_spec(spec)
spec.loader.exec_module(architectures)
TABLE = tried().set_index(["family", "variant"])


def test_the_table_has_every_family_that_is_tried():
    assert list(TABLE.index) == [family[:2] for family in architectures.FAMILIES]
    assert (TABLE["form"] != "refused").sum() >= 60


@pytest.mark.parametrize("family", architectures.FAMILIES, ids=lambda f: f"{f[0]} {f[1]}".strip())
def test_a_family_is_exact_or_refused_as_the_table_says(family):
    row, listed = architectures.compare(*family), TABLE.loc[family[:2]]
    assert row["form"] == listed["form"]
    assert row["why"] == listed["why"]
    if row["form"] != "refused":
        assert row["error"] < (1e-5 if family[0] in architectures.SINGLE else 1e-10)
        assert row["outside"] == 0
