"""A finished run: what it computes, what it takes, and what a stranger's directory cannot do."""

import json
import math
import pickle
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml
from torch import nn

from autoenc import bottlenecks, likelihoods, load_run
from autoenc.core import Autoencoder
from autoenc.data import digits
from autoenc.data.dataset import DataSpec
from autoenc.data.kinds.observed import Column
from autoenc.data.kinds.vector import Vector
from autoenc.data.split import Split
from autoenc.errors import ConfigError, DataError, UserError
from autoenc.loading import Run
from autoenc.noise import Identity

pytestmark = pytest.mark.usefixtures("without_figures")


@pytest.fixture(scope="module")
def vae(vae_run: Path) -> Run:
    return load_run(vae_run, "cpu")


@pytest.fixture(scope="module")
def x() -> np.ndarray:
    return digits().test.take(slice(0, 40)).x.numpy()


def test_reconstructions_have_the_error_that_the_run_measured(vae: Run, vae_run: Path) -> None:
    x = vae.data.test.take(slice(None)).x.numpy()
    mse = json.loads((vae_run / "summary.json").read_text())["test"]["mse"]
    assert np.square(x - vae.reconstruct(x)).mean() == pytest.approx(mse, rel=1e-5)
    assert vae.decode(vae.encode(x)) == pytest.approx(vae.reconstruct(x), abs=1e-6)


def test_what_goes_in_comes_out(vae: Run, x: np.ndarray) -> None:
    codes = vae.encode(x)
    assert isinstance(codes, np.ndarray)
    assert (codes.shape, codes.dtype) == ((40, 8), np.float32)
    assert isinstance(vae.encode(torch.from_numpy(x)), torch.Tensor)
    assert vae.decode(np.empty((0, 8), np.float32)).shape == (0, 1, 8, 8)


def test_an_example_has_the_same_code_in_any_batch(vae: Run, x: np.ndarray) -> None:
    vae.batch_size, before = 7, vae.encode(x)
    again = vae.encode(x)
    vae.batch_size = 500
    assert before == pytest.approx(again, abs=0)
    assert vae.encode(x[::-1].copy())[::-1] == pytest.approx(before, abs=1e-5)
    assert vae.encode(x[5:6]) == pytest.approx(before[5:6], abs=1e-5)


def test_every_layout_of_an_image_has_the_same_code(vae: Run, x: np.ndarray) -> None:
    expected = vae.encode(x)
    for layout in (x[:, 0], x.transpose(0, 2, 3, 1), x.reshape(40, 64), x.astype(np.float64)):
        assert vae.encode(layout) == pytest.approx(expected, abs=1e-5)
    grey = np.round(x * 255).astype(np.uint8)
    assert vae.encode(grey) == pytest.approx(vae.encode(grey / np.float32(255)), abs=1e-5)


def test_samples_are_decoded_draws_from_the_prior_and_depend_on_the_seed_alone(vae: Run) -> None:
    torch.manual_seed(3)
    state = torch.get_rng_state()
    a, b, c = vae.sample(5, seed=1), vae.sample(5, seed=1), vae.sample(5, seed=2)
    assert torch.equal(torch.get_rng_state(), state)
    assert np.array_equal(a, b)
    assert not np.array_equal(a, c)
    torch.manual_seed(1)
    z = torch.randn(5, 8).numpy()
    assert a == pytest.approx(vae.decode(z), abs=1e-5)


