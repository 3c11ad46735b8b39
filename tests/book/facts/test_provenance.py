"""Facts of the chapter on where the numbers come from."""

import pandas as pd

from raretok.book.facts import provenance
from raretok.shipped.provenance import run_times
from raretok.store import Store


def test_entries_and_minutes_are_those_of_the_folder(tmp_path):
    store = Store(tmp_path)
    for key in range(3):
        store.table("a", {"key": key}, lambda: pd.DataFrame({"x": [1]}))
    store.table("b", {}, lambda: pd.DataFrame({"x": [1]}))
    facts = provenance.facts(run_times(store))
    assert facts["entries"] == "4"
    assert facts["minutes"] == "0"
    assert facts["commit"]


def test_minutes_are_summed_and_rounded():
    times = pd.DataFrame({"result": ["a", "b"], "entries": [1_000, 500], "seconds": [3_000.0, 615.0]})
    facts = provenance.facts(times)
    assert facts["entries"] == "1,500"
    assert facts["minutes"] == "60"
    assert all(isinstance(value, str) for value in facts.values())
