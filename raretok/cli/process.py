"""Settings of the operating system's libraries that a command makes before torch and numpy are loaded."""

import ctypes
import io
import os
import sys

ENVIRONMENT = {
    # Many small eigenvalue problems are slower with a thread for each core.
    "OPENBLAS_NUM_THREADS": "1",
    # Threads that wait for each other sleep. Spinning ones keep the others from running where the cores are busy: with
    # three other processes on two cores, a study takes 2.5 times as long as alone instead of 4.2 times.
    "OMP_WAIT_POLICY": "PASSIVE",
    "TOKENIZERS_PARALLELISM": "true",
}
"""Variables that are set unless the user has set them; processes that a command starts inherit them."""
KEEP_FREED = {-1: 2**31 - 1, -3: 2**30}
"""Parameters of glibc's ``mallopt``: memory that large arrays give back is kept for the next (``M_TRIM_THRESHOLD``,
``M_MMAP_THRESHOLD``), because fresh memory has to be cleared first."""


def prepare() -> None:
    """Set what makes commands fast, unless the environment says otherwise, and lets them print any character."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    for stream in (sys.stdout, sys.stderr):  # A terminal that cannot show a character gets its code.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    if sys.platform == "linux" and not any(name.startswith("MALLOC_") for name in os.environ):
        library = ctypes.CDLL(None)
        for parameter, size in KEEP_FREED.items() if hasattr(library, "mallopt") else ():  # musl has none.
            if not library.mallopt(parameter, size):
                library.mallopt(parameter, 2**25)  # Older versions of glibc take no more for the second.
