"""Export of the table of all neurons to a file, for tools that prune, edit or steer models."""

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
    """Write ``Study.neuron_table`` in the format that the file's suffix names; the file is written whole or not at all.

    A ``.csv`` file has a row for each neuron. A ``.json`` file has ``about`` and ``neurons``, a list of records in
    which missing numbers are null. A ``.safetensors`` file has a tensor [neuron] for each column (float64, int64 or
    bool; ``direction`` is 1 for boost and −1 for suppress), and ``about`` as metadata.

    Args:
        table: the table, with a row for each neuron.
        path: the file to write.
        about: a description of what the numbers are about: model, step, corpus …

    Raises:
        RaretokError: the file has another suffix, or its folder does not exist.
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
    """Check that a table can be written to a path, before the table is computed.

    Raises:
        RaretokError: the file has another suffix, or its folder does not exist.
    """
    if path.suffix not in FORMATS:
        raise RaretokError(f"{path} is of no known format: choose a name that ends in {', '.join(FORMATS)}")
    if not path.parent.is_dir():
        raise RaretokError(f"the folder {path.parent} does not exist: make it first")
