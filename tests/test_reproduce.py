"""`make reproduce`: rows, verdicts, resuming, and the rows that are short enough for the tests."""

import dataclasses
import importlib.util
import json
import runpy
import sys
from pathlib import Path
from types import SimpleNamespace

import forks
import pytest

ROOT = Path(__file__).resolve().parents[1]


def _module():
    spec = importlib.util.spec_from_file_location("reproduce_script", ROOT / "benchmarks" / "reproduce.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


reproduce = _module()
WRITE = (
    "import json, pathlib, sys; pathlib.Path(sys.argv[1], 'a.json').write_text(json.dumps(dict(x=float(sys.argv[2]))))"
)
TESTED = [row for row in reproduce.load_rows().values() if row.tested]


def row_file(folder, name="small", **changes):
    node = {
        "claim": "x is the seed",
        "source": "exact",
        "minutes": 0.1,
        "seeds": [1, 2, 3],
        "commands": [f'python -c "{WRITE}" {{out}} {{seed}}'],
        "figures": [{"name": "x", "read": "a.json x", "claimed": 2, "within": 0.1}],
    }
    path = folder / f"{name}.yaml"
    path.write_text(json.dumps(node | changes))
    return path


@pytest.fixture
def measured(tmp_path, monkeypatch):
    monkeypatch.setattr(reproduce, "OUT", tmp_path / "out")
    return reproduce.Measurements(tmp_path / "measured.json")


def test_every_row_can_be_read_and_names_known_scripts():
    for row in reproduce.load_rows().values():
        for command in row.commands:
            program = command.split()[1]
            assert (ROOT / program).exists(), f"{row.name}: {program}"
            command.format(seed=0, out="out")


def test_every_figure_is_read_from_a_file_or_a_folder_that_a_command_is_given():
    for row in reproduce.load_rows().values():
        commands = " ".join(row.commands)
        for place in (place for figure in row.figures for place in (figure.read, figure.minus) if place):
            assert "{out}/" + place.split()[0].split("/")[0] in commands, f"{row.name}: {place}"


@pytest.mark.parametrize(
    ("values", "figure", "verdict"),
    [
        ([90.0, 90.2, 90.4], {"claimed": 90.26, "within": 1}, "reproduced"),  # nearer than two standard errors
        ([88.0, 92.0, 93.0], {"claimed": 90.0}, "reproduced"),
        ([88.0, 92.0, 93.8], {"claimed": 90.0, "within": 1}, "not reproduced, off by +1.27"),  # a spread is no excuse
        ([91.0, 91.0, 91.0], {"claimed": 90.26, "within": 1}, "within 0.74"),
        ([92.0, 92.0, 92.0], {"claimed": 90.0, "within": 1}, "not reproduced, off by +2"),
        ([85.0, 85.0], {"claimed": 90.0, "within": 1, "better": "lower"}, "reproduced"),
        ([85.0, 85.0], {"claimed": 90.0, "within": 1, "better": "higher"}, "not reproduced, off by -5"),
        ([1.5, 1.5], {"at_least": 1}, "reproduced"),
        ([0.5, 1.6], {"at_least": 1}, "on average only, the 95 % interval is wider"),
        ([1.2, 2.0, 2.8], {"above": 0.7}, "on average only, the 95 % interval is wider"),  # 2.8 errors, of 2.9
        ([1.2, 2.0, 2.8], {"above": 0.6}, "reproduced"),  # 3.0 errors
        ([0.5, 0.6], {"at_least": 1}, "not reproduced"),
        ([0.0, 0.0], {"above": 0}, "not reproduced"),
        ([0.0, 0.0], {"at_most": 0}, "reproduced"),
        ([float("nan")], {"at_least": 1}, "not reproduced"),
        ([3.0], {}, ""),
        ([85.0], {"claimed": 90.0, "within": 1, "better": "lower"}, "reproduced in one seed"),
    ],
)
def test_verdicts(values, figure, verdict):
    assert reproduce.Figure(name="x", read="a.json x", **figure).verdict(values) == verdict


def test_a_row_counts_its_verdicts(tmp_path):
    figures = [
        {"name": "fine", "read": "a.json x", "at_least": 1},
        {"name": "near", "read": "a.json x", "claimed": 4, "within": 3},
        {"name": "far", "read": "a.json x", "above": 9},
        {"name": "compared", "read": "a.json x"},
    ]
    row = reproduce.load_row(row_file(tmp_path, figures=figures))
    seeds = {seed: {"values": dict.fromkeys(("fine", "near", "far", "compared"), 2.0), "minutes": 1.0} for seed in "12"}
    assert reproduce.summary(row, seeds) == "1 reproduced, 1 within tolerance, 1 not reproduced"
    assert reproduce.summary(row, {"1": seeds["1"]}).startswith("1 reproduced in one seed, ")
    assert reproduce.summary(row, {}) == ""
    assert reproduce.summary(reproduce.load_row(row_file(tmp_path, figures=figures[:1])), seeds) == "reproduced"


def test_a_row_is_measured_for_each_seed_and_interrupted_rows_go_on(tmp_path, measured):
    row = reproduce.load_row(row_file(tmp_path))
    measured.add(row, 1, {"values": {"x": 1.0}, "minutes": 7.0})
    assert reproduce.run({"small": row}, measured, 30, 1, gpu=False, named=False)
    again = reproduce.Measurements(measured.path).of(row)
    assert [again[s]["values"]["x"] for s in "123"] == [1, 2, 3]
    assert again["1"]["minutes"] == 7.0, "was measured again"
    assert reproduce.lines(row, again) == [["x", "2", "2 (sd 1)", "reproduced"]]
    assert reproduce.status(row, again, gpu=False).startswith("3 seeds, ")


def test_other_commands_or_figures_are_measured_anew(tmp_path, measured):
    row = reproduce.load_row(row_file(tmp_path))
    measured.add(row, 1, {"values": {"x": 1.0}, "minutes": 7.0})
    changed = reproduce.load_row(row_file(tmp_path, commands=["python -c pass"]))
    assert measured.of(row)
    assert not measured.of(changed)
    more = row_file(tmp_path, figures=[{"name": "y", "read": "a.json x", "at_least": 0}])
    assert not measured.of(reproduce.load_row(more))


def test_budget_and_gpu_leave_rows_out(tmp_path, measured):
    rows = {name: reproduce.load_row(row_file(tmp_path, name, **kw)) for name, kw in
            {"long": {"minutes": 20}, "on_gpu": {"gpu": True}}.items()}  # fmt: skip
    assert reproduce.run(rows, measured, 30, 1, gpu=False, named=False)
    assert measured.rows == {}
    assert "needs a GPU" in reproduce.status(rows["on_gpu"], {}, gpu=False)
    assert "60 minutes" in reproduce.status(rows["long"], {}, gpu=False)


def test_a_difference_is_paired_over_the_seeds(tmp_path):
    (tmp_path / "a.json").write_text(json.dumps({"p@10": {"codes": 3.0, "raw.x": 1.0}, "list": [5]}))
    figure = reproduce.Figure(name="gain", read="a.json p@10.codes", minus="a.json p@10.raw.x")
    assert figure.value(tmp_path) == 2.0
    assert reproduce.Figure(name="l", read="a.json list.0").value(tmp_path) == 5


def test_failures_are_one_line(tmp_path, measured, capsys):
    row = reproduce.load_row(row_file(tmp_path, commands=["python -c 1/0"], seeds=[4]))
    assert not reproduce.run({"small": row}, measured, 30, 1, gpu=False, named=True)
    assert "small, seed 4: exit code 1: ZeroDivisionError: division by zero;" in capsys.readouterr().err
    missing = reproduce.load_row(row_file(tmp_path, figures=[{"name": "x", "read": "b.json x", "at_least": 0}]))
    with pytest.raises(reproduce.RowError, match=r"b\.json x: not found"):
        missing.measure(1, tmp_path / "out")


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"claims": 1}, "claims"),
        ({"figures": [{"name": "x", "read": "a.json x"}]}, "no figure claims anything"),
        ({"figures": [{"name": "x", "read": "a.json x", "within": 1}]}, "within needs a claimed number"),
        ({"figures": [{"name": "x", "read": "a.json x", "above": 0}] * 2}, "two figures are named 'x'"),
        ({"figures": [{"name": "x", "read": "a.json x", "claimed": 1, "better": "up"}]}, "better must be"),
        ({"seeds": []}, "at least one command, figure and seed"),
    ],
)
def test_faults_of_a_row_are_one_line(tmp_path, changes, why):
    with pytest.raises(reproduce.RowError, match=why) as error:
        reproduce.load_row(row_file(tmp_path, **changes))
    assert "\n" not in str(error.value)


