"""Arguments of constructors, read from the source for the check of `_target_` nodes: importing torch takes seconds."""

from __future__ import annotations

import ast
import functools
import importlib.util
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any


class Tensor:
    """Stands for torch.Tensor in annotations."""


NAMES = {
    "Tensor": Tensor,
    "Sequence": Sequence,
    "Mapping": Mapping,
    "Callable": Callable,
    "Any": Any,
    "Literal": typing.Literal,
}
NAMES |= {t.__name__: t for t in (int, float, bool, str, list, tuple, dict)} | {"None": None}


@dataclass(frozen=True)
class Option:
    """An argument. annotation: Any if there is none or if it does not describe plain values."""

    annotation: Any
    required: bool


@functools.cache
def options(target: str) -> dict[str, Option]:
    """Return the arguments of the class or function at a dotted path; LookupError if it does not exist."""
    module, _, name = target.rpartition(".")
    node, _ = _find(module, name)
    if isinstance(node, ast.FunctionDef):
        return _arguments(node.args)
    for item in node.body:
        if isinstance(item, ast.FunctionDef) and item.name == "__init__":
            return {k: v for k, v in _arguments(item.args).items() if k != "self"}
    return {  # a dataclass: its annotated fields, without class variables
        item.target.id: Option(_annotation(item.annotation), required=item.value is None)
        for item in node.body
        if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name) and "ClassVar" not in ast.dump(item)
    }


def _find(module: str, name: str, depth: int = 0) -> tuple[ast.ClassDef | ast.FunctionDef, Path]:
    """Find the definition of `name`, following re-exports within the package.

    Imports from other packages are not followed: `autoenc.data.sets.arrays.Path` is rejected.
    """
    path = _source(module)
    if path is None or depth > 5:
        raise LookupError(f"{module}.{name}")
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name == name:
            return node, path
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == module.split(".")[0]:
            for alias in node.names:
                if (alias.asname or alias.name) == name:
                    return _find(node.module, alias.name, depth + 1)
    raise LookupError(f"{module}.{name}")


def _source(module: str) -> Path | None:
    """Return the file of a module without importing its packages."""
    top, *rest = module.split(".")
    spec = importlib.util.find_spec(top) if top else None
    if spec is None or not spec.submodule_search_locations:
        return None
    base = Path(next(iter(spec.submodule_search_locations)), *rest)
    return next((p for p in (base / "__init__.py", base.with_suffix(".py")) if p.is_file()), None)


def _arguments(args: ast.arguments) -> dict[str, Option]:
    positional = args.posonlyargs + args.args
    defaults = [None] * (len(positional) - len(args.defaults)) + list(args.defaults)
    pairs = list(zip(positional, defaults, strict=True)) + list(zip(args.kwonlyargs, args.kw_defaults, strict=True))
    return {arg.arg: Option(_annotation(arg.annotation), required=default is None) for arg, default in pairs}


def _annotation(node: ast.expr | None) -> Any:
    if node is None:
        return Any
    try:
        # Source code of this package or of torch, evaluated in a namespace of types only.
        return eval(compile(ast.Expression(node), "<annotation>", "eval"), {"__builtins__": {}}, dict(NAMES))
    except Exception:
        return Any
