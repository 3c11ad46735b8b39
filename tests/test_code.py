"""The digest of a function's code: it changes with whatever the function runs, and with nothing else."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from raretok import code

FILES = {
    "__init__": "",
    "top": '''
        """A module."""
        from raretok import declared
        from raretok.middle import helper, other
        from raretok.package import exported

        BANDS = ("rare", "common")
        """Names of bands."""

        class Shape:
            """A class."""

            def area(self, side):
                return helper(side)

        @declared.table(helper)
        def measure(x, scale=2.0):
            """What is measured."""
            # a comment
            if x < 0:
                raise ValueError(f"x is {x}, below 0")
            return scale * helper(x) + len(BANDS)

        def labels(table):
            return table["rare"]

        def shadowed(other):
            return other(1)

        def local(x):
            other = [exported for exported in x]
            return other

        def defaults(x=exported()):
            return x

        def inside(x):
            from raretok import middle as m

            return m.helper(x)

        def unrelated(x):
            return x + 1
        ''',
    "middle": """
        from .deep import constant as renamed

        def helper(x):
            return renamed() * x

        def other(x):
            return x
        """,
    "deep": """
        def constant():
            return FACTOR

        FACTOR = 3
        UNUSED = 4
        """,
    "declared": """
        def table(*needs):
            return lambda f: f
        """,
    "package/__init__": """
        from raretok.package.part import exported
        """,
    "package/part": """
        def exported():
            return 1
        """,
}


class Tree:
    """A package on disk whose files can be edited."""

    def __init__(self, root: Path) -> None:
        self.root = root
        for name, text in FILES.items():
            self._write(name, text)

    def _write(self, name: str, text: str) -> None:
        lines = text.splitlines()
        indent = min((len(line) - len(line.lstrip()) for line in lines if line.strip()), default=0)
        path = self.root / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(line[indent:] for line in lines) + "\n", encoding="utf-8")

    def edit(self, name: str, before: str, after: str) -> None:
        """Replace some text of a file, which has it."""
        path = self.root / f"{name}.py"
        text = path.read_text(encoding="utf-8")
        assert before in text
        path.write_text(text.replace(before, after), encoding="utf-8")

    def digest(self, name: str, module: str = "raretok.top") -> str:
        """Digest of a function, as a new process would compute it."""
        clear()

        def function() -> None: ...

        function.__module__, function.__qualname__ = module, name
        return code.digest_of(function)


def clear() -> None:
    for cached in (code._parse, code._text, code._references):
        cached.cache_clear()


@pytest.fixture
def tree(tmp_path, monkeypatch):
    monkeypatch.setattr(code, "__file__", str(tmp_path / "raretok" / "code.py"))
    yield Tree(tmp_path / "raretok")
    clear()


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("    # a comment\n", ""),
        ('    """What is measured."""\n', ""),
        ('"""A module."""', '"""Another module."""'),
        ('"""Names of bands."""', '"""Bands, by name."""'),
        ("x is {x}, below 0", "below 0: {x}"),
        ("x is {x}, below 0", "x = {x * scale!r}"),
        ("return scale * helper(x) + len(BANDS)", "return (\n        scale * helper(x)\n        + len(BANDS)\n    )"),
        ("@declared.table(helper)\n", ""),
        ("@declared.table(helper)", "@declared.table(helper, other)"),
    ],
)
def test_comments_docstrings_layout_error_texts_and_declarations_do_not_count(tree, before, after):
    first = tree.digest("measure")
    tree.edit("top", before, after)
    assert tree.digest("measure") == first


@pytest.mark.parametrize(
    ("file", "before", "after"),
    [
        ("top", "scale * helper(x)", "scale + helper(x)"),
        ("top", "scale=2.0", "scale=2.5"),
        ("top", "x < 0", "x <= 0"),
        ("top", "ValueError", "TypeError"),
        ("top", '("rare", "common")', '("rare", "common", "all")'),
        ("middle", "renamed() * x", "renamed() + x"),
        ("deep", "return FACTOR", "return -FACTOR"),
        ("deep", "FACTOR = 3", "FACTOR = 5"),
    ],
)
def test_what_it_runs_counts_however_far_away(tree, file, before, after):
    first = tree.digest("measure")
    tree.edit(file, before, after)
    assert tree.digest("measure") != first


@pytest.mark.parametrize(
    ("file", "before", "after"),
    [
        ("top", "return x + 1", "return x + 2"),
        ("top", 'table["rare"]', 'table["common"]'),
        ("middle", "def other(x):\n    return x", "def other(x):\n    return -x"),
        ("deep", "UNUSED = 4", "UNUSED = 5"),
        ("declared", "lambda f: f", "lambda g: g"),
        ("package/part", "return 1", "return 2"),
    ],
)
def test_what_it_does_not_run_does_not_count(tree, file, before, after):
    first = tree.digest("measure")
    tree.edit(file, before, after)
    assert tree.digest("measure") == first


def test_a_string_that_names_a_band_counts(tree):
    first = tree.digest("labels")
    tree.edit("top", 'table["rare"]', 'table["common"]')
    assert tree.digest("labels") != first


@pytest.mark.parametrize("name", ["shadowed", "local"])
def test_a_parameter_or_local_name_like_one_of_the_module_is_no_reference(tree, name):
    first = tree.digest(name)
    tree.edit("middle", "def other(x):\n    return x", "def other(x):\n    return -x")
    tree.edit("package/part", "return 1", "return 2")
    assert tree.digest(name) == first
    assert code.symbols_of("raretok.top", name) == {("raretok.top", name)}


def test_defaults_are_evaluated_outside_and_names_are_followed_through_packages(tree):
    assert code.symbols_of("raretok.top", "defaults") == {
        ("raretok.top", "defaults"),
        ("raretok.package.part", "exported"),
    }
    first = tree.digest("defaults")
    tree.edit("package/part", "return 1", "return 2")
    assert tree.digest("defaults") != first


def test_of_a_module_that_is_imported_inside_a_function_only_what_it_uses_counts(tree):
    first = tree.digest("inside")
    tree.edit("middle", "def other(x):\n    return x", "def other(x):\n    return -x")
    assert tree.digest("inside") == first
    tree.edit("deep", "FACTOR = 3", "FACTOR = 5")
    assert tree.digest("inside") != first


def test_a_method_counts_with_its_class(tree):
    first = tree.digest("Shape.area")
    tree.edit("top", '    """A class."""\n', "")
    assert tree.digest("Shape") == tree.digest("Shape.area") == first
    tree.edit("middle", "renamed() * x", "renamed() + x")
    assert tree.digest("Shape.area") != first


def test_a_module_outside_the_package_counts_once_it_is_followed(tree, tmp_path, monkeypatch):
    (tmp_path / "plug_in.py").write_text("from raretok.middle import helper\n\ndef mine(x):\n    return helper(x)\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(code, "_followed", set())
    monkeypatch.delitem(sys.modules, "plug_in", raising=False)
    nothing = tree.digest("mine", "plug_in")
    code.follow("plug_in")
    first = tree.digest("mine", "plug_in")
    assert first != nothing
    tree.edit("deep", "FACTOR = 3", "FACTOR = 5")
    assert tree.digest("mine", "plug_in") != first


def test_the_digest_of_several_functions_is_in_no_order(tree):
    def function(name: str) -> Callable[[], None]:
        def stand_in() -> None: ...

        stand_in.__module__, stand_in.__qualname__ = "raretok.top", name
        return stand_in

    measure, labels = function("measure"), function("labels")
    assert code.digest_of(measure, labels) == code.digest_of(labels, measure) != code.digest_of(measure)
