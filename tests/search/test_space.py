"""The space and the metrics of a search."""

import pytest

from autoenc.errors import ConfigError
from autoenc.search.goals import Goal, parse_goals
from autoenc.search.space import Distribution, corners, parse_space


def test_a_space_is_keys_with_distributions() -> None:
    text = "model.latent_dim=int(2, 64)  optimizer.lr=log(1e-4,1e-2) noise.p=uniform(0,0.5)"
    assert parse_space(f"{text} network.hidden=choice([64,32],[128])") == {
        "model.latent_dim": Distribution("int", (2, 64)),
        "optimizer.lr": Distribution("log", (1e-4, 1e-2)),
        "noise.p": Distribution("uniform", (0.0, 0.5)),
        "network.hidden": Distribution("choice", ("[64,32]", "[128]")),
    }


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("", "is empty"),
        ("model.latent_dim", "KEY=DISTRIBUTION"),
        ("model.latent_dim=2", "model.latent_dim=2: write KEY=DISTRIBUTION"),
        ("model.latent_dim=it(2,64)", "model.latent_dim=it(2,64): no distribution it; did you mean 'int'"),
        ("model.latent_dim=int(64,2)", "the range is empty; write int(2,64)"),
        ("model.latent_dim=int(2)", "needs two ends"),
        ("model.latent_dim=int(2,6.5)", "needs two whole numbers"),
        ("model.latent_dim=int(4,4)", "one value only; set model.latent_dim=4"),
        ("optimizer.lr=log(0,1)", "must be above 0"),
        ("optimizer.lr=log(1,nan)", "must be finite"),
        ("optimizer.lr=uniform(a,b)", "needs two numbers"),
        ("network=choice(mlp)", "two or more values"),
        ("network=choice(mlp,mlp)", "all different"),
        ("a=int(1,2) a=int(1,3)", "the key is there twice"),
    ],
)
def test_a_typing_error_in_a_space_is_named(text: str, named: str) -> None:
    with pytest.raises(ConfigError) as refused:
        parse_space(text)
    assert "--space" in str(refused.value)
    assert named in str(refused.value)


def test_a_value_of_the_default_is_one_of_the_space_or_not() -> None:
    assert Distribution("int", (2, 8)).holds(8) == 8
    assert Distribution("int", (2, 8)).holds(9) is None
    assert Distribution("int", (2, 8)).holds(2.5) is None
    assert Distribution("log", (0.1, 1.0)).holds(1) == 1.0
    assert Distribution("uniform", (0.0, 1.0)).holds(None) is None
    assert Distribution("choice", ("true", "false")).holds(False) == "false"
    assert Distribution("choice", ("[64]", "[32]")).holds([32]) == "[32]"
    assert Distribution("choice", ("1e-4", "1e-3")).holds(0.001) == "1e-3"
    assert Distribution("choice", ("relu", "nan_to_num")).holds("relu") == "relu"


def test_the_corners_have_each_end_and_each_choice() -> None:
    space = parse_space("a=int(1,2) b=choice(x,y,z)")
    assert corners(space) == [["a=1", "b=x"], ["a=2", "b=y"], ["a=1", "b=z"]]


def test_the_table_of_metrics_gives_the_direction() -> None:
    assert parse_goals("val/nll,val/psnr,parameters") == [
        Goal("val", "nll", False),
        Goal("val", "psnr", True),
        Goal("perf", "parameters", False),
    ]
    assert parse_goals("val/kl:min")[0].direction == "minimize"
    assert parse_goals("val/kl:max")[0].direction == "maximize"
    assert parse_goals("val/gated", ["gated"])[0].direction == "minimize"  # a term of the objective


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("val/nl", "val/nl: no such metric; did you mean 'val/nll'"),
        ("nll", "write val/nll"),
        ("test/nll", "not searched on; val/nll"),
        ("val/kl", "val/kl:min or val/kl:max"),
        ("parameters", "validation split as well"),
        ("val/nll,val/nll", "twice"),
        ("val/nll,val/mse,val/psnr,seconds", "at most 3"),
    ],
)
def test_a_metric_that_cannot_be_searched_on_is_named(text: str, named: str) -> None:
    with pytest.raises(ConfigError) as refused:
        parse_goals(text)
    assert named in str(refused.value)
