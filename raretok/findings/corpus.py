"""The token types of a text, and how far the sources of their frequencies agree."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import spearmanr

from raretok.data.frequency import DECILES, UnigramCounts, type_table
from raretok.errors import NotApplicable
from raretok.graph import memory, table
from raretok.measure import inputs
from raretok.model.tokens import learned_order, show_tokens


@memory(inputs.frequency, inputs.tokenizer)
def types(frequency: UnigramCounts, tokenizer: Any) -> pd.DataFrame:
    """List every token type that occurs, see ``data.frequency.type_table``."""
    return type_table(frequency, partial(show_tokens, tokenizer))


@table(inputs.frequency, inputs.frequencies, inputs.tokenizer)
def sources(frequency: UnigramCounts, frequencies: Mapping[str, UnigramCounts | str], tokenizer: Any) -> pd.DataFrame:
    """Compare the sources of the types' frequencies with the one that the study uses, on the text under study.

    Columns: ``source`` (training, merges, words or text), ``used`` (whether the study uses it), ``agreement``
    (Spearman's correlation with the one used, over the types that occur and that both rank), ``shared`` (share of the
    tokens that are rare by the one used that are rare by this one, too), ``early`` (share of its rare tokens whose
    types are in the first half that the tokenizer learned), ``unranked`` (share of the tokens whose types are in no
    band by it), ``reason`` (why it is not there; empty if it is).
    """
    counts = frequencies["text"].counts  # type: ignore[union-attr]
    types = len(counts)  # Counts that are given may have the model's length, which is larger.
    try:
        learned = learned_order(tokenizer, types)
        early = learned > np.nanmedian(learned)
    except NotApplicable:
        early = None
    used = frequency.bands["rare"][:types]
    rows: list[dict[str, Any]] = []
    for name, source in frequencies.items():
        if isinstance(source, str):
            rows.append({"source": name, "used": False, "reason": source})
            continue
        rare = source.bands["rare"][:types]
        ranked = np.logical_or.reduce([source.bands[decile][:types] for decile in DECILES])
        pair = source.ranking[:types], frequency.ranking[:types]
        both = (counts > 0) & np.isfinite(pair).all(0)
        rows.append(
            {
                "source": name,
                "used": source.digest == frequency.digest,
                "agreement": spearmanr(*(ranking[both] for ranking in pair)).statistic,
                "shared": counts[rare & used].sum() / max(counts[used].sum(), 1),
                "early": np.nan if early is None else counts[rare & early].sum() / max(counts[rare].sum(), 1),
                "unranked": 1 - counts[ranked].sum() / counts.sum(),
                "reason": "",
            }
        )
    return pd.DataFrame(rows)
