"""Combine the tables of several checkpoints."""

from collections.abc import Mapping

import pandas as pd


def by_step(tables: Mapping[int, pd.DataFrame]) -> pd.DataFrame:
    """Concatenate the tables of several checkpoints, with the column ``step``."""
    return pd.concat([table.assign(step=step) for step, table in tables.items()], ignore_index=True)
