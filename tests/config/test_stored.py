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


@pytest.mark.parametrize(("data", "key"), [("series", "cache"), ("image_folder", "cache_folder")])
def test_a_config_does_not_choose_where_a_cache_is_written(data: str, key: str, tmp_path: Path) -> None:
    schema.register()
    with initialize_config_dir(str(schema.CONFIGS), version_base="1.3"):
        config = OmegaConf.to_container(
            compose("config", overrides=[f"data={data}", f"data.path={tmp_path}"]), resolve=True
        )
    assert isinstance(config, dict)
    config["data"][key] = str(tmp_path)
    assert parse_config(yaml.safe_dump(config), Path("config.yaml"))["data"][key] == "outputs/.cache"
