"""Facts of the glossary against the constants that they name."""

from raretok.book.facts import glossary
from raretok.data.frequency import RARE_MASS
from raretok.findings.groups import DRAWS


def test_thresholds_are_those_in_use():
    numbers = glossary.facts()
    assert all(isinstance(value, str) for value in numbers.values())
    assert float(numbers["rare_limit"].removesuffix("%")) / 100 == RARE_MASS
    assert int(numbers["draws"].replace(",", "")) == DRAWS
