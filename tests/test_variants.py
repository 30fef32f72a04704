"""The quantised and the adversarial autoencoder from end to end: kill, resume, evaluate twice, generate, export."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import forks
import numpy as np
import pytest
import torch

from autoenc import load_run, run
from autoenc.apps.deploy import export
from autoenc.apps.deploy.portable import parts_of
from autoenc.apps.generation import density, generate, paths
from autoenc.apps.protocol.evaluate import evaluate
from autoenc.errors import ConfigError, UserError
from autoenc.loading import Run

pytestmark = pytest.mark.usefixtures("without_figures", "operators")

COMMON = ["trainer.figures=0", "trainer.threads=1", "trainer.device=cpu", "trainer.batch_size=64"]
OPTIONS = {
    "vqvae": [
        *("model=vqvae", "network.channels=[8,8]", "model.latent_dim=4", "model.bottleneck.codes=16"),
        *("model.bottleneck.dead_after=300", "trainer.lr_schedule=cosine", "optimizer.lr=0.003"),
    ],
    "vqgan": [
        *("model=vqgan", "network.channels=[8,8]", "model.latent_dim=4", "model.bottleneck.codes=16"),
        *("model.bottleneck.dead_after=300", "model.objective.channels=[8,8]", "model.objective.task_steps=5"),
        "model.objective.start=0.0",
    ],
    "fsq": ["model=fsq", "network.channels=[8,8]"],
    "rqvae": [
        *("model=rqvae", "network.channels=[8,8]", "model.latent_dim=4", "model.bottleneck.codes=16"),
        *("model.bottleneck.depth=2", "model.bottleneck.dead_after=300", "optimizer.lr=0.003"),
    ],
    "binary": ["model=binary", "network.hidden=[32]", "model.latent_dim=8"],
    "aae": [
        *("model=aae", "network.hidden=[32]", "model.latent_dim=4", "model.players.critic.lr=0.0005"),
        *("trainer.lr_schedule=plateau", "trainer.plateau_patience=1", "trainer.warmup=0.1"),
    ],
    "iwae": ["model=iwae", "network.hidden=[32]", "model.latent_dim=4", "model.objective.gradient=dreg"],
    "wae": ["model=wae", "network.hidden=[32]", "model.latent_dim=4"],
    "rae": ["model=rae", "regularizer=[code_l2,decoder_jacobian]", "network.hidden=[32]", "model.latent_dim=4"],
    "btcvae": ["model=btcvae", "network.hidden=[32]", "model.latent_dim=4"],
    "factorvae": ["model=factorvae", "network.hidden=[32]", "model.latent_dim=4", "model.objective.hidden=[32]"],
    "vaegan": [
        *("model=vaegan", "network.channels=[4]", "network.hidden=16", "model.latent_dim=4"),
        *("model.objective.channels=[4,8]", "+model.players.encoder.lr=0.002"),
    ],
    "deep_svdd": ["model=deep_svdd", "network.hidden=[32]", "model.latent_dim=4"],
    "masked": [
        *("model=masked", "model.latent_dim=16", "network.layers=1", "network.heads=2", "network.decoder_hidden=32"),
        *("model.objective.width=8", "model.objective.layers=1", "model.objective.heads=2"),
    ],
    "vade": ["model=vade", "network.hidden=[32]", "model.latent_dim=4", "model.prior.components=5"],
    "vamp": ["model=vae", "prior=vamp", "network.hidden=[32]", "model.latent_dim=4", "model.prior.components=20"],
}
OPTIONS |= {
    name: [f"model={name}", "network=dictionary", "model.latent_dim=16", "trainer.lr_schedule=constant"]
    for name in ("batch_topk", "jumprelu", "gated", "matryoshka")
}
KILLED = ("vqvae", "aae")  # state of a codebook, of a second player and a schedule; the others stop in process
SAME_CODES = (  # of others
    *("vqvae", "vqgan", "vaegan", "deep_svdd", "aae", "iwae", "wae", "rae", "btcvae", "factorvae", "vamp"),
    "matryoshka",
)
CHOICES = {name: {"model": name} for name in OPTIONS}
EPOCHS = {name: 6 if name in KILLED else 2 for name in OPTIONS}


@pytest.fixture(scope="module", params=list(OPTIONS))
def trained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, compose: Callable) -> Path:
    """A run of the variant that was never interrupted."""
    folder = tmp_path_factory.mktemp(request.param) / "whole"
    run.train(
        compose(*OPTIONS[request.param], *COMMON, f"trainer.epochs={EPOCHS[request.param]}"),
        folder,
        CHOICES[request.param],
    )
    return folder


@pytest.fixture(scope="module")
def loaded(trained: Path) -> Run:
    return load_run(trained, "cpu")


@pytest.fixture(scope="module")
def compose() -> Callable:
    import hydra

    from autoenc.config import checks, schema

    def composed(*overrides: str) -> dict:
        schema.register()
        with hydra.initialize_config_dir(str(schema.CONFIGS), version_base="1.3"):
            return checks.check(hydra.compose("config", overrides=list(overrides)))

    return composed


def name_of(folder: Path) -> str:
    return json.loads((folder / "run.json").read_text())["choices"]["model"]


def test_a_run_that_was_killed_and_resumed_ends_with_the_same_bits(trained: Path, tmp_path: Path) -> None:
    killed = tmp_path / "killed"
    if name_of(trained) not in KILLED:
        pytest.skip("stopped in process, see below")
    overrides = [*OPTIONS[name_of(trained)], *COMMON, f"trainer.epochs={EPOCHS[name_of(trained)]}"]
    process = forks.start(tmp_path / "out", tmp_path, [f"hydra.run.dir={killed}", *overrides])
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not (killed / "checkpoints" / "last.pt").exists():
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    state = json.loads((killed / "run.json").read_text())["state"]
    assert state == "running", "it was killed before its end"
    run.resume(killed)
    for file in ("best.pt", "last.pt"):
        a, b = (torch.load(folder / "checkpoints" / file, weights_only=True) for folder in (trained, killed))
        for part in ("model", "objective"):
            assert a[part].keys() == b[part].keys()
            assert all(torch.equal(a[part][key], b[part][key]) for key in a[part]), part
    assert set(a["optimizers"]) == set(b["optimizers"]) == ({"model", "critic"} if a["objective"] else {"model"})
    lines = [(folder / "metrics.jsonl").read_text() for folder in (trained, killed)]
    assert lines[0] == lines[1]


def test_a_run_that_stopped_and_went_on_ends_with_the_same_bits(
    trained: Path, tmp_path: Path, compose: Callable
) -> None:
    name, stopped = name_of(trained), tmp_path / "stopped"
    if any("schedule=" in option and "constant" not in option for option in OPTIONS[name]):
        pytest.skip("the schedule depends on the length")
    run.train(compose(*OPTIONS[name], *COMMON, "trainer.epochs=1"), stopped, CHOICES[name])
    run.resume(stopped, {"epochs": EPOCHS[name]})
    a, b = (torch.load(f / "checkpoints" / "last.pt", weights_only=True) for f in (trained, stopped))
    for part in ("model", "objective"):
        assert a[part].keys() == b[part].keys()
        assert all(torch.equal(a[part][key], b[part][key]) for key in a[part]), part


def test_evaluation_gives_the_numbers_of_training_each_time(trained: Path, loaded: Run) -> None:
    test = json.loads((trained / "summary.json").read_text())["test"]
    again = load_run(trained, "cpu")
    one, two = (evaluate(each, ["reconstruction", "latent", "generation"]) for each in (loaded, again))
    assert one == two
    found = one["reconstruction"]
    assert found["loss"] == pytest.approx(test["loss"], rel=1e-5)
    assert {name: found[name] for name in test} == pytest.approx(test, rel=1e-5)


def test_codes_are_rows_of_numbers_whatever_their_shape(loaded: Run) -> None:
    x = loaded.data.test.take(slice(0, 7)).x.numpy()
    codes = loaded.encode(x)
    shape = loaded.model.bottleneck.latent_shape
    assert codes.shape == (7, loaded.latent_dim) == (7, int(np.prod(shape)))
    np.testing.assert_allclose(loaded.decode(codes), loaded.reconstruct(x), atol=1e-6)
    assert loaded.as_transformer().transform(x.reshape(7, -1)).shape == codes.shape
    if len(shape) > 1:
        moved = loaded.decode(codes + 1e-3)
        np.testing.assert_allclose(moved, loaded.reconstruct(x), atol=1e-6, err_msg="codes are projected")


def test_made_up_codes_are_valid_codes(trained: Path, loaded: Run) -> None:
    x = loaded.data.test.take(slice(0, 2)).x.numpy()
    source = density.of(loaded)
    made = [generate.samples(loaded, 20, source), paths.interpolate(loaded, x[0], x[1]), paths.traverse(loaded)]
    if source.tempered:
        made.append(generate.samples(loaded, 20, source, temperature=0.5))
    else:
        with pytest.raises(UserError, match=r"--temperature=0\.5: has no effect on the"):
            generate.samples(loaded, 20, source, temperature=0.5)
    bottleneck = loaded.model.bottleneck
    for decoded in made:
        z = torch.from_numpy(decoded.z).reshape(-1, *bottleneck.latent_shape)
        assert torch.equal(bottleneck.project(z), z)
        assert np.isfinite(decoded.x).all()
    if name_of(trained) == "vqvae":
        vectors = torch.from_numpy(made[0].z).reshape(-1, *bottleneck.latent_shape).movedim(1, -1).flatten(0, -2)
        on = (vectors[:, None] == bottleneck.codebook).all(-1).any(1)
        assert on.all(), "each vector is an entry of the codebook"


def test_the_latent_numbers_reach_log_and_summary(trained: Path, loaded: Run) -> None:
    latent = json.loads((trained / "summary.json").read_text())["latent"]
    lines = [json.loads(line) for line in (trained / "metrics.jsonl").read_text().splitlines()]
    if name_of(trained) == "vqvae":
        assert 1 < latent["code_perplexity"] <= 16
        assert 0 < latent["codes_used"] <= 1
        assert all("code_perplexity" in line for line in lines if line["split"] == "val")
    if name_of(trained) == "deep_svdd":
        assert "active_units" not in latent
    assert ("mmd" in latent) == (loaded.model.bottleneck.prior is not None)


def test_exported_files_compute_what_the_run_computes(
    trained: Path, loaded: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if name_of(trained) in SAME_CODES:
        pytest.skip("a bottleneck that another variant has")
    parts = ["encoder", "decoder", "score"]
    if name_of(trained) != "rqvae":  # the score has all operators of the other parts
        monkeypatch.setattr(export, "parts_of", lambda *given: {"score": parts_of(*given)["score"]})
        parts = ["score"]
    written = export.export(loaded, tmp_path / "export")
    names = [f"{part}.{form}" for part in parts for form in ("onnx", "pt2")]
    assert sorted(written.differences) == sorted(names)
    assert max(written.differences.values()) < 1e-4


def test_a_best_file_of_an_older_version_loads_where_the_objective_has_no_state(
    trained: Path, copied: Callable[[Path], Path]
) -> None:
    path = copied(trained)
    best = path / "checkpoints" / "best.pt"
    state = torch.load(best, weights_only=True)
    stateful = bool(state.pop("objective"))
    torch.save(state, best)
    text = (path / "config.yaml").read_text()
    (path / "config.yaml").write_text(text.replace("autoenc.objective.Objective", "autoenc.core.Objective"))
    if stateful:
        with pytest.raises(Exception, match=r"best\.pt: does not match config"):
            load_run(path, "cpu")
    else:
        assert isinstance(load_run(path, "cpu"), Run)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["model=vqvae", "model.bottleneck.codes=100000"], r"^model\.bottleneck\.codes=100000: a codebook larger than"),
        (
            ["model=fsq", "model.bottleneck.levels=[8,1,5]"],
            r"^model\.bottleneck\.levels=\[8, 1, 5\]: must be 2 or more",
        ),
        (["model=fsq", "model.latent_dim=4"], r"^model\.bottleneck\.levels=.* model\.latent_dim=4 channels"),
        (["model=fsq", "network=mlp", "model.latent_dim=4", "model.bottleneck.levels=[8,8,8,8]"], "a codebook larger"),
        (["model=rqvae", "model.bottleneck.depth=0"], r"^model\.bottleneck\.depth=0: must be 1 or more"),
        (["model=binary", "model.bottleneck.temperature=0.0"], r"^model\.bottleneck\.temperature=0\.0: must be above"),
        (["model=binary", "prior=standard"], r"^model\.prior: "),
        (
            ["model=aae", "+model.players.judge.lr=0.1"],
            r"^model\.players\.judge: there is no such player.*critic",
        ),
        (["model=aae", "+model.players.critic.speed=1"], r"^model\.players\.critic\.speed: Adam has no option"),
        (["model=aae", "model.players.critic.lr=fast"], r"^model\.players\.critic\.lr=fast: must be a number"),
        (["model=aae", "model.players.critic.lr=-1.0"], r"^model\.players\.critic: Invalid learning rate"),
        (
            ["model=vqgan", "model.objective.task=colors"],
            r"^model\.objective\.task=colors: must be one of auto, classes",
        ),
        (["model=vqvae", "prior=realnvp"], r"^model\.prior: no density fits the codes of VectorQuantized"),
        (["model=vae", "prior=realnvp", "model.latent_dim=1"], r"^model\.prior: .* single value; model\.latent_dim=2"),
        (["model=ae", "prior=standard"], r"^model\.prior: no term of the objective reads .*regularizer=\[kl\]"),
        (["model=vae", "prior=center"], r"^model\.prior: Center is for .*Gaussian has a posterior; prior=default"),
        (["model=ae", "prior=vamp"], r"^model\.prior: no term of the objective trains the prior Vamp"),
        (["model=aae", "prior=mixture"], r"^model\.prior: no term of the objective trains .*prior=standard"),
        (["model=vade", "regularizer=[]"], r"^model\.prior: no term of the objective trains the prior Mixture"),
        (
            ["model=vade", "model.prior.components=5000"],
            r"^model\.prior\.components=5000: more components than the training split has examples",
        ),
        (["model=aae", "prior=default"], r"^model\.objective: needs a prior: prior=standard"),
        (["model=topk", "network=conv_spatial"], r"network\.spatial"),
        (
            ["model=vqvae", "prior=standard"],
            r"^model\.prior: no density fits the codes of VectorQuantized.*prior=default",
        ),
        (["network=mlp", "+network.spatial=true"], r"^network\.spatial: mlp has no option"),
        (["model=aae", "model.prior._target_=os.system"], r"^model\.prior\._target_=os\.system: must begin with"),
    ],
)
def test_what_does_not_fit_is_one_line_that_names_the_key(
    compose: Callable, overrides: list[str], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=message) as refused:
        run.train(compose(*overrides, *COMMON), tmp_path / "run")
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "run").exists()


def test_players_have_optimizers_of_their_own(trained: Path) -> None:
    run_of = load_run(trained, "cpu")
    assert run_of.objective is not None
    players = run_of.objective.players(run_of.model)
    states = torch.load(trained / "checkpoints" / "last.pt", weights_only=True)["optimizers"]
    assert set(states) == set(players)
    for name, module in players.items():
        learning = [p for p in module.parameters() if p.requires_grad]
        assert sum(len(group["params"]) for group in states[name]["param_groups"]) == len(learning), name
    if name_of(trained) == "aae":
        groups = {name: state["param_groups"][0] for name, state in states.items()}
        assert groups["critic"]["initial_lr" if "initial_lr" in groups["critic"] else "lr"] <= 0.0005
        assert groups["model"]["lr"] > groups["critic"]["lr"]
