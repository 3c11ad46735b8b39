"""The token types of a text and their counts."""

from functools import partial
from typing import Any

import pandas as pd

from raretok.data.frequency import UnigramCounts, type_table
from raretok.graph import memory
from raretok.measure import inputs
from raretok.model.tokens import show_tokens


@memory(inputs.frequency, inputs.tokenizer)
def types(frequency: UnigramCounts, tokenizer: Any) -> pd.DataFrame:
    """List every token type that occurs, see ``data.frequency.type_table``."""
    return type_table(frequency.counts, partial(show_tokens, tokenizer))