def test_a_deterministic_code_has_nothing_to_sample_from(ae_run: Path) -> None:
    with pytest.raises(UserError, match="the code of a Deterministic bottleneck has no prior"):
        load_run(ae_run, "cpu").sample(1)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (np.zeros((5, 1, 9, 8)), r"expected shape \(N, 1, 8, 8\) or \(N, 64\), as in training, found \(5, 1, 9, 8\)"),
        (np.zeros((1, 8, 8, 2)), r"expected shape \(N, 1, 8, 8\)"),
        (np.zeros((8, 8)), r"found \(8, 8\); for one example, x\[None\]"),
        (np.zeros((5, 63)), r"found \(5, 63\)"),
        (np.zeros((0, 1, 8, 8)), "has no rows"),
        (np.full((2, 1, 8, 8), 200.0), r"expected values in \[0, 1\], found 200 to 200; divide by 255"),
        (np.full((2, 1, 8, 8), 16), "found 16 to 16; divide by the largest possible value"),
        (np.full((2, 1, 8, 8), -3.0), r"expected values in \[0, 1\], found -3 to -3$"),
        (np.full((2, 1, 8, 8), np.nan), r"128 values are NaN or infinite, the first at \(0, 0, 0, 0\)"),
        (np.full((2, 1, 8, 8), "a"), "expected numbers, found <U1"),
        (np.full((2, 64), None), "expected numbers, found object"),
    ],
    ids=[
        "height",
        "channels",
        "one example",
        "width",
        "no rows",
        "0 to 255",
        "0 to 16",
        "negative",
        "nan",
        "text",
        "objects",
    ],
)
def test_data_unlike_the_training_data_is_refused(vae: Run, bad: np.ndarray, message: str) -> None:
    with pytest.raises(DataError, match=message):
        vae.encode(bad)


def test_noisy_images_may_lie_outside_the_range_but_not_in_another_unit(vae: Run, x: np.ndarray) -> None:
    noisy = x + np.random.default_rng(0).normal(size=x.shape)
    assert len(vae.inputs(noisy, noisy=True)) == 40
    with pytest.raises(DataError, match=r"expected values in \[0, 1\]"):
        vae.inputs(x * 255, noisy=True)


def test_dark_bytes_are_asked_about(vae: Run) -> None:
    grey = np.full((2, 8, 8), 16, np.uint8)
    with pytest.warns(UserWarning, match="uint8 is read as 0 to 255, but the largest value is 16"):
        vae.encode(grey)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        vae.encode(grey + 60)


def test_vectors_far_outside_the_training_range_are_scored_with_a_warning(table_run: Path) -> None:
    run = load_run(table_run, "cpu")
    x = run.data.test.x.numpy()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run.encode(x)
    with pytest.warns(UserWarning, match="of the values .* lie outside the range of the training data"):
        run.encode(x * 100)
    with pytest.raises(DataError, match=r"expected shape \(N, 8\)"):
        run.encode(x[:, :7])
    with pytest.raises(DataError, match=r"codes: expected \(N, 3\), found \(2, 4\)"):
        run.decode(np.zeros((2, 4)))


