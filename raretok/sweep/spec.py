"""The specification of a sweep in ``sweep.yml``, and the jobs that it defines."""

import hashlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from raretok.book.report import chapter_names
from raretok.data.text import CORPORA, is_dataset
from raretok.errors import RaretokError
from raretok.measure.settings import StudySettings
from raretok.model.registry import MODELS, ModelEntry, base_of, find_model
from raretok.sweep.summary import Scope

_DEFAULTS = {name: field.default for name, field in StudySettings.model_fields.items()}
_PLACES = ("model", "corpus", "counts")
"""Fields of a study that may be a path."""


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Entry(StudySettings):
    """One item of ``studies``: the settings of its studies, which are those of any study, its steps, and the resources
    of a job.
    """

    model: str
    steps: list[int] | Literal["all", "last"] = Field("last", description="all, last, or a list of training steps")
    claims: Scope = Field("all", description="which claims are judged: all, or those about the rank curve alone")
    chapters: list[str] | None = Field(None, description="executed for its last step; by default the sweep's")
    jobs: int = Field(1, ge=1, le=999, description="over how many jobs the ablations of one study are spread")
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="cuda asks the cluster for a GPU")
    fetch: bool = Field(False, description="download checkpoints that are not here")
    keep: bool = Field(False, description="keep what was downloaded; else a checkpoint goes when its jobs are done")
    memory_mb: int | None = Field(None, ge=500, description="that a job may use; by default by the model's size")
    minutes: int | None = Field(None, ge=1, description="that a job may take; by default by the model's size")

    @field_validator("step")
    @classmethod
    def _no_step(cls, given: int | None) -> None:
        if given is not None:
            raise ValueError(f"give steps: [{given}]")

    @field_validator("steps", mode="before")
    @classmethod
    def _steps(cls, given: Any) -> Any:
        if given in ("all", "last") or (isinstance(given, list) and given and all(type(k) is int for k in given)):
            return given
        raise ValueError("give all, last, or a list of training steps such as [0, 512]")

    def settings(self) -> Iterator[StudySettings]:
        """Yield the settings of a study for each step."""
        entry = find_model(self.model)
        steps: list[int | None] = [None]
        if isinstance(self.steps, list):
            steps = [*self.steps]
        elif self.steps == "all":
            if not entry.steps:
                raise RaretokError(f"{self.model} has no training checkpoints: leave steps out")
            steps = [*entry.steps]
        for step in steps:
            entry.revision(step)
            yield StudySettings(step=step, **self.model_dump(include=set(_DEFAULTS) - {"step"}))


class Sweep(_Strict):
    """The whole of ``sweep.yml``."""

    studies: list[Entry] = Field(min_length=1)
    chapters: list[str] = Field([], description="executed for the last step of every entry, by papermill")
    ahead: int = Field(2, ge=1, description="how many downloaded checkpoints of one model are here at once")

    def jobs(self) -> dict[str, "Job"]:
        """Every study by its name; a study that is listed twice is one job."""
        by_name: dict[str, Job] = {}
        for entry in self.studies:
            configs = list(entry.settings())
            chapters = self.chapters if entry.chapters is None else entry.chapters
            for settings in configs:
                job = Job(settings, entry, tuple(chapters) if settings == configs[-1] else ())
                by_name.setdefault(job.name, job)
        return by_name


@dataclass(frozen=True)
class Job:
    """One study of a sweep, its entry in ``sweep.yml``, and the chapters that are executed for it."""

    settings: StudySettings
    entry: Entry
    chapters: tuple[str, ...]

    @property
    def name(self) -> str:
        """A unique name for files of this study: model, step, corpus, and settings that differ from the defaults."""
        c = self.settings
        parts = [_plain(c.model), *([] if c.step is None else [f"step{c.step}"]), _plain(c.corpus)]
        for name, default in _DEFAULTS.items():
            if name not in ("model", "step", "corpus") and getattr(c, name) != default:
                parts.append(f"{name}{_plain(str(getattr(c, name)))}")
        return "_".join(parts)

    @property
    def shards(self) -> tuple[str, ...]:
        """The parts ``k-n`` over which the ablations are distributed; none if the study is a single job."""
        return tuple(f"{k}-{self.entry.jobs}" for k in range(self.entry.jobs)) if self.entry.jobs > 1 else ()

    @property
    def fetched(self) -> bool:
        """Whether the sweep downloads the weights or the text if necessary."""
        hub = find_model(self.settings.model).kind == "hub"
        return self.entry.fetch and (hub or is_dataset(self.settings.corpus))

    def resources(self, attempt: int = 1) -> dict[str, int]:
        """The resources to request: ``mem_mb``, ``runtime`` (minutes), ``gpu``; the first two grow by attempt."""
        parameters = parameter_count(find_model(self.settings.model))
        memory = self.entry.memory_mb or 3000 + int(6 * parameters / 2**20)
        minutes = self.entry.minutes or 30 + int(60 * parameters / 1e9)
        return {"mem_mb": memory * attempt, "runtime": minutes * attempt, "gpu": int(self.entry.device == "cuda")}


