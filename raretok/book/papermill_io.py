"""Chapters as papermill notebooks: ``papermill myst://chapters/identification.md out.ipynb -p model gpt2``.

Papermill cannot read MyST, and it only warns about parameters that a notebook does not have. The handler registered
here (entry point group ``papermill.io``) reads a chapter through jupytext and puts a cell after its parameters. That
cell fails, with the list of valid parameters, when an unknown or wrongly typed parameter was injected.
"""

import ast
import logging
from collections.abc import Mapping
from functools import reduce
from operator import or_
from pathlib import Path
from typing import Any, Literal, get_origin

import jupytext
import nbformat
from pydantic import ConfigDict, TypeAdapter, ValidationError

from raretok.errors import RaretokError
from raretok.measure.settings import StudySettings

SCHEME = "myst://"
_TYPES: dict[str, Any] = {"int": int, "float": float, "str": str, "bool": bool, "None": None}
_NOTEBOOK_NAMES = {"In", "Out", "exit", "quit", "open", "get_ipython", "check_parameters"}


class MystHandler:
    """The papermill handler of the scheme ``myst://``."""

    @classmethod
    def read(cls, path: str) -> str:
        """Return the chapter as notebook JSON, with the check after its parameters."""
        return str(nbformat.writes(read_chapter(path.removeprefix(SCHEME))))

    @classmethod
    def listdir(cls, path: str) -> list[str]:
        """Return the names in a folder of chapters."""
        return sorted(p.name for p in Path(path.removeprefix(SCHEME)).iterdir())

    @classmethod
    def write(cls, buf: str, path: str) -> None:
        """Refuse to write, because a chapter is a source, whereas its executed form is an ``.ipynb``."""
        raise RaretokError(f"cannot write {path}: give the output a path that ends in .ipynb")

    @classmethod
    def pretty_path(cls, path: str) -> str:
        """Return the path as it is shown."""
        return path


def read_chapter(path: str | Path) -> Any:
    """Return a chapter as a notebook, with the check after its parameters.

    A chapter about a study takes every setting of a study; its cell need not list those that have their defaults.

    Raises:
        RaretokError: there is no such file, or it has no cell tagged ``parameters``.
    """
    if not Path(path).is_file():
        raise RaretokError(f"no chapter {path}: give the path of a .md file under chapters/")
    notebook = jupytext.read(path)
    for index, cell in enumerate(notebook.cells):
        if "parameters" in cell.metadata.get("tags", []):
            cell.source = _with_all_settings(cell.source)
            check = nbformat.v4.new_code_cell(
                "from raretok.book.papermill_io import check_parameters\n"
                f"check_parameters(globals(), {parameter_types(cell.source)!r})",
                metadata={"tags": ["parameters-check", "remove-cell"]},
            )
            check.id = "parameters-check"
            notebook.cells.insert(index + 1, check)
            return notebook
    raise RaretokError(f"{path} has no cell tagged `parameters`: it cannot be parameterized")


def _with_all_settings(source: str) -> str:
    """Add the settings that a parameters cell about a study does not list."""
    listed, fields = parameter_types(source), StudySettings.model_fields
    if not {"model", "corpus"} <= set(listed):
        return source
    rest = [
        f"{name}: {_annotation(field.annotation)} = {field.default!r}"
        for name, field in fields.items()
        if name not in listed
    ]
    return "\n".join([source.rstrip(), *rest])


def _annotation(kind: Any) -> str:
    if get_origin(kind) is Literal:
        return "str"
    return kind.__name__ if isinstance(kind, type) else str(kind)


def parameter_types(source: str) -> dict[str, str]:
    """Return the annotation of each variable in a parameters cell, such as ``{"step": "int | None"}``."""
    statements = [node for node in ast.parse(source).body if isinstance(node, ast.AnnAssign)]
    return {ast.unparse(node.target): ast.unparse(node.annotation) for node in statements}


def chapter_parameters(chapter: str | Path) -> dict[str, str]:
    """Return the annotation of each parameter of a chapter; empty if it has no cell tagged ``parameters``.

    The format is that of ``parameter_types``.
    """
    cells = [c for c in jupytext.read(chapter).cells if "parameters" in c.metadata.get("tags", [])]
    return parameter_types(_with_all_settings(cells[0].source)) if cells else {}


def check_parameters(given: Mapping[str, Any], types: Mapping[str, str]) -> None:
    """Fail unless the variables are exactly the parameters and each has its type.

    Args:
        given: the notebook's variables right after its parameters.
        types: annotations of the parameters.

    Raises:
        RaretokError: a parameter is unknown or wrongly typed; the message lists the valid ones.
    """
    valid = "; the parameters are " + ", ".join(f"{name}: {kind}" for name, kind in types.items())
    unknown = sorted(n for n in given if not n.startswith("_") and n not in _NOTEBOOK_NAMES and n not in types)
    if unknown:
        raise RaretokError(f"unknown parameter {', '.join(unknown)}{valid}")
    for name, kind in types.items():
        try:
            annotation = reduce(or_, (_TYPES[part] for part in kind.split(" | ")))
            TypeAdapter(annotation, config=ConfigDict(strict=True)).validate_python(given[name])
        except ValidationError:
            raise RaretokError(f"parameter {name} is {given[name]!r}, not {kind}{valid}") from None


def run_chapter(chapter: str | Path, output: str | Path, **parameters: Any) -> Any:
    """Execute a chapter with some of its parameters changed, as the ``papermill`` command does.

    Args:
        chapter: the path of the ``.md`` file.
        output: the path of the executed ``.ipynb``.
        parameters: values for variables of its parameters cell.

    Returns:
        The executed notebook.

    Raises:
        RaretokError: a parameter is unknown or wrongly typed; nothing has been executed or written by then.
    """
    import papermill

    notebook = read_chapter(chapter)
    [cell] = [c for c in notebook.cells if "parameters" in c.metadata.get("tags", [])]
    defaults: dict[str, Any] = {}
    for node in ast.parse(cell.source).body:
        if isinstance(node, ast.AnnAssign) and node.value is not None:
            defaults[ast.unparse(node.target)] = ast.literal_eval(node.value)
    check_parameters(defaults | parameters, parameter_types(cell.source))
    # It takes parameters of several types for unknown; they have just been checked.
    logging.getLogger("papermill").setLevel(logging.ERROR)
    return papermill.execute_notebook(f"{SCHEME}{chapter}", str(output), parameters=parameters)
