"""Texts from codes: the same twice, ends of a way, what is refused, and the script from end to end."""

import json
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from autoenc import load_run, run
from autoenc.apps.deploy.export import export
from autoenc.apps.generation import density
from autoenc.apps.generation import texts as text
from autoenc.apps.protocol.evaluate import evaluate
from autoenc.data.split import EOS, PAD
from autoenc.errors import UserError
from autoenc.estimators import inmemory
from autoenc.loading import Run
from autoenc.screen import console
from autoenc.training.tracking import Progression

SCRIPT = Path(__file__).resolve().parents[3] / "scripts" / "generate.py"


@pytest.fixture(scope="session")
def text_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A VAE of sentences of who does what where: 4 * 4 * 4 of them, and a code that says which."""
    draw = random.Random(0)
    who, does, where = (
        ["a dog", "two men", "the girl", "a cat"],
        ["runs", "sits", "sleeps", "sings"],
        ["here", "outside"],
    )
    lines = [f"{draw.choice(who)} {draw.choice(does)} {draw.choice(where)} ." for _ in range(400)]
    folder = tmp_path_factory.mktemp("texts")
    (folder / "texts.txt").write_text("\n".join(lines) + "\n")
    overrides = ["data=text", f"data.path={folder / 'texts.txt'}", "model=vae", "model.latent_dim=4"]
    overrides += ["data.max_length=10", "network.embedding=12", "network.width=24", "network.word_dropout=0.3"]
    overrides += ["regularizer.kl.weight=0.1", "optimizer.lr=0.02", "trainer.epochs=30", "trainer.batch_size=32"]
    run.train(
        inmemory.compose([*overrides, "trainer.figures=1", "trainer.evaluate_every=15"]),
        folder / "run",
        {"model": "vae"},
    )
    return folder / "run"


@pytest.fixture
def texts(text_run: Path) -> Run:
    return load_run(text_run, "cpu")


@pytest.fixture
def script(run_script: Callable[..., int]) -> Callable[..., int]:
    """Runs the script with arguments and returns its exit code."""
    return lambda *args: run_script("generate", *args, "--device", "cpu")


def test_a_finished_run_says_that_the_code_is_in_use_and_shows_texts(text_run: Path) -> None:
    summary = json.loads((text_run / "summary.json").read_text())
    assert summary["verdict"].startswith("The code is in use")
    assert 1 < summary["latent"]["mutual_information"] <= np.log(40) + 1e-6, "32 sentences, 40 test examples"
    shown = (text_run / "figures" / "reconstruction.txt").read_text().splitlines()
    assert shown[0].startswith("input:")
    assert shown[1].startswith("output:")
    assert len((text_run / "figures" / "samples.txt").read_text().splitlines()) == 12
    events = EventAccumulator(str(text_run)).Reload()
    assert {"view/reconstruction/text_summary", "view/samples/text_summary"} <= set(events.Tags()["tensors"])


def test_reconstructions_say_what_was_read(texts: Run) -> None:
    read, written = text.reconstructions(texts, texts.data.test)
    assert read[0].endswith(("here.", "outside."))
    right = np.mean([a == b for a, b in zip(read, written.texts, strict=True)])
    assert right > 0.5, "of 32 sentences"
    one = ["a dog runs here ."]
    made = text.write(texts, texts.codes(texts.inputs(one)))
    assert texts.spec.kind.decode(texts.reconstruct(one)) == made.texts
    np.testing.assert_array_equal(texts.decode(made.z), made.ids)


def test_samples_are_sentences_and_the_same_twice(texts: Run) -> None:
    known = set(texts.spec.kind.decode(texts.data.train.tensor))
    for how in (text.Writing(), text.Writing(beam=3), text.Writing(temperature=0.3), text.Writing(top_p=0.5)):
        one, two = (text.samples(texts, 60, seed=3, how=how) for _ in range(2))
        assert one.texts == two.texts
        assert np.mean([found in known for found in one.texts]) > 0.6, "the language has 32 sentences"
    other = text.samples(texts, 60, seed=4)
    assert other.texts != text.samples(texts, 60, seed=3).texts
    fitted = text.samples(texts, 10, "gaussian")
    assert fitted.z.shape == (10, 4)
    assert ((fitted.ids == PAD).cumsum(1)[:, -1] == 10 - 1 - (fitted.ids == EOS).argmax(1)).all()


def test_a_way_begins_and_ends_with_the_reconstructions(texts: Run) -> None:
    a, b = "a dog runs here .", "two men sleep outside ."
    made = text.interpolate(texts, a, b, steps=5)
    assert len(made.texts) == 5
    ends = text.write(texts, texts.codes(texts.inputs([a, b])))
    assert [made.texts[0], made.texts[-1]] == ends.texts
    np.testing.assert_allclose(made.z[2], (made.z[0] + made.z[4]) / 2, atol=1e-6)
    by_number = text.interpolate(texts, "0", "1", steps=2)
    np.testing.assert_allclose(by_number.z, texts.codes(texts.data.test)[:2], atol=1e-5)


def test_quality_compares_with_real_texts(texts: Run) -> None:
    found = text.quality(texts, density.of(texts))
    assert found["validation"]["words"] == pytest.approx(float((texts.data.val.tensor != PAD).sum(1).double().mean()))
    assert found["validation"]["in_training"] == pytest.approx(1, abs=0.1), "32 sentences, 320 training examples"
    assert found["samples"]["distinct"] <= 1


def test_evaluate_and_the_bounds_of_texts(texts: Run) -> None:
    found = evaluate(texts, ["reconstruction", "latent", "bounds", "generation", "denoising"])
    assert found["bounds"]["nll_importance"] < found["bounds"]["elbo"]
    loss = found["reconstruction"]["nll"] + found["latent"]["kl"]
    assert found["bounds"]["elbo"] == pytest.approx(loss, rel=0.05)
    assert found["bounds"]["perplexity_importance"] < found["reconstruction"]["perplexity"] * 1.01
    assert "samples" in found["generation"]
    assert set(found["skipped"]) == {"denoising"}


def test_the_script_writes_texts(
    texts: Run, script: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = texts.path
    assert script(path, "--count", 5, "--temperature", 0.7, "--top-p", 0.9, "--output", tmp_path) == 0
    lines = (tmp_path / "samples.txt").read_text().splitlines()
    assert len(lines) == 5
    assert all(line in capsys.readouterr().out for line in lines[:1])
    kept = json.loads((tmp_path / "generate.json").read_text())
    assert kept["texts"] == lines
    assert script(path, "--interpolate", "a dog runs here .", 1, "--steps", 4, "--beam", 2, "--output", tmp_path) == 0
    way = (tmp_path / "interpolate.txt").read_text().splitlines()
    assert [line[:4] for line in way] == ["0.00", "0.33", "0.67", "1.00"]
    assert script(path, "--reconstruct", 3, "--output", tmp_path) == 0
    assert len((tmp_path / "reconstruct.txt").read_text().splitlines()) == 6


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--traverse"], "--traverse: RUN was"),
        (["--sheet"], "--sheet: RUN was"),
        (["--interpolate", "a", "b", "--resize"], "--resize with --interpolate: RUN"),
        (["--beam", 2, "--temperature", 1], "--beam searches"),
        (["--top-p", 1.5], "--top-p=1.5: must lie in (0, 1]"),
        (["--temperature", -1], "--temperature=-1.0: must be 0 or more"),
        (["--interpolate", 0, 4000], "examples 0 to 39"),
        (["--interpolate", " ", "a"], "found an empty text"),
        (["--reconstruct", 2, "--count", 3], "--count is for samples, not for --reconstruct"),
    ],
)
def test_what_texts_have_not_is_refused_in_one_line(
    text_run: Path, script: Callable[..., int], capsys: pytest.CaptureFixture[str], options: list[object], said: str
) -> None:
    assert script(text_run, *options, "--output", text_run / "none") == 2
    error = capsys.readouterr().err.replace(str(text_run), "RUN")
    assert said in error
    assert error.count("\n") == 1
    assert not (text_run / "none").exists()


@pytest.mark.parametrize(
    "options", [["--top-p", 0.5], ["--beam", 2], ["--interpolate", 0, 1, "--temperature", 0.5], ["--reconstruct", 2]]
)
def test_what_only_texts_have_is_refused_for_images(
    vae_run: Path, script: Callable[..., int], capsys: pytest.CaptureFixture[str], options: list[object], tmp_path: Path
) -> None:
    assert script(vae_run, *options, "--output", tmp_path / "none") == 2
    error = capsys.readouterr().err
    assert "was trained on images" in error
    assert error.count("\n") == 1
    with pytest.raises(UserError, match="data=text network=sequence"):
        text.samples(load_run(vae_run, "cpu"), 1)


def test_a_run_that_stops_and_goes_on_ends_with_the_same_bits(text_run: Path, tmp_path: Path) -> None:
    """Word dropout and masks are drawn from the generator that checkpoints carry."""
    source = load_run(text_run, "cpu").config["data"]["path"]
    common = ["data=text", f"data.path={source}", "model=vae", "noise=token_mask", "network.word_dropout=0.3"]
    common += ["network.embedding=8", "network.width=8", "trainer.figures=0", "trainer.device=cpu"]
    checked = inmemory.compose([*common, "trainer.epochs=2"])
    run.train(checked, tmp_path / "whole")

    class Stop(Exception):
        pass

    from autoenc.training.trainer import Trainer

    original = Trainer.save
    calls = []

    def once(self: Trainer) -> None:
        original(self)
        calls.append(self.step)
        if len(calls) == 1:
            raise Stop

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "save", once)
        with pytest.raises(Stop):
            run.train(checked, tmp_path / "parts")
    torch.manual_seed(99)
    run.resume(tmp_path / "parts")
    whole, parts = (torch.load(tmp_path / name / "checkpoints" / "last.pt") for name in ("whole", "parts"))
    for name, value in whole["model"].items():
        assert torch.equal(value, parts["model"][name]), name


def test_brackets_of_texts_are_no_markup(capsys: pytest.CaptureFixture[str]) -> None:
    console().print("a [/b] [UNK] [red]")
    Progression(1).line("a [/b]")
    assert capsys.readouterr().out == "a [/b] [UNK] [red]\na [/b]\n"


def test_texts_are_not_exported(texts: Run, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"text data cannot be exported.*embed"):
        export(texts, tmp_path / "none")
