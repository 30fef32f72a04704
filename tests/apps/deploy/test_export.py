"""What is exported computes what the run computes, needs nothing of this package, and tells nothing of this machine."""

import hashlib
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor

import autoenc.loading
from autoenc import bottlenecks, likelihoods, networks, noise
from autoenc.apps.anomaly.scores import Detector
from autoenc.apps.deploy import export, portable
from autoenc.core import Autoencoder, Batch, Bottleneck, Likelihood
from autoenc.data.dataset import Data, DataSpec
from autoenc.data.kinds.image import Image
from autoenc.data.split import Split
from autoenc.errors import ConfigError, UserError
from autoenc.loading import Run
from autoenc.metrics import mse_per_example

pytestmark = pytest.mark.usefixtures("operators")

ROOT = Path(__file__).resolve().parents[3]
K = 5
VECTOR, GREY, RGB = (6,), (1, 8, 8), (3, 9, 11)


def make(
    network: Callable[..., networks.Pair],
    shape: tuple[int, ...],
    bottleneck: Callable[[int, int], Bottleneck],
    likelihood: Likelihood,
    **options: object,
) -> Autoencoder:
    """An untrained model, but for the moments of batch norm, which one batch has gone into."""
    pair = network(shape, K, **options)
    core = bottleneck(pair.feature_shape, K)
    model = Autoencoder(noise.Gaussian(0.0, 1.0, 0.3), pair.encoder, core, pair.decoder, likelihood)
    model.train()(Batch(torch.rand(8, *shape)))
    return model.eval()


def plain(activation: str = "identity") -> Callable[[int, int], Bottleneck]:
    return lambda features, k: bottlenecks.Deterministic(features, k, activation)


def topk(features: int, k: int) -> Bottleneck:
    return bottlenecks.TopK(features, k, k=2)


def kinds() -> dict[str, tuple[Autoencoder, tuple[int, ...]]]:
    """Every network, norm, activation, bottleneck and likelihood at least once, with the shape of an example."""
    torch.manual_seed(0)
    gaussian, laplace, bernoulli = likelihoods.Gaussian, likelihoods.Laplace, likelihoods.Bernoulli
    vae, mlp, conv, linear = bottlenecks.Gaussian, networks.mlp, networks.conv, networks.linear
    small, odd = {"channels": [4], "hidden": 8}, (1, 9, 8)
    learned = gaussian(0.2, True, "sigmoid")
    return {
        "linear": (make(linear, VECTOR, plain(), gaussian()), VECTOR),
        "dictionary": (make(linear, RGB, topk, laplace(), unit_norm=True), RGB),
        "mlp": (make(mlp, VECTOR, vae, laplace(1, True, "sigmoid"), hidden=[8], activation="gelu"), VECTOR),
        "mlp_batch": (make(mlp, GREY, plain("relu"), bernoulli(), hidden=[8], norm="batch", activation="silu"), GREY),
        "mlp_layer": (make(mlp, GREY, plain("tanh"), learned, hidden=[8], norm="layer", activation="tanh"), GREY),
        "conv": (make(conv, GREY, plain("sigmoid"), bernoulli(), norm="none", activation="leaky_relu", **small), GREY),
        "conv_batch": (make(conv, RGB, vae, learned, norm="batch", activation="sigmoid", kernel_size=5, **small), RGB),
        "conv_group": (make(conv, odd, topk, gaussian(), norm="group", channels=[8, 4], hidden=8), odd),
    }


def rows(n: int, shape: tuple[int, ...], seed: int = 0) -> Tensor:
    return torch.rand(n, *shape, generator=torch.Generator().manual_seed(seed))


