"""The documents and the code agree: config groups, commands, run directory, contracts, examples."""

import ast
import dataclasses
import functools
import os
import pydoc
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hydra
import pytest
import torch
import yaml

from autoenc import command, core
from autoenc.command import Parser
from autoenc.config import checks as config
from autoenc.config import schema

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
ARCHITECTURE = ROOT / "docs" / "architecture.md"
EXTENDING = ROOT / "docs" / "extending.md"
PAGES = [README, ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
PARTS = r"^```(?:python|yaml)\n# ((?:autoenc|configs)/[\w./]+)(?:, in (\w+))?\n(.*?)^```$"  # a file, or lines of one
OPTIONS = {group: {name for name, _ in schema.choices(group)} for group in schema.GROUPS}


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def commands(page: Path) -> list[str]:
    """Return the command lines of a page: indented, or in backticks."""
    text = page.read_text()
    indented = re.findall(r"^    (python .*|make .*|tensorboard .*)$", text, re.MULTILINE)
    quoted = re.findall(r"`((?:python|make|tensorboard) [^`\n]+)`", text)
    return [re.sub(r"\s+#.*$", "", line) for line in indented + quoted]


COMMANDS = sorted({line for page in PAGES for line in commands(page)})
EXAMPLES = [line for line in commands(EXTENDING) if re.match(r"python train.py \w", line)]


def section(text: str, heading: str) -> str:
    """Return the text below a heading up to the next one of level two."""
    found = re.search(rf"^## {heading}\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    assert found, heading
    return found[1]


def added_options() -> set[tuple[str, str]]:
    """Return (group, option) of the YAML files in docs/extending.md, which are not in configs/."""
    files = re.findall(r"^# configs/(\w+)/(\w+)\.yaml$", EXTENDING.read_text(), re.MULTILINE)
    assert files
    return set(files)


# Length, links, words


def test_the_readme_has_at_most_150_lines() -> None:
    assert len(README.read_text().splitlines()) <= 150


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_and_figures_exist(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)(?:#\S*)?\)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_no_page_names_a_path_of_a_machine(page: Path) -> None:
    assert not re.search(r"(?<![\w.])/(?:home|root|work|tmp|Users|mnt|opt)/|\.\./shared", page.read_text())


def test_every_figure_is_shown() -> None:
    shown = {name for page in PAGES for name in re.findall(r"figures/(\w+\.png)\)", page.read_text())}
    assert shown == {path.name for path in (ROOT / "docs" / "figures").iterdir()}


def test_the_readme_lists_every_page_and_script() -> None:
    text = README.read_text()
    for page in PAGES[1:]:
        assert f"({name_of(page)})" in text, page
    used = section(text, "Use a trained run")
    assert set(re.findall(r"scripts/(\w+)\.py", used)) == {path.stem for path in (ROOT / "scripts").glob("*.py")}


def test_the_applications_page_has_a_section_for_every_script() -> None:
    headings = set(re.findall(r"^## (\w+)$", (ROOT / "docs" / "applications.md").read_text(), re.MULTILINE))
    assert headings == {path.stem for path in (ROOT / "scripts").glob("*.py")}


# Config groups and options


def test_every_model_is_described() -> None:
    """In the table of the README, and below a heading of docs/models.md."""
    cells = re.findall(r"^\| (`[^|]*) \|", section(README.read_text(), "Train"), re.MULTILINE)
    headings = re.findall(r"^### (`.*)$", (ROOT / "docs" / "models.md").read_text(), re.MULTILINE)
    short, long = ({name for text in texts for name in re.findall(r"`(\w+)`", text)} for texts in (cells, headings))
    assert long == OPTIONS["model"]
    assert short - OPTIONS["prior"] == OPTIONS["model"]


@pytest.mark.parametrize(
    ("group", "page"),
    [(name, "models.md") for name in ("likelihood", "network", "noise", "prior", "regularizer")]
    + [("optimizer", "training.md"), ("experiment", "training.md")],
)
def test_every_option_is_described(group: str, page: str) -> None:
    text = (ROOT / "docs" / page).read_text()
    missing = {name for name in OPTIONS[group] if not re.search(rf"`({group}=)?\[?{name}\]?`|{group}=\[{name}\]", text)}
    assert not missing


def test_the_training_page_has_every_option_of_the_trainer_with_its_default() -> None:
    rows = re.findall(
        r"^\| `trainer\.(\w+)` \(`?(\w[\w.]*)`?\) \|", (ROOT / "docs" / "training.md").read_text(), re.MULTILINE
    )
    found = {name: yaml.safe_load(value) for name, value in rows}
    expected = yaml.safe_load((ROOT / "configs" / "trainer" / "default.yaml").read_text())
    assert found == expected | {"precision": 32}


def test_the_data_page_describes_every_data_set() -> None:
    text = section((ROOT / "docs" / "data.md").read_text(), "Kinds of data")
    rows = re.findall(r"^\| \w+ \|([^|]*)\|", text, re.MULTILINE)
    assert {name for row in rows for name in re.findall(r"`(\w+)`", row)} == OPTIONS["data"]


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_group_and_option_in_backticks_exists(page: Path) -> None:
    known = {(group, option) for group, options in OPTIONS.items() for option in options} | added_options()
    for text in re.findall(r"`([^`\n]+)`", page.read_text()):
        for group, value in re.findall(rf"(?<![\w.])({'|'.join(schema.GROUPS)})=([\w\[\],]+)", text):
            for option in filter(None, value.strip("[]").split(",")):
                assert (group, option) in known, f"{group}={option}"


@functools.cache
def keys() -> dict[str, set[str]]:
    """Return group -> the keys that YAML files set for it."""
    found: dict[str, set[str]] = {group: set() for group in schema.GROUPS}
    found["model"] |= {field.name for field in dataclasses.fields(schema.ModelConfig)}
    for path in schema.CONFIGS.glob("*/*.yaml"):
        content = yaml.safe_load(path.read_text())
        found[path.parent.name] |= set(content)
        for group, node in content.items():
            if group in found and isinstance(node, dict):
                found[group] |= set(node)
    return found


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_key_in_backticks_exists(page: Path) -> None:
    for text in re.findall(r"`([^`\n]+)`", page.read_text()):
        for group, key in re.findall(rf"(?<![\w./])({'|'.join(schema.GROUPS)})\.(?!py)(\w+)", text):
            assert key in keys()[group] or (group, key) in added_options(), f"{group}.{key}"


# Commands


class Parsed(Exception):
    """The arguments of a script have been parsed."""


def parse_script(path: Path, arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Parse the arguments of a script with its own parser, without running it; SystemExit where they are wrong."""

    def execute(main: object, parser: Parser, *_: object) -> None:
        parser.parse_args(arguments)
        raise Parsed

    monkeypatch.setattr(command, "execute", execute)
    with pytest.raises(Parsed):
        runpy.run_path(str(path), run_name="__main__")


@pytest.fixture
def hydra_configs() -> Iterator[None]:
    schema.register()
    with hydra.initialize_config_dir(str(schema.CONFIGS), version_base="1.3"):
        yield


def compose(arguments: list[str]) -> None:
    """Compose and check each config that a command line of train.py names; trains nothing."""
    if arguments[:1] == ["-m"]:
        from hydra.core.override_parser.overrides_parser import OverridesParser

        overrides = OverridesParser.create().parse_overrides([a for a in arguments[1:] if not a.startswith("hydra/")])
        lists = [
            [f"{o.input_line.partition('=')[0]}={value}" for value in o.sweep_string_iterator()]
            if o.is_sweep_override()
            else [o.input_line]
            for o in overrides
        ]
        longest = max(map(len, lists))
        for i in range(longest):  # each value once, not all combinations
            config.check(hydra.compose("config", overrides=[values[i % len(values)] for values in lists]))
        return
    config.check(hydra.compose("config", overrides=[a for a in arguments if not a.startswith("--")]))


@pytest.mark.parametrize("line", COMMANDS)
def test_every_command_parses(line: str, monkeypatch: pytest.MonkeyPatch, hydra_configs: None) -> None:
    program, *arguments = shlex.split(line)
    if program == "make":
        assert re.search(rf"^{arguments[0]}:", (ROOT / "Makefile").read_text(), re.MULTILINE)
        return
    if program == "tensorboard":
        assert arguments == ["--logdir", "outputs"]
        return
    script = ROOT / arguments.pop(0)
    assert script.exists(), script
    if script.name == "train.py":
        if "--help" not in arguments and line not in EXAMPLES:  # those train in a test of their own
            compose(arguments)
    elif script.parent.name == "scripts":
        parse_script(script, arguments, monkeypatch)
    else:
        known = re.findall(r"add_argument\(\s*\"(--[\w-]+)\"", script.read_text())
        assert {a for a in arguments if a.startswith("--")} <= set(known)


EMBEDDED = "digits|shapes|sparse_codes|superposition|linear_gaussian"
TRAINED = [
    line
    for line in COMMANDS
    if re.match(r"python train.py(?! .*(--|-m |resume=|init_from=|experiment=|trainer.replicas=))", line)
    and line not in EXAMPLES
    and re.search(rf" data=({EMBEDDED})\b", line + ("" if " data=" in line else " data=digits"))
]


def test_commands_on_embedded_data_take_a_step() -> None:
    from autoenc import build
    from autoenc.config import composed
    from autoenc.objective import train_step

    assert len(TRAINED) >= 3
    for line in TRAINED:
        checked = composed.compose([*shlex.split(line)[2:], "trainer.device=cpu"])
        checked["data"] |= {"count": 200} if "count" in checked["data"] else {}
        parts = build.build(checked, torch.device("cpu"))
        batch = parts.data.train.take(slice(0, 32))
        assert train_step(parts.model, parts.objective, batch, 0, parts.optimizers)["loss"].isfinite(), line


# The run directory


def listed_files() -> set[str]:
    """Return the names in the listing of the run directory in docs/architecture.md, relative to the run."""
    text = section(ARCHITECTURE.read_text(), "Run directory")
    listing = re.search(r"^    outputs/<data>/<model>/<time>/\n((?:      .*\n)+)", text, re.MULTILINE)
    assert listing
    names = [re.split(r"\s{2,}", line.strip())[0] for line in listing[1].splitlines()]
    return {name for cell in names for name in cell.split(" ")}


def test_the_run_directory_is_as_listed(vae_run: Path) -> None:
    listed = listed_files()
    optional = set(re.findall(r"`([\w./]+)` \(optional\)", section(ARCHITECTURE.read_text(), "Run directory")))
    present = {
        name
        for path in vae_run.rglob("*")
        if path.is_file()
        for name in [str(path.relative_to(vae_run))]
        if name != ".lock" and not name.startswith("events.out.tfevents")
    }

    def covered(name: str, entry: str) -> bool:
        return (
            name.startswith(entry)
            if entry.endswith("/")
            else Path(name).match(entry) and name.count("/") == entry.count("/")
        )

    for name in present:
        assert any(covered(name, entry) for entry in listed), f"{name} is not in docs/architecture.md"
    for entry in listed - optional - {"events.out.tfevents.*"}:
        assert any(covered(name, entry) for name in present), f"{entry} is not in the run"
    assert any(vae_run.glob("events.out.tfevents.*"))


# Contracts


def contracts() -> dict[str, list[str]]:
    """Return class -> names, from the table of contracts in docs/architecture.md."""
    rows = re.findall(r"^\| `(\w+)` \| (.*?) \|", section(ARCHITECTURE.read_text(), "Contracts"), re.MULTILINE)
    return {name: re.findall(r"`(\w+)", cell) for name, cell in rows}


@pytest.mark.parametrize("name", ["Batch", "Code", "Output", "Loss"])
def test_the_dataclasses_have_the_documented_fields(name: str) -> None:
    assert contracts()[name] == [field.name for field in dataclasses.fields(getattr(core, name))]


@pytest.mark.parametrize("name", ["Prior", "Bottleneck", "Likelihood", "Objective", "Autoencoder"])
def test_the_modules_have_the_documented_methods(name: str) -> None:
    tree = [
        node for file in ("core", "objective") for node in ast.parse((ROOT / f"autoenc/{file}.py").read_text()).body
    ]
    own = next(node for node in tree if isinstance(node, ast.ClassDef) and node.name == name)
    methods = [f.name for f in own.body if isinstance(f, ast.FunctionDef) and not f.name.startswith("_")]
    assert contracts()[name] == methods


def test_the_kinds_have_the_documented_methods() -> None:
    from autoenc.data.kinds import KINDS

    table = re.search(r"^\| methods of `Kind` .*\n((?:\|.*\n)+)", ARCHITECTURE.read_text(), re.MULTILINE)
    assert table
    documented = {name for row in table[1].splitlines()[1:] for name in re.findall(r"`(\w+)`", row.split("|")[1])}
    assert len(documented) > 6
    for path in ["autoenc.data.kinds.kind.Kind", *KINDS.values()]:
        kind = pydoc.locate(path)
        assert {name for name in documented if not hasattr(kind, name)} == set(), path


def test_the_data_page_lists_every_kind() -> None:
    from autoenc.data.kinds import KINDS

    text = section((ROOT / "docs" / "data.md").read_text(), "Kinds of data")
    assert set(re.findall(r"^\| (\w+) \| `", text, re.MULTILINE)) == set(KINDS)


# Examples of new parts

TRAIN = """\
import sys
from pathlib import Path
import hydra, torch
from autoenc import build, run
from autoenc.config import checks as config, schema
from autoenc.objective import train_step
schema.register()
with hydra.initialize_config_dir(str(schema.CONFIGS), version_base="1.3"):
    for i, line in enumerate(sys.argv[1:]):
        overrides = line.split()[2:] + ["trainer.steps=2", "trainer.figures=0"]
        checked = config.check(hydra.compose("config", overrides=overrides))
        if "data=" in line:
            run.train(checked, Path("run") / str(i), {})
            continue
        parts = build.build(checked, torch.device("cpu"))
        before = [p.detach().clone() for p in parts.model.parameters()]
        for step in range(2):
            loss = train_step(parts.model, parts.objective, parts.data.train.take(slice(0, 32)), step, parts.optimizers)
            assert loss["loss"].isfinite(), line
        assert not any(torch.equal(p, q) for p, q in zip(before, parts.model.parameters())), line
"""


def test_the_examples_of_new_parts_train(tmp_path: Path) -> None:
    """The files of docs/extending.md, written into a copy of the package, train by the commands of the page."""
    for folder in ("autoenc", "configs"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    blocks = re.findall(PARTS, EXTENDING.read_text(), re.MULTILINE | re.DOTALL)
    assert len(blocks) == len(re.findall(r"^```\w", EXTENDING.read_text(), re.MULTILINE)), "every block is a file"
    for name, table, text in blocks:
        path = tmp_path / name
        text = text if table else f"# {name}\n{text}"  # word for word, with the name of the file above `# @package`
        assert path.exists() == bool(table), f"{name}: a new file, or lines of an existing one"
        path.write_text(path.read_text().replace(f"{table} = {{\n", f"{table} = {{\n{text}", 1) if table else text)
    (tmp_path / "times.txt").write_text(
        " ".join(f"{hour:02}:{minute:02}" for hour in (6, 7, 8) for minute in range(60))
    )
    assert EXAMPLES
    done = subprocess.run(
        [sys.executable, "-c", TRAIN, *EXAMPLES],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_python_blocks_compile(page: Path) -> None:
    for block in re.findall(r"^```python\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL):
        if not re.match(r"# \S+, in ", block):
            compile(block, page.name, "exec")


def test_the_python_blocks_of_the_readme_run(vae_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the run of the tests in place of the one in the README, and one epoch in place of thirty."""
    monkeypatch.chdir(ROOT)
    names: dict[str, Any] = {}
    for block in re.findall(r"^```python\n(.*?)^```$", README.read_text(), re.MULTILINE | re.DOTALL):
        block = re.sub(r'load_run\("[^"]+"\)', f"load_run({str(vae_run)!r}, 'cpu')", block)
        exec(compile(block.replace("epochs=30", "epochs=1"), "README.md", "exec"), names)
    assert names["codes"] is not None
