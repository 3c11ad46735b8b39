"""Numbers of the chapter on where the numbers come from."""

import pandas as pd

from raretok.shipped import provenance


def facts(run_times: pd.DataFrame) -> dict[str, str]:
    """Return the commit, the number of results in a folder, and the minutes that computing them took.

    ``run_times`` is the table ``provenance.run_times``.
    """
    return {
        "commit": provenance.commit(),
        "minutes": f"{run_times['seconds'].sum() / 60:.0f}",
        "entries": f"{run_times['entries'].sum():,}",
    }