def parameter_count(entry: ModelEntry) -> float:
    """Number of a model's parameters, from the registry or from the size of its files in half precision, else 1e9.

    For an adapter, it is that of its base model.
    """
    if entry.kind == "adapter":
        return parameter_count(base_of(entry))
    if stated := re.fullmatch(r"([\d.]+)([MB])", entry.parameters):
        return float(stated[1]) * {"M": 1e6, "B": 1e9}[stated[2]]
    sizes: dict[Path, int] = {}
    for path in Path(entry.source).rglob("*.safetensors") if entry.kind != "hub" else ():
        if path.name != "state.safetensors":  # the training state of a run
            sizes[path.parent] = sizes.get(path.parent, 0) + path.stat().st_size
    return max(sizes.values()) / 2 if sizes else 1e9


def _plain(value: str) -> str:
    """A value as a part of a file name; a path becomes its last component and a digest of the whole."""
    if re.fullmatch(r"[\w.-]+", value):
        return value
    return re.sub(r"[^\w.-]+", "-", Path(value).name) + "-" + hashlib.sha256(value.encode()).hexdigest()[:6]


def load_sweep(path: Path) -> Sweep:
    """Read and check ``sweep.yml``.

    Raises:
        RaretokError: if there is no such file, it is not YAML, or entries are invalid; the message gives the file, the
            line and the remedy for each.
    """
    if not os.path.isfile(path):
        raise RaretokError(f"no file {path}: give the path of a sweep.yml; the book's repository has one to start from")
    try:
        text = path.read_text(encoding="utf-8")
        content, tree = yaml.safe_load(text), yaml.compose(text, Loader=yaml.SafeLoader)
    except UnicodeDecodeError as error:
        raise RaretokError(f"{path} is not UTF-8 (byte {error.start})") from None
    except OSError as error:
        raise RaretokError(f"{path} cannot be read ({error.strerror or error}): see to its permissions") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise RaretokError(f"{path}:{mark.line + 1 if mark else 1}: not YAML: {problem}") from None
    except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
        # The parser does not handle some invalid content, such as an impossible date, deep nesting, or `!!int ""`.
        raise RaretokError(f"{path}:1: not YAML that can be read: {str(error) or type(error).__name__}") from None
    try:
        sweep = _from_here(Sweep.model_validate(content), path.resolve().parent)
    except ValidationError as error:
        wrong = [(e["loc"], f"{_say(e['loc'])}: {e['msg']}{_hint(e)}") for e in error.errors()]
    else:
        wrong = list(_wrong_names(sweep))
    if wrong:
        raise RaretokError("\n".join(dict.fromkeys(f"{path}:{_line(tree, where)}: {what}" for where, what in wrong)))
    return sweep


def _from_here(sweep: Sweep, folder: Path) -> Sweep:
    """The sweep with absolute paths; paths in ``sweep.yml`` are relative to its own folder, wherever the jobs run."""

    def full(name: str | None) -> str | None:
        return name if _known(name) or not os.path.exists(folder / str(name)) else str(folder / str(name))

    studies = [e.model_copy(update={n: full(getattr(e, n)) for n in _PLACES}) for e in sweep.studies]
    return sweep.model_copy(update={"studies": studies})


def _known(name: str | None) -> bool:
    return name is None or name in MODELS or name in CORPORA


def _say(where: tuple[Any, ...]) -> str:
    return ".".join(str(part) for part in where) or "the file"


def _hint(error: Any) -> str:
    if error["type"] != "extra_forbidden":
        return ""
    known = Sweep if len(error["loc"]) == 1 else Entry
    return f"; known are {', '.join(name for name in known.model_fields if name != 'step')}"


def _wrong_names(sweep: Sweep) -> Iterator[tuple[tuple[Any, ...], str]]:
    """Yield the place and description of every unknown model, step or chapter and path relative to another folder."""
    known = chapter_names()
    for where, chapters in [(("chapters",), sweep.chapters)] + [
        (("studies", k, "chapters"), e.chapters or []) for k, e in enumerate(sweep.studies)
    ]:
        for i, chapter in enumerate(chapters):
            if chapter not in known:
                yield (*where, i), f"no chapter {chapter}: choose from {', '.join(known)}"
    for k, entry in enumerate(sweep.studies):
        for field in _PLACES:
            name = getattr(entry, field)
            if not _known(name) and not os.path.isabs(name) and os.path.exists(name):
                yield ("studies", k, field), f"{name} lies elsewhere: give its path from the folder of this file"
        try:
            list(entry.settings())
        except RaretokError as error:
            yield ("studies", k), str(error)


def _line(node: Any, where: tuple[Any, ...]) -> int:
    """Line of the deepest part of a path of keys that exists in the file."""
    line = 1 if node is None else node.start_mark.line + 1
    for part in where:
        if isinstance(node, yaml.MappingNode):
            item = next(((key, value) for key, value in node.value if key.value == part), None)
            key, node = item if item else (None, None)
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            key = node = node.value[part]
        else:
            break
        if key is None:
            break
        line = key.start_mark.line + 1
    return line
