"""Configs that older versions wrote."""

from pathlib import Path

import pytest
import yaml
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from autoenc.config import schema
from autoenc.config.stored import parse_config


@pytest.mark.parametrize(
    ("dark", "kinds"), [(0.85, ["bright", "dark"]), (0.5, ["bright", "dark"]), (1, ["dark"]), (0.0, ["bright"])]
)
def test_the_fraction_of_dark_blemishes_of_version_0_3_becomes_kinds(dark: float, kinds: list[str]) -> None:
    schema.register()
    with initialize_config_dir(str(schema.CONFIGS), version_base="1.3"):
        config = compose("config", overrides=["noise=blemishes", "data=digits"])
    stored = OmegaConf.to_container(config, resolve=True)
    assert isinstance(stored, dict)
    stored["noise"] = {"_target_": "autoenc.noise.Blemishes", "p": 0.9, "dark": dark}
    read = parse_config(yaml.safe_dump(stored), Path("config.yaml"))
    assert read["noise"] == {"_target_": "autoenc.noise.Blemishes", "p": 0.9, "kinds": kinds}