def test_the_printed_table_shows_units_in_brackets(tmp_path, measured, capsys):
    figures = [{"name": "bound [nats]", "read": "a.json x", "at_least": 0}]
    reproduce.show({"small": reproduce.load_row(row_file(tmp_path, figures=figures))}, measured, gpu=False)
    assert "bound [nats]" in capsys.readouterr().out


def test_page_keeps_what_is_outside_the_markers(tmp_path, measured):
    row = reproduce.load_row(row_file(tmp_path))
    path = tmp_path / "page.md"
    path.write_text(f"head\n{reproduce.BEGIN}\nold\n{reproduce.END}\ntail\n")
    reproduce.write_page(reproduce.page({"small": row}, measured, gpu=False), path)
    text = path.read_text()
    assert text.startswith("head\n")
    assert text.endswith("tail\n")
    assert "old" not in text
    assert "| small | x is the seed |  | not run: 0.3 minutes |" in text
    assert "### small" not in text
    measured.add(row, 1, {"values": {"x": 1.0}, "minutes": 7.0})
    text = reproduce.page({"small": dataclasses.replace(row, why="few|steps")}, measured, gpu=False)
    assert "| [small](#small) | x is the seed | not reproduced | 1 of 3 seeds, 7.0 minutes each |" in text
    assert "Not reproduced: few|steps." in text
    assert "| x | 2 | 1 | not reproduced, off by -1 |" in text
    measured.add(row, 2, {"values": {"x": 3.0}, "minutes": 7.0})
    text = reproduce.page({"small": dataclasses.replace(row, why="few|steps")}, measured, gpu=False)
    assert "Not reproduced: " not in text
    assert "Differences: few|steps." in text


def test_page_in_the_documentation_is_that_of_the_measurements():
    rows, measured = reproduce.load_rows(), reproduce.Measurements(reproduce.ROWS / "measured.json")
    table = reproduce.page(rows, measured, gpu=False)
    assert table in reproduce.PAGE.read_text(), "make reproduce writes docs/results.md"


@pytest.mark.parametrize("row", TESTED, ids=lambda row: row.name)
def test_short_rows_are_reproduced(row, tmp_path, monkeypatch):
    def forked(words, stdout, **_):  # of this process, without the seconds that imports take
        def program():
            try:
                runpy.run_path(words[1], run_name="__main__")
            except SystemExit as left:
                return left.code

        done = forks.start(tmp_path / Path(words[1]).stem, ROOT, words[2:], run=program).wait()
        stdout.write(done.stdout + done.stderr)
        return done

    monkeypatch.setattr(reproduce, "subprocess", SimpleNamespace(run=forked))
    measured = [row.measure(seed, tmp_path / str(seed))["values"] for seed in row.seeds[:1]]
    for figure in row.figures:
        verdict = figure.verdict([values[figure.name] for values in measured])
        assert not verdict.startswith("not"), f"{figure.name}: {measured}, {verdict}"
