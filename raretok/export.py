"""The table of all neurons as a file, for tools that prune, edit or steer."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
from safetensors import SafetensorError
from safetensors.numpy import save_file

from raretok.errors import RaretokError
from raretok.store import replacing

FORMATS = (".csv", ".json", ".safetensors")


def write_neurons(table: pd.DataFrame, path: Path, about: dict[str, str]) -> None:
    """Write ``Study.neuron_table`` in the format that the file's suffix names; a file is complete or not there.

    ``.csv``: a row a neuron. ``.json``: ``about`` and ``neurons``, a list of records; missing numbers are null. ``.safetensors``: a tensor [neuron] for each column (float64, int64 or bool; ``direction``: 1 boost, −1 suppress), ``about`` as metadata.

    Args:
        table: a row a neuron.
        path: where to.
        about: what the numbers are of: model, step, corpus …

    Raises:
        RaretokError: another suffix, or a folder that does not exist.
    """
    check_target(path)
    try:
        with replacing(path) as draft:
            if path.suffix == ".csv":
                table.to_csv(draft, index=False, float_format="%.9g")
            elif path.suffix == ".json":
                records = [{k: None if v != v else v for k, v in row.items()} for row in table.to_dict("records")]
                draft.write_text(json.dumps({"about": about, "neurons": records}, indent=1) + "\n", encoding="utf-8")
            else:
                numbers = table.assign(direction=np.where(table["direction"] == "boost", 1, -1))
                save_file({str(c): np.ascontiguousarray(numbers[c].to_numpy()) for c in numbers}, draft, metadata=about)
    except (OSError, SafetensorError) as error:
        raise RaretokError(f"{path} cannot be written: {getattr(error, 'strerror', None) or error}") from None


def check_target(path: Path) -> None:
    """Whether a table can be written there, asked before it is computed.

    Raises:
        RaretokError: another suffix, or a folder that does not exist.
    """
    if path.suffix not in FORMATS:
        raise RaretokError(f"{path} is of no known format: choose a name that ends in {', '.join(FORMATS)}")
    if not path.parent.is_dir():
        raise RaretokError(f"the folder {path.parent} does not exist: make it first")
