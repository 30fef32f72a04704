"""The masked autoencoder: what the encoder sees, what is predicted, and who learns from it."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path

import hydra
import pytest
import torch
from torch import Tensor, nn

from autoenc import bottlenecks, likelihoods, load_run, networks, noise, run
from autoenc.config import checks, schema
from autoenc.core import Autoencoder, Batch
from autoenc.data.dataset import DataSpec
from autoenc.data.kinds.image import Image
from autoenc.data.kinds.kind import Column
from autoenc.data.split import Split
from autoenc.errors import ConfigError
from autoenc.networks.patches import Patches
from autoenc.objectives import Masked
from autoenc.training.evaluation import evaluate

COLUMNS = (Column("a", "number", 0, 1, indicator=5), Column("b", "category", 1, 4), Column("c", "number", 4, 5))


def made(shape: Sequence[int] = (2, 8, 12), pool: int = 1, **options: object) -> tuple[Autoencoder, Masked]:
    """A model of examples in [0, 1], and the objective."""
    pair = networks.vit(tuple(shape), 16 * pool * pool, width=16, layers=2, heads=2, pool=pool, decoder_hidden=8)
    code = bottlenecks.Features(pair.feature_shape, pair.feature_shape[0])
    model = Autoencoder(noise.Identity(), pair.encoder, code, pair.decoder, likelihoods.Gaussian())
    return model, Masked({}, model, **{"width": 8, "layers": 1, "heads": 2, **options})


@pytest.mark.parametrize(
    ("patches", "count", "values"),
    [
        (Patches((3, 8, 12), 4), 6, 48),
        (Patches((2, 6), 3), 2, 6),
        (Patches((6,), 2), 3, 2),
        (Patches((6,), columns=COLUMNS), 3, 3),
    ],
    ids=["image", "series", "vector", "table"],
)
def test_the_tokens_of_an_example_give_it_back(patches: Patches, count: int, values: int) -> None:
    shape = patches.place.shape
    x = torch.rand(5, *shape)
    tokens = patches.split(x)
    assert tokens.shape == (5, count, values)
    assert torch.equal(patches.join(tokens), x)


def test_tokens_are_patches_spans_and_columns() -> None:
    image, series = torch.rand(1, 3, 8, 12), torch.rand(1, 2, 6)
    assert torch.equal(Patches((3, 8, 12), 4).split(image)[0, 4], image[0, :, 4:, 4:8].flatten())
    assert torch.equal(Patches((2, 6), 3).split(series)[0, 1], series[0, :, 3:].flatten())
    row = torch.tensor([[0.1, 0.2, 0.3, 0.4, 0.5, 1.0]])
    cells = Patches((6,), columns=COLUMNS).split(row)
    assert torch.equal(cells[0], torch.tensor([[0.1, 1.0, 0.0], [0.2, 0.3, 0.4], [0.5, 0.0, 0.0]]))


@pytest.mark.parametrize(
    ("shape", "size"),
    [((3, 32, 32), 4), ((1, 28, 28), 4), ((1, 8, 8), 2), ((3, 64, 96), 8), ((64,), 1), ((640,), 10), ((3, 128), 2)],
)
def test_the_usual_size_of_a_patch(shape: tuple[int, ...], size: int) -> None:
    patches = Patches(shape)
    assert patches.values == (size**2 * shape[0] if len(shape) == 3 else size * (shape[0] if len(shape) == 2 else 1))


def test_sizes_without_a_common_divisor_make_too_many_tokens_unless_asked_for() -> None:
    with pytest.raises(ConfigError, match=r"^patch: examples of 40 x 31 would be 1,240 tokens; .* set 1$"):
        Patches((1, 40, 31))
    assert Patches((1, 40, 31), 1).count == 1240
    assert Patches((1, 40, 32)).count == 80


@pytest.mark.parametrize("ratio", [0.1, 0.5, 0.75, 0.9])
def test_the_fraction_of_hidden_tokens_is_exact(ratio: float) -> None:
    model, objective = made((1, 16, 16), ratio=ratio)
    _, _, hidden = objective.predict(model, Batch(torch.rand(9, 1, 16, 16)))
    assert hidden.sum(1).tolist() == [round(64 * ratio)] * 9
    assert len(hidden.unique(dim=0)) == 9, "drawn for each example"


def test_blocks_of_tokens_are_hidden_together() -> None:
    model, objective = made((2, 64), ratio=0.5, span=8)
    hidden = objective.predict(model, Batch(torch.rand(50, 2, 64)))[2]
    assert set(hidden.sum(1).tolist()) == {32}
    borders = (hidden[:, 1:] != hidden[:, :-1]).sum(1).float().mean()
    assert borders < 9, "at most one for each of 9 blocks; 32 if tokens were hidden one by one"
    first = hidden[:, 0] != hidden[:, 1]
    assert first.any(), "blocks begin anywhere"


def test_the_encoder_never_sees_hidden_patches() -> None:
    model, _ = made()
    x, keep = torch.rand(4, 2, 8, 12), torch.tensor([[0, 3], [1, 2], [5, 4], [2, 0]])
    hidden = torch.ones(4, 24, dtype=torch.bool).scatter(1, keep, False)
    patches = model.encoder.patches
    assert patches.count == 24
    other = patches.join(patches.split(x).where(~hidden[..., None], 7.0))
    assert torch.equal(model.encoder(x, keep), model.encoder(other, keep))
    assert not torch.equal(model.encoder(x), model.encoder(other))


def test_the_cost_falls_with_the_ratio() -> None:
    """The layers of the encoder process the visible tokens only."""
    seen: list[int] = []
    for ratio in (0.25, 0.75):
        model, objective = made(ratio=ratio)
        for block in model.encoder.blocks:
            block.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].shape[1]))
        objective(model, Batch(torch.rand(3, 2, 8, 12)), 0)
    assert seen == [18, 18, 6, 6]


@pytest.mark.parametrize("normalize", [True, False])
def test_only_hidden_patches_are_in_the_loss(normalize: bool) -> None:
    model, objective = made(normalize=normalize)
    x, hidden = torch.rand(3, 2, 8, 12), torch.rand(3, 24) < 0.5
    predicted = torch.randn(3, 24, 8, requires_grad=True)
    objective.terms(model, predicted, x, hidden)[0].sum().backward()
    assert (predicted.grad[~hidden] == 0).all()
    assert (predicted.grad[hidden] != 0).all()


def test_closed_forms_of_the_loss() -> None:
    """Of standardized patches, a prediction of 0 has squared errors of D - 1, as the variance is the unbiased one."""
    model, objective = made()
    patches, x = model.encoder.patches, torch.rand(3, 2, 8, 12)
    hidden = torch.zeros(3, 24, dtype=torch.bool).index_fill(1, torch.arange(10), True)
    nats, error, deviation = objective.terms(model, torch.zeros(3, 24, 8), x, hidden)
    constant = 8 * math.log(2 * math.pi)
    assert nats.tolist() == pytest.approx([10 * (7 + constant) / 2] * 3, rel=1e-3)
    assert torch.equal(error, deviation)
    perfect = objective.standardized(patches.split(x))[0]
    assert objective.terms(model, perfect, x, hidden)[1].tolist() == [0, 0, 0]

    _, raw = made(normalize=False)
    predicted = torch.rand(3, 24, 8)
    nats, *_ = raw.terms(model, predicted, x, hidden)
    nll = model.likelihood.nll_per_dim(predicted, patches.split(x))
    assert nats.tolist() == pytest.approx((nll * hidden[..., None]).flatten(1).sum(1).tolist(), rel=1e-5)


def test_the_predicted_variance_is_that_of_all_rows_whatever_the_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """A mean of the ratios of batches would be another number; two examples without contrast would decide it."""
    model, objective = made()
    x = torch.rand(7, 2, 8, 12)
    x[:3] *= 0.01

    def terms(model: Autoencoder, predicted: Tensor, x: Tensor, hidden: Tensor) -> tuple[Tensor, ...]:
        square = x.square().flatten(1).sum(1)
        return square, x.flatten(1).sum(1), 3 * square

    monkeypatch.setattr(objective, "terms", terms)
    spec = DataSpec("images", Image((2, 8, 12), 0.0, 1.0))
    numbers = evaluate(model.eval(), objective.eval(), Split(x), spec, 2).numbers
    assert numbers["masked_r2"] == pytest.approx(1 - x.sum().item() / (3 * x.square().sum().item()), rel=1e-5)
    assert not {"masked_error", "masked_deviation"} & numbers.keys()


def test_the_decoder_learns_from_the_code_without_changing_it(monkeypatch: pytest.MonkeyPatch) -> None:
    model, objective = made()
    batch = Batch(torch.rand(6, 2, 8, 12))
    loss = objective(model, batch, 0)
    assert loss.parts["loss"] == loss.parts["masked"], "nll is no part of it"
    loss.total["model"].backward()
    assert all(p.grad.abs().sum() > 0 for p in objective.players(model)["model"].parameters() if p.requires_grad)
    assert {id(p) for p in objective.players(model)["model"].parameters()} == {
        id(p) for part in (model, objective) for p in part.parameters()
    }

    model.zero_grad()
    none = torch.zeros(6)
    monkeypatch.setattr(objective, "terms", lambda *_: (none, none, none))
    objective(model, batch, 0).total["model"].backward()
    assert all(p.grad is None for p in model.encoder.parameters())
    assert all(p.grad.abs().sum() > 0 for p in model.decoder.parameters())


def test_the_positions_of_patches_matter() -> None:
    model, _ = made()
    patches, x = model.encoder.patches, torch.rand(4, 2, 8, 12)
    moved = patches.join(patches.split(x).flip(1))
    assert not torch.allclose(model.encoder(x), model.encoder(moved), atol=1e-3)
    nn.init.zeros_(model.encoder.position)
    torch.testing.assert_close(model.encoder(x), model.encoder(moved))


def test_features_are_means_over_regions() -> None:
    model, _ = made(pool=2)
    encoder, tokens = model.encoder, torch.rand(3, 24, 16)
    grid = tokens.unflatten(1, (4, 6))
    quarters = [grid[:, a : a + 2, b : b + 3].mean((1, 2)) for a in (0, 2) for b in (0, 3)]
    torch.testing.assert_close(encoder.pooled(tokens), torch.cat(quarters, 1))
    keep = torch.tensor([[0, 1, 23]] * 3)
    some = encoder.pooled(tokens[:, :3], keep).unflatten(1, (4, 16))
    torch.testing.assert_close(some[:, 0], tokens[:, :2].mean(1))
    torch.testing.assert_close(some[:, 3], tokens[:, 2])
    assert (some[:, 1:3] == 0).all(), "a region without visible patches"


def test_codes_are_of_whole_examples_and_have_no_draws() -> None:
    model, objective = made()
    batch = Batch(torch.rand(4, 2, 8, 12))
    model.eval()
    with torch.no_grad():
        one, two, out = model.encode(batch).mean, model.encode(batch).mean, model(batch)
    assert torch.equal(one, two)
    assert torch.equal(out.code.z, one)
    figure = objective.show(model, batch)
    hidden = figure["visible"] != batch.x
    predicted = next(x for name, x in figure.items() if name.startswith("predicted"))
    assert torch.equal(predicted[~hidden], batch.x[~hidden])


def compose(*overrides: str) -> dict:
    schema.register()
    with hydra.initialize_config_dir(str(schema.CONFIGS), version_base="1.3"):
        return checks.check(hydra.compose("config", overrides=["trainer.figures=0", "trainer.threads=1", *overrides]))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["network.patch=3"], r"^network\.patch=3: must divide .* 8 x 8: one of 1, 2, 4, 8$"),
        (["network.pool=5", "model.latent_dim=3200"], r"^network\.pool=5: must lie in 1 to 4"),
        (["network.width=12", "network.heads=5"], r"^network\.heads=5: must divide network\.width=12"),
        (["network.width=64"], r"^model\.bottleneck: .* model\.latent_dim=64, not 128"),
        (["trainer.batch_size=1"], r"^trainer\.batch_size=1: must be 2 or more"),
        (["network=mlp"], r"^model\.objective: .* network=vit"),
        (["model.objective.ratio=0.99"], r"^model\.objective\.ratio=0\.99: hides 16 of 16 tokens"),
        (["model.objective.ratio=0.0"], r"^model\.objective\.ratio=0\.0: hides 0 of 16 tokens"),
        (["model.objective.span=9"], r"^model\.objective\.span=9: must lie in 1 to 4"),
        (["model.objective.width=30"], r"^model\.objective\.heads=4: must divide model\.objective\.width=30"),
        (["model.objective.normalize=true", "network.patch=1"], r"^model\.objective\.normalize=True: .*=false"),
        (["model.bottleneck._target_=autoenc.bottlenecks.Gaussian"], r"^model\.objective: .*bottlenecks\.Features"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_one_line(overrides: list[str], message: str, tmp_path: Path) -> None:
    if "network=mlp" in overrides:
        overrides = [*overrides, "~network.width", "model.bottleneck._target_=autoenc.bottlenecks.Deterministic"]
    with pytest.raises(ConfigError, match=message) as refused:
        run.train(compose("model=masked", *overrides), tmp_path / "run")
    assert "\n" not in str(refused.value)


def test_columns_of_a_table_are_hidden_and_predicted(tmp_path: Path) -> None:
    rows = ["a,b,c"] + [f"{i % 7},{'xyz'[i % 3]},{(i % 7) * 2 + 0.5}" for i in range(210)]
    (tmp_path / "rows.csv").write_text("\n".join(rows))
    small = ["model.latent_dim=16", "network.layers=1", "network.heads=2", "model.objective.width=8"]
    table = ["model=masked", "data=table", f"data.path={tmp_path / 'rows.csv'}", *small]
    kept = ["trainer.epochs=10", "optimizer.lr=0.01", "trainer.batch_size=32", "model.objective.ratio=0.4"]
    with pytest.raises(ConfigError, match=r"^network\.patch=2: must be null for tables"):
        run.train(compose(*table, "network.patch=2"), tmp_path / "refused")
    run.train(compose(*table, *kept), tmp_path / "run")
    loaded = load_run(tmp_path / "run", "cpu")
    assert loaded.model.encoder.patches.count == 3
    test = json.loads((tmp_path / "run" / "summary.json").read_text())["test"]
    assert test["masked_r2"] > 0.2, "c is determined by a"
