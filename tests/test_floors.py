"""Imports go down, as docs/architecture.md says, and never in a circle; what `--help` touches is quick."""

import ast
import re
import subprocess
import sys
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
DOCUMENT = ROOT / "docs" / "architecture.md"
FILES = sorted([*(ROOT / "autoenc").rglob("*.py"), *(ROOT / "scripts").rglob("*.py"), ROOT / "train.py"])
HYDRA = {"hydra", "omegaconf"}


def floors() -> dict[str, int]:
    """Room -> floor, from the table in the document: `| 3 | what | `data/` `core` |`."""
    rows = re.findall(r"^\| (\d+) \|[^|]*\|([^|]*)\|$", DOCUMENT.read_text(), re.MULTILINE)
    found = {name.rstrip("/"): int(floor) for floor, rooms in rows for name in re.findall(r"`([\w./]+)`", rooms)}
    return {name.removesuffix(".py"): floor for name, floor in found.items()}


FLOOR = floors()


def module(path: Path) -> str:
    """autoenc/data/dataset.py -> autoenc.data.dataset."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


MODULES = {module(path): path for path in FILES}


def room(name: str) -> str:
    """autoenc.data.dataset -> data."""
    return name.split(".")[1] if name.startswith("autoenc.") else name.split(".")[0]


@cache
def imports(path: Path) -> frozenset[str]:
    """Full names of all modules that a file imports, inside functions and for type checkers too."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            modules = inner & MODULES.keys()
            found |= modules or {node.module or ""}
    return frozenset(found)


def test_the_document_names_every_room_and_no_other() -> None:
    there = {room(name) for name in MODULES if name != "autoenc"}
    assert set(FLOOR) == there


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_go_downward(path: Path) -> None:
    if module(path) == "autoenc":
        # Everything imports it: what it offers, it imports on first use.
        assert imports(path) == {"importlib", "typing", "autoenc.launched", "autoenc.loading", "autoenc.session"}
        return
    here = room(module(path))
    for name in imports(path):
        if name.startswith("autoenc."):
            assert room(name) == here or FLOOR[room(name)] < FLOOR[here], f"imports {name}: not downward"
        if name.split(".")[0] in HYDRA:
            assert FLOOR[here] >= FLOOR["config"], f"imports {name}: only config, build and above know it"


def test_no_module_imports_itself_through_others() -> None:
    graph = {
        name: {other for other in imports(path) if other in MODULES and other != "autoenc"}
        for name, path in MODULES.items()
        if name != "autoenc"
    }
    list(TopologicalSorter(graph).static_order())  # CycleError names the circle


def test_no_folder_has_more_than_twelve_files_or_only_one() -> None:
    for folder in {path.parent for path in FILES if path.is_relative_to(ROOT / "autoenc")} - {ROOT / "autoenc"}:
        files = [path for path in folder.glob("*.py") if path.name != "__init__.py"]
        folders = [path for path in folder.iterdir() if path.is_dir() and path.name != "__pycache__"]
        assert len(files) + len(folders) > 1, f"{folder}: a folder of one file"
        assert len(files) <= 12, f"{folder}: {len(files)} files; give it rooms of its own"


def test_the_command_line_imports_no_torch_until_there_is_something_to_train() -> None:
    code = (
        "import sys, autoenc.cli; print({'torch', 'torchvision', 'sklearn', 'matplotlib', 'numpy'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.stdout.strip() == "set()", done.stdout + done.stderr
