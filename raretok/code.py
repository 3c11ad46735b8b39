"""Digests of the package's code that a function runs; such a digest is part of the key of every result.

The digest covers the function and every definition of the package that it refers to, directly or through others.
Comments, docstrings, layout and the texts of ``raise`` statements do not count, and neither do declarations, which are
decorators that are themselves a part of the package.
"""

import ast
import hashlib
import importlib.util
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from raretok.errors import RaretokError

PACKAGE = "raretok"
Symbol = tuple[str, str]
"""A module of the package and a name that it defines; the name ``*`` stands for the whole module."""

_followed: set[str] = set()


def follow(module: str) -> None:
    """Count a module outside the package as a part of it, because it declares computations of its own.

    Raises:
        RaretokError: the module is a notebook or a script, which cannot be read again under its name.
    """
    if module == "__main__":
        raise RaretokError(
            "a computation cannot be declared in a notebook or a script, because its key is made from the code of a "
            "module: move it to a .py file and import that"
        )
    if module.partition(".")[0] != PACKAGE:
        _followed.add(module)


@dataclass(frozen=True)
class _Module:
    """A module's definitions by name, and for every imported name the module and the name that it refers to."""

    definitions: dict[str, list[ast.stmt]]
    imports: dict[str, Symbol]


def digest_of(*functions: Callable[..., Any]) -> str:
    """Return the digest of all code of the package that some functions or classes run, as 16 hexadecimal digits."""
    return _digest((f.__module__, f.__qualname__) for f in functions)


def digest_of_imports(source: str) -> str:
    """Return the digest of all code of the package that a notebook or a script imports, directly or through others."""
    imports = [n for n in ast.walk(ast.parse(source)) if isinstance(n, ast.Import | ast.ImportFrom)]
    return _digest(symbol for statement in imports for symbol in _imported("", statement).values())


def _digest(symbols: Iterable[Symbol]) -> str:
    digest = hashlib.sha256()
    for module, name in sorted({reached for symbol in symbols for reached in symbols_of(*symbol)}):
        digest.update(f"{module}:{name}\n{_text(module, name)}\n".encode())
    return digest.hexdigest()[:16]


def symbols_of(module: str, name: str) -> set[Symbol]:
    """Return a definition and all definitions of the package that it refers to, directly or through others."""
    reached: set[Symbol] = set()
    waiting = [(module, name.partition(".")[0])]
    while waiting:
        symbol = waiting.pop()
        if symbol not in reached and (resolved := _resolve(*symbol)) and resolved not in reached:
            reached.add(resolved)
            waiting += _references(*resolved)
    return reached


def _resolve(module: str, name: str) -> Symbol | None:
    """Return where a name is defined, following imports; None if it is not defined in the package."""
    parsed = _parse(module)
    if parsed is None:
        return None
    if name == "*" or name in parsed.definitions:
        return module, name
    if name in parsed.imports:
        return _resolve(*parsed.imports[name])
    return (f"{module}.{name}", "*") if _parse(f"{module}.{name}") else None


@cache
def _references(module: str, name: str) -> tuple[Symbol, ...]:
    """Return the names of the package to which a definition refers directly."""
    parsed = _parse(module)
    assert parsed
    return tuple(dict.fromkeys(s for statement in _statements(module, name) for s in _referred(module, statement)))


def _referred(module: str, statement: ast.stmt) -> Iterator[Symbol]:
    parsed = _parse(module)
    assert parsed
    names = {**parsed.imports, **{d: (module, d) for d in parsed.definitions}}
    for node in ast.walk(statement):
        if isinstance(node, ast.Import | ast.ImportFrom):  # This import is inside a function.
            names |= _imported(module, node)
    visitor = _Globals()
    visitor.visit(statement)
    for name, attribute in visitor.names:
        if name in names:
            target = _resolve(*names[name])
            # A reference to a module's attribute counts as a reference to that attribute alone.
            yield (target[0], attribute) if target and target[1] == "*" and attribute else names[name]


class _Globals(ast.NodeVisitor):
    """The names in a statement that are not local to it, each with the attribute that is accessed on it, if any."""

    def __init__(self) -> None:
        self.names: list[tuple[str, str]] = []
        self._local: list[set[str]] = []

    def visit_Name(self, node: ast.Name) -> None:
        self._refer(node, "")

    def visit_Attribute(self, node: ast.Attribute) -> None:
        if isinstance(node.value, ast.Name):
            self._refer(node.value, node.attr)
        else:
            self.generic_visit(node)

    def _refer(self, node: ast.Name, attribute: str) -> None:
        if not any(node.id in local for local in self._local):
            self.names.append((node.id, attribute))

    def _function(self, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) -> None:
        arguments = node.args
        every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg]
        outside: list[ast.AST | None] = [
            *arguments.defaults,
            *arguments.kw_defaults,
            *(a.annotation for a in every if a),
        ]
        if not isinstance(node, ast.Lambda):
            outside += [node.returns, *node.decorator_list]
        for part in outside:
            if part is not None:
                self.visit(part)
        body = [node.body] if isinstance(node, ast.Lambda) else node.body
        self._local.append({a.arg for a in every if a} | set(_assigned(body)))
        for part in body:
            self.visit(part)
        self._local.pop()

    visit_FunctionDef = visit_AsyncFunctionDef = visit_Lambda = _function

    def _comprehension(self, node: ast.ListComp | ast.SetComp | ast.GeneratorExp | ast.DictComp) -> None:
        self._local.append({n.id for g in node.generators for n in ast.walk(g.target) if isinstance(n, ast.Name)})
        self.generic_visit(node)
        self._local.pop()

    visit_ListComp = visit_SetComp = visit_GeneratorExp = visit_DictComp = _comprehension