def as_run(model: Autoencoder, shape: tuple[int, ...], path: Path) -> Run:
    """A run of a model on random images, fed as uint8."""
    splits = [Split((255 * rows(n, shape, n)).to(torch.uint8), scale=1 / 255) for n in (40, 60, 210)]
    data = Data(DataSpec("tiny", Image(shape, 0.0, 1.0), ("a", "b")), *splits)
    config = {
        "trainer": {"eval_batch_size": 50},
        "model": {"latent_dim": K},
        "data": {"_target_": "autoenc.data.digits"},
    }
    return Run(path, model, config, data.spec, {"choices": {"model": "vae"}}, torch.device("cpu"), data)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    torch.manual_seed(0)
    model = make(networks.mlp, GREY, bottlenecks.Gaussian, likelihoods.Bernoulli(), hidden=[16])
    return as_run(model, GREY, tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="module")
def exported(run: Run) -> export.Exported:
    return export.export(run, run.path / "files", opset=18, quantile=0.9)


@pytest.fixture
def script(
    run: Run, exported: export.Exported, run_script: Callable[..., int], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., int]:
    """scripts/export.py on the run; the files are those of `exported`, since the exporter takes seconds."""
    onnx_files = {name: (exported.folder / f"{name}.onnx").read_bytes() for name in ("encoder", "decoder", "score")}
    monkeypatch.setattr(autoenc.loading, "load_run", lambda path, device: run)
    monkeypatch.setattr(export, "onnx_files", lambda *_: onnx_files)
    monkeypatch.setattr(export, "pt2_file", lambda part, what: (exported.folder / what.split(": ")[1]).read_bytes())
    return lambda *arguments: run_script("export", run.path, *arguments)


def close(found: np.ndarray, wanted: Tensor) -> None:
    np.testing.assert_allclose(found, wanted.numpy(), rtol=1e-4, atol=1e-4, strict=True)


def same_as(model: Autoencoder, shape: tuple[int, ...], call: portable.Call) -> None:
    """The score part against the model, for batches of 1, 2 and 7."""
    for n in (1, 2, 7):
        x = rows(n, shape, seed=n)
        wanted = model.reconstruct(Batch(x))
        assert wanted.std() > 0.01  # there is something to compare
        errors, reconstruction = call(x.numpy())
        close(reconstruction, wanted)
        close(errors, mse_per_example(x, wanted))


def test_every_kind_of_model_is_the_same_in_onnx_for_batches_of_any_size() -> None:
    models = kinds()
    parts = {name: portable.parts_of(model, shape, K)["score"] for name, (model, shape) in models.items()}
    files = portable.onnx_files(parts)
    for name, (model, shape) in models.items():
        same_as(model, shape, portable.onnx_call(files[name]))
        values = onnx.load_from_string(files[name]).graph
        assert {v.type.tensor_type.shape.dim[0].dim_param for v in (*values.input, *values.output)} == {"N"}


def test_codes_that_are_0_or_more_are_projected_in_onnx() -> None:
    sparse = [plain("relu"), bottlenecks.JumpReLU, bottlenecks.Gated, lambda f, k: bottlenecks.BatchTopK(f, k, k=2)]
    models = {str(i): make(networks.linear, VECTOR, kind, likelihoods.Gaussian()) for i, kind in enumerate(sparse)}
    files = portable.onnx_files({n: portable.parts_of(model, VECTOR, K)["decoder"] for n, model in models.items()})
    z = torch.randn(7, K)
    for name, model in models.items():
        (decoded,) = portable.onnx_call(files[name])(z.numpy())
        with torch.no_grad():
            close(decoded, model.expected(model.bottleneck.project(z)))


def test_a_pt2_file_is_the_same_for_batches_of_any_size() -> None:
    model, shape = kinds()["conv_group"]
    same_as(model, shape, portable.pt2_call(portable.pt2_file(portable.parts_of(model, shape, K)["score"])))


def test_encoder_and_decoder_are_what_the_run_does(run: Run, exported: export.Exported) -> None:
    x = rows(13, GREY, seed=3)
    for kind, read in (("onnx", portable.onnx_call), ("pt2", portable.pt2_call)):
        encode, decode = (read((exported.folder / f"{part}.{kind}").read_bytes()) for part in ("encoder", "decoder"))
        code = encode(x.numpy())[0]
        close(code, run.encode(x))
        close(decode(code)[0], run.reconstruct(x))
    assert set(exported.differences) == {f"{p}.{k}" for p in ("encoder", "decoder", "score") for k in ("onnx", "pt2")}
    assert max(exported.differences.values()) < 1e-5


