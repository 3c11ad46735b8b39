"""The repository around a package that is installed from a clone: its chapters, models and settings.

A wheel contains none of these, and ``require`` reports that where one of them is needed.
"""

from pathlib import Path

from raretok.errors import RaretokError

ROOT = Path(__file__).parents[1]
CHAPTERS = ROOT / "chapters"
MODELS = ROOT / "models"
PROFILES = ROOT / "profiles"


def require(path: Path) -> Path:
    """Return a file or folder of the repository.

    Raises:
        RaretokError: the package was installed without it.
    """
    if not path.exists():
        raise RaretokError(f"{path} is missing: it comes with the book's repository, install from a clone of that")
    return path
