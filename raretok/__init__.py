"""raretok: rare-token neurons in language models, measured exactly and with the controls each claim needs.

>>> from raretok import Study
>>> Study(model="smollm2-135m").identification()  # doctest: +SKIP
"""

import os

# Large arrays in large pages (Linux): the ablation passes spend less time on fresh memory. Read when torch first allocates.
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")

from raretok.errors import RaretokError
from raretok.reading import StudyConfig
from raretok.study import Study

__all__ = ["RaretokError", "Study", "StudyConfig"]
