"""raretok: rare-token neurons in language models, measured exactly and with the controls each claim needs.

>>> from raretok import Study
>>> Study(model="smollm2-135m").identification.rare_token_neurons()  # doctest: +SKIP
"""

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from raretok.errors import NotApplicable, RaretokError
    from raretok.measure.settings import StudySettings
    from raretok.study import Study

# Large arrays use large pages (Linux), so that the ablation passes spend less time on fresh memory. Torch reads the
# setting when it first allocates.
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")

__all__ = ["NotApplicable", "RaretokError", "Study", "StudySettings"]
_HOMES = {"Study": "study", "StudySettings": "measure.settings", "RaretokError": "errors", "NotApplicable": "errors"}


def __getattr__(name: str) -> Any:
    """Load what is asked for: importing the package loads neither torch nor transformers."""
    if name in _HOMES:
        return getattr(import_module(f"raretok.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'raretok' has no attribute {name!r}")
