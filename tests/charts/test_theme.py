"""What a page draws is what the chart says, however its tables are written."""

import json
import re

import altair as alt
import pandas as pd
import pytest
import vl_convert

from raretok.charts import theme

TABLES = {
    "numbers, texts, truth": {"x": [1, 2.5, -3e-9], "y": ["a,b", 'say "so"', "two\nlines"], "c": [True, False, True]},
    "missing": {"x": [1.0, None, 3.0], "y": ["a", None, "7"], "c": [None, None, None]},
    "empty text": {"x": [1, 2], "y": ["", "b"], "c": ["1", "2"]},
    "a return": {"x": [1, 2], "y": ["a\rb", "b"], "c": ["1", "2"]},
    "markup": {"x": [1, 2], "y": ["</script>", "<b>"], "c": [" ", "−"]},
    "one column": {"x": [1.0, None, 2.0]},
}


def drawn(page: str) -> dict:
    """The specification that a page holds."""
    return json.loads(re.search(r'<script type="application/json">(.*?)</script>', page, re.DOTALL)[1])


@pytest.mark.parametrize("name", TABLES)
def test_a_page_draws_the_same_as_the_chart(name):
    table = pd.DataFrame(TABLES[name])
    encoded = {"y": "y:N", "color": "c:N"} if "y" in table else {}
    chart = alt.Chart(table).mark_point().encode(x="x:Q", **encoded)
    both = alt.layer(chart, chart.mark_line()).properties(width=200)
    spec = both.to_dict()
    page = drawn(theme._mimebundle(spec)["text/html"])
    assert vl_convert.vegalite_to_svg(page, vl_version="6.4") == vl_convert.vegalite_to_svg(spec, vl_version="6.4")


def test_a_table_is_written_as_csv_where_that_keeps_it():
    kept = theme._packed({"datasets": {"d": [{"x": 1, "y": "a"}, {"x": None, "y": "b"}]}, "data": {"name": "d"}})
    assert kept["datasets"]["d"] == "x,y\n1,a\n,b\n"
    assert kept["data"] == {"name": "d", "format": {"type": "csv", "parse": {"x": "number", "y": "string"}}}
    for rows in ([{"y": ""}], [{"y": "a"}, {"y": 1}], [{"y": [1]}], [{"a.b": 1}]):
        same = {"datasets": {"d": rows}, "data": {"name": "d"}}
        assert theme._packed(same) == same


def test_rounding_keeps_what_it_is_not_asked_for():
    table = theme.rounded(pd.DataFrame({"a": [1.23456, 0.000123456], "b": [1.23456, 7.0]}), ["a"])
    assert table["a"].tolist() == [1.23, 0.000123]
    assert table["b"].tolist() == [1.23456, 7.0]
