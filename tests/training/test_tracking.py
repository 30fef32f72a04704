"""Contents of TensorBoard and of the console."""

from pathlib import Path

import numpy as np
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.custom_scalar import layout_pb2

from autoenc.report import hparams, overridden
from autoenc.screen import method_table, result_table
from autoenc.training.tracking import CODE, Tracker, varying


def test_training_and_validation_share_an_axis_and_figures_are_below_the_losses(tmp_path: Path) -> None:
    tracker = Tracker(tmp_path)
    tracker.layout(["loss", "kl"], {"kl": "bits"})
    latent = {"dim": 4.0, "zeros": 0.01, "mean_active": 3.9, "dead_units": 0.0, "active_units": 2.0}
    tracker.scalars(CODE, varying(latent), 1)
    assert set(varying(latent | {"zeros": 0.5})) == latent.keys() - {"dim"}
    for split in ("train", "val"):
        tracker.scalars(split, {"loss": 1.0}, 1)
    tracker.image("atoms", np.zeros((4, 4, 3), np.uint8), 1)
    tracker.text("reconstruction", ["one", "two"], 1)
    tracker.close()
    events = EventAccumulator(str(tmp_path)).Reload()
    tags = events.Tags()
    assert tags["images"] == ["view/atoms"]
    assert "view/reconstruction/text_summary" in tags["tensors"]
    assert sorted(tags["scalars"] + tags["images"])[:3] == ["train/loss", "val/loss", "view/atoms"], "sorted by name"
    assert set(tags["scalars"]) == {"train/loss", "val/loss", "z/active_units"}, "no card for what is constant"
    config = events.Tensors("custom_scalars__config__")[0].tensor_proto.string_val[0]
    charts = layout_pb2.Layout.FromString(config).category[0].chart
    assert [(chart.title, list(chart.multiline.tag)) for chart in charts] == [
        ("loss [nats] ↓", ["train/loss$", "val/loss$"]),
        ("kl [bits]", ["train/kl$", "val/kl$"]),
    ]


def test_overrides_are_those_that_hydra_stored(tmp_path: Path) -> None:
    assert overridden(tmp_path) is None
    (tmp_path / ".hydra").mkdir()
    (tmp_path / ".hydra" / "overrides.yaml").write_text("- model=dae\n- +noise.p=0.1\n- ~regularizer\n")
    assert overridden(tmp_path) == {"model", "noise.p", "regularizer"}
    (tmp_path / ".hydra" / "overrides.yaml").write_text("- &a [x, x]\n- [*a, *a]\n")
    assert overridden(tmp_path) is None, "aliases can expand to more than fits into memory"


def test_hparams_are_the_options_and_what_the_command_line_sets() -> None:
    config = {
        "seed": 1,
        "anomaly_classes": [],
        "resume": None,
        "data": {"size": 12},
        "model": {"latent_dim": 2, "bottleneck": {"_target_": "x", "activation": "relu"}, "prior": None},
        "noise": {"std": 0.5, "clip": False},
        "optimizer": {"lr": 0.1, "weight_decay": 0.0},
        "trainer": {"epochs": 3, "batch_size": 8, "device": "cpu"},
    }
    choices = {"model": "dae", "trainer": "default"}
    always = {"model": "dae", "latent_dim": 2, "seed": 1, "optimizer.lr": 0.1}
    noise = {"noise.std": 0.5, "noise.clip": False}
    always |= {"trainer.epochs": 3, "trainer.batch_size": 8}
    assert hparams(config, choices, {"model", "noise", "model.prior"}) == always | noise
    assert hparams(config, choices, {"model", "noise.std"}) == always | {"noise.std": 0.5}
    rest = {"noise.std", "noise.clip", "optimizer.weight_decay", "model.bottleneck.activation"}
    assert hparams(config, choices, None).keys() == always.keys() | rest


def test_a_model_with_the_name_of_a_metric_has_no_unit() -> None:
    table = result_table("x", {"masked": {"mse": 1.0}})
    assert [column.header for column in table.columns] == ["", "masked"]
    assert list(table.columns[0].cells) == ["mse ↓"]
    assert [column.header for column in method_table("x", {"a": {"mse": 1.0}}).columns] == ["", "mse ↓"]