def test_no_sample_of_the_posterior_is_left_in_the_files(exported: export.Exported) -> None:
    for path in exported.folder.iterdir():
        assert b"normal" not in path.read_bytes().lower(), path.name


def test_the_threshold_is_the_quantile_of_the_validation_errors(run: Run, exported: export.Exported) -> None:
    x = run.data.val.take(slice(None)).x
    errors = mse_per_example(x, run.reconstruct(x)).numpy()
    assert exported.threshold == pytest.approx(np.sort(errors)[53])  # 54 of 60 rows are not above: 0.9
    assert exported.threshold == pytest.approx(Detector(run).threshold("error", 0.9))  # what scripts/detect.py says


def test_metadata(run: Run, exported: export.Exported) -> None:
    info = json.loads((exported.folder / "export.json").read_text())
    assert info["input"] == {
        "name": "x", "shape": ["N", 1, 8, 8], "dtype": "float32", "low": 0.0, "high": 1.0
    }  # fmt: skip
    assert info["preprocessing"]["uint8_scale"] == 1 / 255
    assert (info["data"], info["classes"], info["model"], info["latent_dim"]) == ("tiny", ["a", "b"], "vae", K)
    assert (info["score"]["threshold"], info["score"]["quantile"]) == (exported.threshold, 0.9)
    assert info["verification"]["examples"] == 40
    for name, digest in info["sha256"].items():
        assert digest == hashlib.sha256((exported.folder / name).read_bytes()).hexdigest()
    model = onnx.load(str(exported.folder / "score.onnx"))
    assert [entry.version for entry in model.opset_import] == [18] == [info["versions"]["opset"]]
    assert (
        [value.name for value in model.graph.output] == info["files"]["score"]["outputs"] == ["score", "reconstruction"]
    )


def test_the_example_needs_only_numpy_and_onnxruntime(run: Run, exported: export.Exported) -> None:
    info = json.loads((exported.folder / "export.json").read_text())
    assert len(info["usage"]) == 5
    code = "\n".join(["import sys; sys.modules['torch'] = sys.modules['autoenc'] = None", *info["usage"]])
    code += "\nprint(repr(float(score[0])))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=exported.folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    flags, score = done.stdout.splitlines()
    zero = torch.zeros(1, *GREY)
    assert float(score) == pytest.approx(float(mse_per_example(zero, run.reconstruct(zero))), rel=1e-5)
    assert flags == f"anomaly: {np.full(3, float(score) > exported.threshold)}"


def test_no_path_of_this_machine_is_in_the_files(run: Run, exported: export.Exported) -> None:
    for path in exported.folder.iterdir():
        content = path.read_bytes()
        for secret in (ROOT, Path.home(), Path(sys.prefix), run.path, "site-packages", "stack_trace"):
            assert str(secret).encode() not in content, f"{path.name}: {secret}"