def test_paths_that_are_no_finished_run(vae_run: Path, copied: Callable[[Path], Path], tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nothing: no such directory"):
        load_run(tmp_path / "nothing")
    path = copied(vae_run)
    with pytest.raises(DataError, match=f"has no run.json.*the newest runs there: {path}$"):
        load_run(tmp_path)
    record = json.loads((path / "run.json").read_text())
    for change, message in (
        ({"state": "interrupted"}, f"not finished .interrupted.; resume with: python train.py resume={path}"),
        ({"format": 99}, r"was written by autoenc [\d.]+ in format 99.* reads format 1"),
    ):
        (path / "run.json").write_text(json.dumps(record | change))
        with pytest.raises(DataError, match=message):
            load_run(path)
    (path / "run.json").write_text("{")
    with pytest.raises(DataError, match=r"run\.json: cannot be read"):
        load_run(path)


def test_weights_of_another_model_are_refused_in_one_line(
    vae_run: Path, ae_run: Path, copied: Callable[[Path], Path]
) -> None:
    path = copied(vae_run)
    shutil.copy(ae_run / "checkpoints" / "best.pt", path / "checkpoints" / "best.pt")
    with pytest.raises(DataError, match=r"best.pt: .*config.yaml .*bottleneck") as refused:
        load_run(path)
    assert "\n" not in str(refused.value)


class Evil:
    """Touches a file when it is unpickled."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str, ...]]:
        return exec, (f"open({str(self.path)!r}, 'w').close()",)


def test_a_planted_pickle_is_refused_and_not_run(vae_run: Path, copied: Callable[[Path], Path], tmp_path: Path) -> None:
    path, touched = copied(vae_run), tmp_path / "touched"
    evil = {"model": Evil(touched), "config": "", "data": 0}
    (path / "checkpoints" / "best.pt").write_bytes(pickle.dumps(evil))
    with pytest.raises(DataError, match="rejected"):
        load_run(path)
    torch.save(evil, path / "checkpoints" / "best.pt")
    with pytest.raises(DataError, match="rejected"):
        load_run(path)
    assert not touched.exists()
    torch.load(path / "checkpoints" / "best.pt", weights_only=False)
    assert touched.exists(), "the trap works"


@pytest.mark.parametrize(
    ("where", "node"),
    [
        ("noise", {"_target_": "os.system", "command": "touch {}"}),
        ("noise", {"_target_": "builtins.exec"}),
        ("data", {"_target_": "autoenc.files.write_text", "path": "{}", "text": ""}),
        ("data", {"_target_": "autoenc.data.sets.arrays.np.load", "file": "{}", "allow_pickle": True}),
        (
            "data",
            {
                "_target_": "autoenc.data.sets.torchvision_images._download",
                "dataset": "MNIST",
                "folder": "{}",
                "missing": [],
            },
        ),
        ("network", {"_target_": "torch.nn.modules.module.torch.load", "f": "{}", "weights_only": False}),
        ("network", {"_target_": "autoenc.cli.main"}),
        ("optimizer", {"_target_": "autoenc.run.resume", "run_dir": "{}"}),
        (
            "likelihood",
            {"_target_": "autoenc.likelihoods.Gaussian", "sigma": {"_target_": "os.system", "command": "x"}},
        ),
    ],
    ids=lambda v: v if isinstance(v, str) else v["_target_"],
)
def test_a_hostile_target_is_refused_and_not_run(
    vae_run: Path, copied: Callable[[Path], Path], tmp_path: Path, where: str, node: dict[str, object]
) -> None:
    path, touched = copied(vae_run), tmp_path / "touched"
    values = yaml.safe_load((path / "config.yaml").read_text())
    values[where] = {k: v.format(touched) if isinstance(v, str) else v for k, v in node.items()}
    (path / "config.yaml").write_text(yaml.safe_dump(values))
    with pytest.raises(ConfigError, match=r"_target_=.*(must begin with|is private|no such class)"):
        load_run(path)
    assert not touched.exists()


def test_yaml_tags_that_build_objects_are_refused(
    vae_run: Path, copied: Callable[[Path], Path], tmp_path: Path
) -> None:
    path, touched = copied(vae_run), tmp_path / "touched"
    text = f"seed: !!python/object/apply:os.system ['touch {touched}']\n"
    (path / "config.yaml").write_text(text + (path / "config.yaml").read_text().replace("seed: 0\n", ""))
    with pytest.raises(DataError, match=r"config\.yaml: cannot be read"):
        load_run(path)
    assert not touched.exists()


def test_interpolations_cannot_read_the_environment(
    vae_run: Path, copied: Callable[[Path], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET", "hidden")
    path = copied(vae_run)
    values = yaml.safe_load((path / "config.yaml").read_text()) | {"resume": "${oc.env:SECRET}"}
    (path / "config.yaml").write_text(yaml.safe_dump(values))
    with pytest.raises((DataError, ConfigError)):
        load_run(path)


def test_the_scale_of_draws_is_the_error_of_the_cells_that_have_a_value() -> None:
    columns = (Column("a", "number", 0, 1, indicator=1), Column("a (missing)", "number", 1, 2))
    encoder, decoder = nn.Linear(2, 1), nn.Linear(1, 2)
    for p in decoder.parameters():
        nn.init.zeros_(p)
    likelihood = likelihoods.Table(columns, observed_only=True)
    model = Autoencoder(Identity(), encoder, bottlenecks.Deterministic((1,), 1), decoder, likelihood)
    config = {"trainer": {"eval_batch_size": 2}}
    run = Run(Path("RUN"), model, config, DataSpec("rows", Vector((2,), -9.0, 9.0)), {}, torch.device("cpu"))
    rows = Split(torch.tensor([[1.0, 0.0], [3.0, 0.0], [7.0, 1.0]]))  # the last cell is missing, 7 a placeholder
    run.__dict__["reference"] = SimpleNamespace(rows=rows)
    assert run.residual.tolist() == pytest.approx([math.sqrt(5), 0])
