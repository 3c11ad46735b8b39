"""What a forward pass in bfloat16 does to every headline, as measured by ``make precision``."""

from pathlib import Path

import pandas as pd

from raretok.errors import RaretokError

RESULTS = Path(__file__).with_name("precision.csv")
"""One row per claim on the default study: ``id``; and for ``float32`` and ``bfloat16`` each ``controlled``, ``low``,
``high``, ``verdict`` and the ``seconds`` of the effects."""


def precision_table(path: Path = RESULTS) -> pd.DataFrame:
    """Read the results of the last ``make precision``, of the claims that apply.

    Raises:
        RaretokError: the file is missing.
    """
    if not path.is_file():
        raise RaretokError(f"{path} is missing: `make precision` measures it, or clone the book's repository again")
    table = pd.read_csv(path)
    return table[table["verdict float32"] != "not applicable"].reset_index(drop=True)
