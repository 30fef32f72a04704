"""Sheets of units: the right examples in the right order, from the run directory alone."""

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from autoenc import load_run
from autoenc import page as html
from autoenc import run as training
from autoenc.apps.seeing import layers, units
from autoenc.data.kinds.counts import Counts
from autoenc.errors import UserError
from autoenc.estimators import inmemory


def trained(folder: Path, *overrides: str) -> Path:
    training.train(inmemory.compose([*overrides, "trainer.figures=0", "trainer.device=cpu"]), folder, {})
    return folder


@pytest.fixture(scope="module")
def sparse(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("units") / "run"
    return trained(folder, "model=batch_topk", "model.latent_dim=12", "model.bottleneck.k=3", "trainer.epochs=2")


def test_examples_are_those_with_the_largest_activation(sparse: Path) -> None:
    run = load_run(sparse, "cpu")
    found = units.units(run, chosen=[3, 7], examples=4)
    codes = run.reference.codes
    for unit, k in zip(found, (3, 7), strict=True):
        assert unit.number == k
        assert unit.frequency == pytest.approx((codes[:, k] != 0).mean())
        assert unit.activations.tolist() == sorted(codes[:, k].tolist())[::-1][: len(unit.activations)]
        x = run.reference.rows.take(torch.from_numpy(unit.positions)).x
        np.testing.assert_allclose(run.encode(x)[:, k], unit.activations, atol=1e-4)
        torch.testing.assert_close(unit.atom.flatten(), run.model.decoder[0].atoms[:, k])
        x = run.data.train.take(torch.tensor([int(units.names(run, unit)[0]) - 1])).x
        np.testing.assert_allclose(run.encode(x)[0, k], unit.activations[0], atol=1e-4, err_msg="the row of that name")


def test_units_with_the_largest_variance_come_first_and_dead_ones_not_at_all(sparse: Path) -> None:
    run = load_run(sparse, "cpu")
    run.reference.train_table[:, 2 + 5] = 0
    found = units.units(run, most=12)
    variance = run.reference.codes.var(0)
    assert [unit.number for unit in found] == [k for k in np.argsort(-variance).tolist() if variance[k] > 0]
    assert 5 not in [unit.number for unit in found]
    (dead,) = units.units(run, chosen=[5])
    assert (dead.frequency, len(dead.positions)) == (0, 0)


def test_the_script_writes_images_without_the_training_files(
    sparse: Path, copied: Callable[[Path], Path], call: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    path = copied(sparse)
    text = (path / "config.yaml").read_text()
    (path / "config.yaml").write_text(text.replace("autoenc.data.digits", "autoenc.data.arrays"))  # without a path
    code, out, err = call("units", path, "--units", "1,2", "--examples", 3)
    assert (code, err) == (0, "")
    assert "2 of 12 units of code" in out
    rows = list(csv.DictReader((path / "units" / "units.csv").open()))
    assert [(row["unit"], row["rank"]) for row in rows] == [(u, r) for u in "12" for r in "123"]
    assert (path / "units" / "units.png").stat().st_size > 1_000
    assert not (path / "units" / "units.html").exists()
    for value, message in (("12", "--units 12: code has units 0 to 11"), ("1,x", "argument --units: invalid list")):
        code, _, err = call("units", path, "--units", value, "--force")
        assert code == 2
        assert message in err
        assert err.count("\n") == 1


def test_a_table_has_a_page_with_values_and_columns(tmp_path: Path) -> None:
    shop = Path(__file__).resolve().parents[2] / "old_runs" / "shop.csv"
    data = ("data=table", f"data.path={shop}", "data.label=state", "likelihood=table", "network=dictionary")
    run = load_run(trained(tmp_path / "run", "model=sparse", *data, "model.latent_dim=8", "trainer.epochs=2"), "cpu")
    (unit,) = units.units(run, chosen=[2], examples=2)
    assert units.sheet(run, [unit], 2) is None
    page = units.page(run, [unit])
    assert "<th>colour</th>" in page
    assert page.count("<tr>") == 1 + len(unit.positions)
    for name in units.names(run, unit):
        assert f">{name}</td>" in page
    assert f"active for {unit.frequency:.2%}" in page
    assert html.STYLE in page
    atom = torch.zeros(run.spec.shape)
    column = run.spec.kind.columns[0]
    atom[column.start] = -2.0
    assert run.spec.kind.direction(atom).startswith(f"{column.name} -2")


def test_words_of_a_direction_are_those_with_positive_entries() -> None:
    kind = Counts((4,), 0.0, 1.0, vocabulary=("a", "b", "c"))
    assert kind.direction(torch.tensor([0.5, -3.0, 2.0, 9.0])) == "c a"


def test_a_unit_of_a_feature_map_is_a_channel(tmp_path: Path) -> None:
    options = ("network=conv_spatial", "network.channels=[4]", "model.latent_dim=3", "trainer.epochs=1")
    run = load_run(trained(tmp_path / "run", "model=ae", *options), "cpu")
    (unit,) = units.units(run, chosen=[2], examples=3)
    codes = run.reference.codes.reshape(len(run.reference), 3, -1)
    assert unit.activations[0] == codes[:, 2].max()
    assert unit.atom is None
    with pytest.raises(UserError, match="--units 3: code has units 0 to 2"):
        units.units(run, chosen=[3])


def test_units_of_another_layer(ae_run: Path) -> None:
    run = load_run(ae_run, "cpu")
    (unit,) = units.units(run, chosen=[5], examples=3, layer="encoder.2")
    values = layers.activations(run.model, run.reference.rows.take(slice(None)), ["encoder.2"])["encoder.2"][:, 5]
    assert unit.activations == pytest.approx(values.detach().sort(descending=True).values[:3].numpy(), abs=1e-5)
    assert unit.frequency == pytest.approx(float((values != 0).float().mean()))


def test_examples_with_equal_activations_are_drawn_from_all_rows() -> None:
    """The first rows with a bit that is set would be of one class, where rows are sorted by class."""
    positions, activations = units._excited(np.repeat([0.0, 1.0, 1.0, 2.0], [300, 300, 300, 2]), 42)
    assert set(positions[:2].tolist()) == {900, 901}
    assert activations.tolist() == [2.0] * 2 + [1.0] * 40
    assert 8 < (positions[2:] < 600).sum() < 32
