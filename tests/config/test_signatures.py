"""Options of constructors, read without importing what they are of."""

import subprocess
import sys
from collections.abc import Callable
from typing import Any, Literal

import pytest

from autoenc.config.signatures import Option, options


def test_a_class_with_an_init() -> None:
    assert options("autoenc.noise.Gaussian") == {
        "low": Option(float, required=True),
        "high": Option(float, required=True),
        "std": Option(float, required=False),
        "vary": Option(bool, required=False),
        "clip": Option(bool, required=False),
    }


def test_a_class_without_options() -> None:
    assert options("autoenc.noise.Identity") == {}
    assert options("autoenc.likelihoods.Bernoulli") == {}


def test_a_dataclass_through_the_package_that_re_exports_it() -> None:
    found = options("autoenc.regularizers.KL")
    assert found == options("autoenc.regularizers.kl.KL")
    assert found == {
        "weight": Option(float | Callable[[float], float], required=False),
        "free_bits": Option(float, required=False),
    }
    assert options("autoenc.schedules.WarmUp")["total_steps"] == Option(int, required=True)


def test_class_variables_are_no_options() -> None:
    assert set(options("autoenc.regularizers.Jacobian")) == {"weight", "exact_up_to", "projections"}


def test_a_function() -> None:
    found = options("autoenc.networks.mlp")
    assert list(found) == [
        "input_shape",
        "latent_dim",
        "hidden",
        "decoder_hidden",
        "activation",
        "norm",
        "normalize",
        "encoder_bias",
        "kind",
    ]
    assert found["norm"] == Option(Literal["none", "batch", "layer"], required=False)
    assert found["latent_dim"] == Option(int, required=True)


def test_torchs_adam() -> None:
    found = options("torch.optim.Adam")
    assert found["params"].required
    assert {"lr", "betas", "weight_decay", "fused"} <= set(found)
    assert not found["lr"].required
    assert "self" not in found


def test_annotations_that_are_not_about_plain_values_are_any(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "pack"
    package.mkdir()
    (package / "__init__.py").write_text("from pack.parts import Part as Renamed\n")
    (package / "parts.py").write_text(
        "raise RuntimeError('imported')\n"
        "class Part:\n"
        "    def __init__(self, a: Unknown, b, c: int | None = None, *, d: 'str' = '', e: list[int]): ...\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    found = options("pack.Renamed")
    assert [found[k] for k in "abce"] == [
        Option(Any, required=True),
        Option(Any, required=True),
        Option(int | None, required=False),
        Option(list[int], required=True),
    ]
    assert not found["d"].required


@pytest.mark.parametrize("target", ["autoenc.noise.Gausian", "autoenc.nose.Gaussian", "nowhere.at.All", "Gaussian", ""])
def test_what_does_not_exist_is_a_lookup_error(target: str) -> None:
    with pytest.raises(LookupError):
        options(target)


def test_checking_a_config_imports_no_torch() -> None:
    code = """
import sys
from autoenc.config import checks as config
from autoenc.errors import ConfigError, DataError
for part, target, key in (
    ("optimizer", "torch.optim.Adam", "learning_rate"), ("network", "autoenc.networks.mlp", "hiden")
):
    try:
        config.check_node(part, {"_target_": target, key: 1})
    except ConfigError as error:
        print(error)
for target in ("table", "arrays", "text", "bag_of_words", "image_folder", "defects"):
    try:
        config.check_files({"_target_": "autoenc.data." + target, "path": "nothing.csv"})
    except DataError as error:
        assert "data.path=nothing.csv: no such f" in str(error), str(error)
    else:
        raise AssertionError(target)
assert "torch" not in sys.modules, "imported"
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    first, second = done.stdout.splitlines()
    assert first.startswith("optimizer.learning_rate: Adam has no option 'learning_rate'; ")
    assert second == "network.hiden: mlp has no option 'hiden'; did you mean 'hidden'?"
