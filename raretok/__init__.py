"""raretok: rare-token neurons in language models, measured exactly and with the controls each claim needs.

>>> from raretok import Study
>>> Study(model="smollm2-135m").identification()  # doctest: +SKIP
"""

from raretok.errors import RaretokError
from raretok.study import Study, StudyConfig

__all__ = ["RaretokError", "Study", "StudyConfig"]
