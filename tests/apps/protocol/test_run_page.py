"""The page about a run: what is on it, of one run and of several seeds, and what is refused."""

import json
import re
import shutil
from pathlib import Path

import pytest

from autoenc.apps.protocol.run_page import run_page
from autoenc.apps.protocol.statistics import half_width
from autoenc.errors import UserError


@pytest.fixture
def run(ae_run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(ae_run, tmp_path / "run"))


def seed(run: Path, number: int, mse: float) -> Path:
    """Copy a run as one of another seed, whose test error is another."""
    copy = Path(shutil.copytree(run, run.with_name(f"seed{number}")))
    config, summary = (copy / "config.yaml").read_text(), json.loads((copy / "summary.json").read_text())
    (copy / "config.yaml").write_text(re.sub(r"(?m)^seed: .*$", f"seed: {number}", config))
    summary["test"]["mse"] = mse
    (copy / "summary.json").write_text(json.dumps(summary))
    return copy


def test_the_page_has_data_numbers_baselines_figures_and_commands(run: Path) -> None:
    sections = {
        "probes": {"codes": {"logistic": 0.91}, "PCA-4": {"logistic": 0.83}, "remark": "better than <untrained>"},
        "skipped": {"bounds": "needs a posterior"},
    }
    (run / "evaluation.json").write_text(json.dumps(sections))
    (run / "detect").mkdir()
    (run / "detect" / "detect.json").write_text("{}")
    text, summary = run_page([run]), json.loads((run / "summary.json").read_text())
    assert "<title>ae on digits</title>" in text
    for part in (
        "1 x 8 x 8",
        f"{summary['test']['mse']:.5g}",
        "0.91",
        "0.83",
        "better than &lt;untrained&gt;",
        "needs a",
    ):
        assert part in text, part
    assert text.count("data:image/png;base64,") == len(list((run / "figures").glob("*.png")))
    assert "<th></th></tr>" not in text, "no row of empty headings"
    assert "python train.py" in text
    assert re.findall(r"python (scripts/\w+\.py) RUN", text) == ["scripts/evaluate.py", "scripts/detect.py"]
    assert not re.search(r"(?:src|href)=[\"']?(?:http|/)", text), "it needs no network and no other file"


def test_seeds_give_means_with_intervals(run: Path) -> None:
    runs = [seed(run, number, mse) for number, mse in ((0, 0.1), (1, 0.2), (2, 0.6))]
    text = run_page(runs)
    assert f"0.3 ± {half_width([0.1, 0.2, 0.6]):.2g}" in text
    assert "over 3 seeds" in text


def test_other_runs_are_refused(run: Path, vae_run: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"the runs differ in .*model.*: scripts/compare\.py compares runs"):
        run_page([run, vae_run])
    with pytest.raises(UserError, match="the runs repeat a seed"):
        run_page([run, run])
    with pytest.raises(UserError, match="is not a run directory"):
        run_page([tmp_path])
    (seeded := seed(run, 1, 0.1) / "summary.json").unlink()
    with pytest.raises(UserError, match=r"is damaged \(summary.json is missing or empty\)"):
        run_page([seeded.parent])
    record = json.loads((run / "run.json").read_text()) | {"state": "interrupted"}
    (run / "run.json").write_text(json.dumps(record))
    with pytest.raises(UserError, match=r"is interrupted; a report is of finished runs"):
        run_page([run])