SCOPES = (
    ast.FunctionDef,
    ast.AsyncFunctionDef,
    ast.ClassDef,
    ast.Lambda,
    ast.ListComp,
    ast.SetComp,
    ast.GeneratorExp,
    ast.DictComp,
)


def _assigned(body: Sequence[ast.AST]) -> Iterator[str]:
    """Yield the names that a function's body assigns in its own scope."""
    waiting: list[ast.AST] = list(body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
        if not isinstance(node, SCOPES):
            waiting += ast.iter_child_nodes(node)


def _statements(module: str, name: str) -> list[ast.stmt]:
    parsed = _parse(module)
    assert parsed
    if name == "*":
        return [s for statements in parsed.definitions.values() for s in statements]
    return parsed.definitions[name]


@cache
def _text(module: str, name: str) -> str:
    return "\n".join(dict.fromkeys(ast.dump(s) for s in _statements(module, name)))


@cache
def _parse(module: str) -> _Module | None:
    """Return a module of the package without the parts that do not count; None if there is no module of that name."""
    path = _path(module)
    if path is None:
        return None
    tree = ast.parse(path.read_text(encoding="utf-8"))
    imports = {
        name: symbol
        for node in ast.walk(ast.Module([s for s in tree.body if not isinstance(s, DEFINING)], []))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name, symbol in _imported(module, node).items()
    }
    tree = _Strip(imports).visit(tree)
    definitions: dict[str, list[ast.stmt]] = {}
    for statement in tree.body:
        for name in _defined(statement):
            definitions.setdefault(name, []).append(statement)
    return _Module(definitions, imports)


DEFINING = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


def _path(module: str) -> Path | None:
    """Return the file of a module of the package, or of another module that declares computations of its own."""
    if module.partition(".")[0] == PACKAGE:
        base = Path(__file__).parent.joinpath(*module.split(".")[1:])
        return next((p for p in (base.with_suffix(".py"), base / "__init__.py") if p.is_file()), None)
    spec = importlib.util.find_spec(module) if module in _followed else None
    return Path(spec.origin) if spec and spec.origin else None


def _imported(module: str, node: ast.Import | ast.ImportFrom) -> dict[str, Symbol]:
    """Return the names that an import statement brings in from the package."""
    if isinstance(node, ast.Import):
        return {a.asname: (a.name, "*") for a in node.names if a.asname and a.name.partition(".")[0] == PACKAGE}
    source = node.module or ""
    if node.level:
        parent = module.split(".")[: -node.level]
        source = ".".join([*parent, *([source] if source else [])])
    if source.partition(".")[0] != PACKAGE:
        return {}
    return {a.asname or a.name: (source, a.name) for a in node.names}


def _defined(statement: ast.stmt) -> Iterator[str]:
    if isinstance(statement, DEFINING):
        yield statement.name
    elif not isinstance(statement, ast.Import | ast.ImportFrom):
        for node in ast.walk(statement):
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                yield node.id


class _WithoutText(ast.NodeTransformer):
    """A transformer that empties strings, those with fields included."""

    def visit_Constant(self, node: ast.Constant) -> ast.AST:
        return ast.Constant("") if isinstance(node.value, str) else node

    def visit_JoinedStr(self, node: ast.JoinedStr) -> ast.AST:
        return ast.Constant("")


class _Strip(ast.NodeTransformer):
    """A transformer that removes docstrings, the texts of errors, and declarations."""

    def __init__(self, imports: dict[str, Symbol]) -> None:
        self.imports = imports

    def visit_Expr(self, node: ast.Expr) -> ast.AST | None:
        return None if isinstance(node.value, ast.Constant) else self.generic_visit(node)

    def visit_Raise(self, node: ast.Raise) -> ast.AST:
        return _WithoutText().visit(node)

    def _undeclared(self, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> ast.AST:
        node.decorator_list = [d for d in node.decorator_list if not self._declares(d)]
        node = self.generic_visit(node)  # type: ignore[assignment]
        node.body = node.body or [ast.Pass()]
        return node

    visit_FunctionDef = visit_AsyncFunctionDef = visit_ClassDef = _undeclared

    def _declares(self, decorator: ast.expr) -> bool:
        called = decorator.func if isinstance(decorator, ast.Call) else decorator
        while isinstance(called, ast.Attribute):
            called = called.value
        return isinstance(called, ast.Name) and called.id in self.imports
