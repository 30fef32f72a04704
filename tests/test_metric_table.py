"""One table says of every number which direction is better; whoever reports or selects reads it."""

import json
import re
from pathlib import Path

import pytest
import yaml

from autoenc.config.schema import CONFIGS
from autoenc.metric_table import TABLE, headline, label, legend, metric

DOCUMENT = Path(__file__).resolve().parents[1] / "docs" / "metrics.md"


@pytest.mark.parametrize(
    ("name", "unit", "better"),
    [
        ("psnr", "dB", True),
        ("denoise_psnr", "dB", True),
        ("noisy_psnr", "dB", None),
        ("accuracy", "", True),
        ("nll", "nats", False),
        ("kl", "nats", None),
        ("probes.codes.logistic_100", "", True),
        ("probes.codes.logistic_100_std", "", None),
        ("precision@10", "", True),
        ("retrieval.PCA-32.precision@10", "", True),
        ("anomaly.knn.auroc", "", True),
        ("generation.samples.memorized", "", None),  # noise has 0, new data 0.5, copies 1
        ("my_own_regularizer", "", False),
        ("kl_2", "", False),  # a second regularizer, not KL divergence with a number of neighbours
        ("psnr_100", "", False),
    ],
)
def test_direction_and_unit(name: str, unit: str, better: bool | None) -> None:
    assert (metric(name).unit, metric(name).higher_is_better) == (unit, better)


def test_labels_carry_the_unit_and_an_arrow() -> None:
    assert (label("psnr"), label("mse"), label("kl"), label("digits")) == (
        "psnr [dB] ↑",
        "mse ↓",
        "kl [nats]",
        "digits",
    )
    assert label("probes.codes.logistic_100") == "probes.codes.logistic_100 ↑"
    assert label("psnr_std") == "psnr_std [dB]"
    assert metric("val/distance_sd") == TABLE["distance_sd"]
    assert metric("psnr_sd").meaning == "standard deviation of psnr"
    assert headline(["loss", "perplexity", "accuracy"]) == "perplexity"


def test_the_legend_explains_arrows_units_and_names_that_mislead() -> None:
    lines = legend(["mse", "psnr", "kl", "probes.codes.mutual_information", "seconds"])
    assert lines[0].startswith("↓ lower is better; ↑ higher is better; [dB] decibels; [nats] natural")
    assert [line.partition(":")[0] for line in lines[1:]] == ["kl", "mutual_information"]
    assert legend(["dim_of_something_else"]) == ["↓ lower is better"]
    assert legend(["nearest"]) == []
    assert legend(["psnr", "zeros", "kl"], after=["psnr", "kl"]) == legend(["zeros"])


def test_negative_losses_are_explained_where_there_are_any() -> None:
    assert legend(["loss", "nll"], {"loss": 1.0, "nll": 0.5}) == legend(["loss", "nll"])
    assert legend(["loss", "nll"], {"loss": 1.0}, {"loss": 0.1, "nll": -3.0})[-1].startswith(
        "negative nll: the density"
    )


def test_every_term_of_an_objective_that_a_config_adds_is_in_the_table() -> None:
    terms = {term for path in (CONFIGS / "regularizer").glob("*.yaml") for term in yaml.safe_load(path.read_text())}
    assert terms | {"commitment", "codebook"} <= TABLE.keys()  # the latter are of codes with a codebook


def test_every_number_of_a_run_is_in_the_table(vae_run: Path, dae_run: Path) -> None:
    for run in (vae_run, dae_run):
        summary = json.loads((run / "summary.json").read_text())
        names = {name for part in ("val", "test", "latent", "perf") for name in summary[part]}
        assert names <= TABLE.keys()


def test_the_document_shows_the_table() -> None:
    rows = re.findall(r"^\| `([^`]+)` \| ([^|]*) \| ([^|]*) \| ([^|]*) \|$", DOCUMENT.read_text(), re.MULTILINE)
    words = {True: "higher", False: "lower", None: ""}
    shown = [(name, unit.strip(), better.strip(), meaning.strip()) for name, unit, better, meaning in rows]
    assert shown == [(m.name, m.unit, words[m.higher_is_better], m.meaning) for m in TABLE.values()]
