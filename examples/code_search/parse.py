"""From source to definitions, imports and docstrings. Runs in the worker processes, so it imports little."""

import ast
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

Scope = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
KINDS = {ast.ClassDef: "class", ast.FunctionDef: "function", ast.AsyncFunctionDef: "coroutine"}


# A file's path and what it holds.
Source = tuple[str, bytes]


class Definition(NamedTuple):
    """A module, class or function, by its qualified name in its file. A tuple, as thousands are pickled."""

    kind: str
    name: str
    line: int
    docstring: str


@dataclass(frozen=True, slots=True)
class ParsedFile:
    """What one file holds. With an error, the file does not parse and the rest is empty."""

    path: str
    module: str
    definitions: tuple[Definition, ...] = ()
    imports: frozenset[str] = frozenset()
    error: str | None = None
    seconds: float = 0.0


def parse_source(named: Source) -> ParsedFile:
    """Parse one file; `seconds` is the processor time it took."""
    started = time.process_time()
    path, source = named
    module, is_package = module_name(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(source)
        definitions = (
            Definition("module", module, 1, ast.get_docstring(tree) or ""),
            *find_definitions(tree),
        )
        imports = frozenset(find_imports(tree, module if is_package else module.rpartition(".")[0]))
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        reason = f"{type(error).__name__}: {error}"
        return ParsedFile(path, module, error=reason, seconds=time.process_time() - started)
    return ParsedFile(path, module, definitions, imports, seconds=time.process_time() - started)


def module_name(path: str) -> tuple[str, bool]:
    """The dotted name under which `path` is imported, and whether it is a package."""
    parts = path.removesuffix(".py").split("/")
    is_package = parts[-1] == "__init__" and len(parts) > 1
    return ".".join(parts[:-1] if is_package else parts), is_package


def walk_statements(tree: ast.AST) -> Iterator[tuple[ast.AST, str]]:
    """Every statement with the qualified name of the scope around it; expressions are not entered."""
    pending = [(tree, "")]
    while pending:
        node, scope = pending.pop()
        for child in ast.iter_child_nodes(node):
            if isinstance(child, (ast.stmt, ast.excepthandler, ast.match_case)):
                yield child, scope
                pending.append((child, f"{scope}{child.name}." if isinstance(child, Scope) else scope))


def find_definitions(tree: ast.Module) -> list[Definition]:
    found = [
        Definition(KINDS[type(node)], scope + node.name, node.lineno, ast.get_docstring(node) or "")
        for node, scope in walk_statements(tree)
        if isinstance(node, Scope)
    ]
    return sorted(found, key=lambda definition: definition.line)


def find_imports(tree: ast.Module, package: str) -> Iterator[str]:
    """Names of imported modules. `from a import b` gives `a` and `a.b`: either may be the module."""
    for node, _ in walk_statements(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")
                base = ".".join([*above[: len(above) - node.level + 1], *filter(None, [base])])
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names if alias.name != "*")