def test_the_script_writes_once_and_over_it_only_when_asked(
    run: Run, script: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "deploy"
    assert script("--output", str(folder)) == 0
    assert len(list(folder.iterdir())) == 8
    out = " ".join(capsys.readouterr().out.split())
    assert "encoder.onnx" in out
    assert f"scripts/detect.py decides by {Detector(run).best}, not by this score; --detector exports" in out
    before = json.loads((folder / "export.json").read_text())
    assert script("--output", str(folder), "--quantile", "0.5") == 2
    assert "--force" in capsys.readouterr().err
    assert json.loads((folder / "export.json").read_text()) == before
    assert script("--output", str(folder), "--quantile", "0.5", "--force") == 0
    after = json.loads((folder / "export.json").read_text())
    assert after["score"]["threshold"] < before["score"]["threshold"]


@pytest.mark.parametrize("difference", [0.5, float("nan")])
def test_a_file_that_differs_ends_with_code_1_and_nothing_written(
    difference: float,
    script: Callable[..., int],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(export, "_difference", lambda *_: difference)
    assert script("--output", str(tmp_path / "deploy")) == 1
    said = capsys.readouterr()
    assert said.err.count("\n") == 1
    assert "encoder.onnx differs from the run" in said.err
    assert list(tmp_path.iterdir()) == []


def test_the_difference_is_relative_to_large_values_and_sees_shapes() -> None:
    wanted = np.array([[0.5], [100.0]], np.float32)
    given = np.zeros((2, 1), np.float32)
    assert export._difference(lambda x: [wanted + 0.25], given, [wanted], 2) == pytest.approx(0.25)
    assert export._difference(lambda x: [wanted * 1.5], given, [wanted], 2) == pytest.approx(0.5)
    assert export._difference(lambda x: [wanted[:, 0]], given, [wanted], 2) == float("inf")
    twice = export._difference(lambda x: [wanted, wanted * np.nan], given, [wanted, wanted], 2)
    assert np.isnan(twice), "also of a later output"


def test_small_scores_are_compared_by_their_roots() -> None:
    given, error = np.zeros((2, 1), np.float32), np.array([9e-5, 8e-5], np.float32)
    call = export._rooted(lambda x: [np.zeros_like(error)])
    assert export._difference(call, given, [np.sqrt(error)], 2) > 90 * export.TOLERANCE, "0 is no error of 9e-5"
    call = export._rooted(lambda x: [error * 1.001])
    assert export._difference(call, given, [np.sqrt(error)], 2) < export.TOLERANCE


def test_examples_whose_units_tie_for_the_last_place_are_left_out(tmp_path: Path) -> None:
    model = make(networks.linear, GREY, topk, likelihoods.Gaussian(), unit_norm=True)
    with torch.no_grad():
        model.bottleneck.linear.weight.zero_()
        model.bottleneck.linear.bias.zero_()
        model.bottleneck.linear.weight[:, 0] = torch.tensor([3.0, 2.0, 1.0, 0.0, 0.0])
        model.bottleneck.linear.weight[2, 1] = 1.0  # pixel 1 brings unit 2 up to unit 1
    x = torch.zeros(3, *GREY)
    x[:, 0, 0, 0] = 0.5
    x[1, 0, 0, 1] = 0.5
    assert export.settled(as_run(model, GREY, tmp_path), Split(x)).tolist() == [True, False, True]


class Odd(likelihoods.Gaussian):
    def mean(self, params: Tensor) -> Tensor:
        return torch.special.bessel_j0(params)


def test_an_operator_that_onnx_does_not_have_is_named_in_one_line() -> None:
    model = make(networks.linear, VECTOR, plain(), Odd())
    with pytest.raises(UserError, match=r"^run: cannot be exported to ONNX opset 20: .*bessel_j0") as caught:
        portable.onnx_files({"decoder": portable.parts_of(model, VECTOR, K)["decoder"]}, 20, "run")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("opset", "quantile", "named"), [(17, 0.9, "--opset=17"), (20, 1.5, "--quantile=1.5")])
def test_settings_out_of_range(run: Run, opset: int, quantile: float, named: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=named):
        export.export(run, tmp_path / "files", opset, quantile)
    assert not (tmp_path / "files").exists()


def test_the_cross_entropy_of_large_logits_is_finite_in_onnx() -> None:
    logits, x = torch.tensor([-200.0, -100.0, -1.0, 0.0, 3.0, 200.0]), torch.tensor([1.0, 0.3, 0.0, 1.0, 0.5, 0.0])
    expected = torch.nn.functional.binary_cross_entropy_with_logits(logits, x, reduction="none")
    entropy = portable.DECOMPOSED[torch.ops.aten.binary_cross_entropy_with_logits.default]
    torch.testing.assert_close(entropy(logits, x), expected)
