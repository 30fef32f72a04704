"""Arguments of constructors, and which plain values they accept.

Read from the source for the check of `_target_` nodes: importing torch takes seconds.
"""

from __future__ import annotations

import ast
import functools
import importlib.util
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LARGEST = 2**63  # of whole numbers in torch


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
    tree = ast.parse(path.read_text())
    guarded = [inner for node in tree.body if isinstance(node, ast.If) for inner in node.body]  # if TYPE_CHECKING
    for node in [*tree.body, *guarded]:
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


def conforms(value: Any, annotation: Any) -> bool:
    """Return whether a plain value has the annotated type. An int is accepted as a float; a bool is not a number."""
    if annotation is Any:
        return True
    if annotation is Tensor:
        return False  # not a YAML value
    origin, args = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Literal:
        return value in args
    if origin in (typing.Union, types.UnionType):
        return any(conforms(value, a) for a in args)
    if origin is Callable or annotation is Callable:
        return False  # given as a `_target_` node, which is checked separately
    if origin in (list, tuple, Sequence):
        return isinstance(value, list | tuple) and all(conforms(v, args[0]) for v in value)
    if origin is dict or annotation is dict:
        return isinstance(value, dict)
    if annotation is None or annotation is type(None):
        return value is None
    if annotation is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if annotation is int:
        return isinstance(value, int) and not isinstance(value, bool) and abs(value) < LARGEST
    return isinstance(value, annotation) if isinstance(annotation, type) else True


WORDS = {int: "a whole number", float: "a number", bool: "true or false", str: "text", type(None): "null", None: "null"}


def describe(annotation: Any) -> str:
    """Describe an annotation in words."""
    origin, args = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Literal:
        return f"one of {', '.join(map(str, args))}"
    if origin in (typing.Union, types.UnionType):
        return " or ".join(describe(a) for a in args if a is not Tensor)
    if origin in (list, tuple, Sequence):
        return f"a list in brackets, each {describe(args[0])}"
    if origin is Callable:
        return "a schedule (a node with _target_: autoenc.schedules...)"
    return WORDS.get(annotation, getattr(annotation, "__name__", str(annotation)))
