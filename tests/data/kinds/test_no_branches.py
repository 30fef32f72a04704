"""No module outside kinds/ asks which kind of data it has."""

import ast
from pathlib import Path

from autoenc.data.kinds import KINDS

ROOT = Path(__file__).resolve().parents[3]


def test_no_module_compares_with_the_name_of_a_kind() -> None:
    found = []
    for path in [*(ROOT / "autoenc").rglob("*.py"), *(ROOT / "scripts").glob("*.py")]:
        if path.is_relative_to(ROOT / "autoenc" / "data" / "kinds"):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Compare):
                words = {n.value for n in ast.walk(node) if isinstance(n, ast.Constant) and isinstance(n.value, str)}
                if words & KINDS.keys():
                    found.append(f"{path.relative_to(ROOT)}:{node.lineno}: {ast.unparse(node)}")
    assert not found


def test_no_application_asks_for_the_class_of_a_kind() -> None:
    classes = {path.rpartition(".")[2] for path in KINDS.values()}
    found = []
    for path in [*(ROOT / "autoenc").rglob("*.py"), *(ROOT / "scripts").glob("*.py")]:
        if path.is_relative_to(ROOT / "autoenc" / "data"):
            continue  # data sets make kinds, and check what a run hands back to them
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "isinstance":
                named = {n.id for n in ast.walk(node.args[1]) if isinstance(n, ast.Name)}
                found += [f"{path.relative_to(ROOT)}:{node.lineno}: {name}" for name in named & classes]
    assert not found
