"""Imports go downward, and what `--help` and completion touch is quick."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FLOORS = [
    {"errors", "files", "settings", "core", "signatures", "command"},
    {"networks", "bottlenecks", "likelihoods", "noise", "schedules", "regularizers", "initialization", "data"},
    {"metrics", "checkpoint", "step", "process"},
    {"evaluation"},
    {"figures", "tracking", "trainer"},
    {"config", "build", "messages"},
    {"rundir", "run", "transformer", "loading", "apps", "inmemory", "sklearn"},
    {"cli", "train", "scripts"},
]
# Within a floor: only these. A folder's own files may import each other.
SIDEWAYS = {
    *[(a, "errors") for a in FLOORS[0]],
    ("initialization", "networks"),
    ("networks", "data"),  # what token ids and columns are
    ("likelihoods", "data"),
    ("noise", "data"),
    ("trainer", "tracking"),
    ("build", "config"),
    ("messages", "config"),
    ("run", "rundir"),
    ("loading", "rundir"),
    ("loading", "transformer"),
    ("apps", "rundir"),
    ("apps", "loading"),
    ("train", "cli"),
    ("inmemory", "run"),
    ("sklearn", "inmemory"),
    ("sklearn", "loading"),
    ("sklearn", "transformer"),
    ("scripts", "cli"),
}
HYDRA = {"hydra", "omegaconf"}
LOWEST_WITH_HYDRA = 5


def room(name: str) -> str:
    """autoenc.data.spec -> data."""
    return name.split(".")[1] if name.startswith("autoenc.") else name


def imports(path: Path) -> set[str]:
    """Full names of all modules that a file imports, inside functions too."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            found |= {f"autoenc.{a.name}" for a in node.names} if node.module == "autoenc" else {node.module or ""}
    return found


FILES = sorted([*(ROOT / "autoenc").rglob("*.py"), *(ROOT / "scripts").rglob("*.py"), ROOT / "train.py"])
FLOOR = {name: i for i, names in enumerate(FLOORS) for name in names}


def home(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return parts[1] if parts[0] == "autoenc" else parts[0]


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_go_downward(path: Path) -> None:
    here = home(path)
    if here == "__init__":
        # It is imported by everything; what it offers, it imports on first use.
        assert imports(path) == {"importlib", "typing", "autoenc.loading"}
        return
    assert here in FLOOR, "a new module: give it a floor in the table"
    for name in imports(path):
        there = room(name)
        if name.startswith("autoenc.") and room(name) not in ("load_run", "Run") and there != "__version__":
            allowed = FLOOR[there] < FLOOR[here] or there == here or (here, there) in SIDEWAYS
            assert allowed, f"imports {name}: not downward"
        if name.split(".")[0] in HYDRA:
            assert FLOOR[here] >= LOWEST_WITH_HYDRA, f"imports {name}: only config, build and above know it"


def test_the_table_has_no_room_that_is_not_there() -> None:
    assert {home(path) for path in FILES} - {"__init__"} == set(FLOOR)


def test_sideways_imports_are_in_use_and_make_no_circle() -> None:
    used = {(home(path), room(name)) for path in FILES for name in imports(path) if name.startswith("autoenc")}
    listed = {pair for pair in SIDEWAYS if pair[1] != "errors"}
    assert listed - {("scripts", "cli")} <= used
    assert not any((b, a) in SIDEWAYS for a, b in listed)


def test_the_command_line_imports_no_torch_until_there_is_something_to_train() -> None:
    code = (
        "import sys, autoenc.cli; print({'torch', 'torchvision', 'sklearn', 'matplotlib', 'numpy'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.stdout.strip() == "set()", done.stdout + done.stderr
