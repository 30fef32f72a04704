"""The verdict in words: what the metrics of code, prior and objective mean, and what to try."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from autoenc.bottlenecks import VectorQuantized
from autoenc.core import Autoencoder, Verdict
from autoenc.objective import Objective
from autoenc.objectives import Adversarial, OneClass
from autoenc.priors import StandardNormal
from autoenc.verdict import of_code, of_codebook, verdict


def latent(dim: int, active: int, dead: int = 0, zeros: float = 0.0, **others: float) -> dict[str, float]:
    used = {"mean_active": dim * (1 - zeros)}
    return {"dim": dim, "active_units": active, "zeros": zeros, "dead_units": dead} | used | others


@pytest.mark.parametrize(
    ("numbers", "healthy", "said"),
    [
        (latent(16, 0, kl=0.01), False, ["posterior has collapsed", "0 of 16", "KL 0.01", "kl_warmup", "free_bits"]),
        (latent(16, 3, kl=0.05), False, ["posterior has collapsed", "3 of 16", "ignores the code"]),
        (latent(16, 4, kl=5.0), False, ["Most of the posterior has collapsed", "4 of 16", "smaller model.latent_dim"]),
        (latent(16, 12, kl=15.0), True, ["in use", "12 of 16", "KL 15.00"]),
        (latent(16, 5, kl=8.0), True, ["in use", "5 of 16"]),
        (latent(256, 100, dead=100, zeros=0.9), False, ["100 of 256", "dead", "optimizer.lr", "smaller optimizer.lr"]),
        (latent(256, 250, dead=6, zeros=0.9375), True, ["in use", "250 of 256", "16.0 active at a time"]),
        (latent(8, 8), True, ["in use", "8 of 8"]),
        (latent(8, 0), False, ["constant", "0 of 8"]),
    ],
)
def test_verdict_says_what_the_numbers_mean(numbers: dict[str, float], healthy: bool, said: list[str]) -> None:
    judged = of_code(numbers, ["regularizer=[kl_warmup]", "regularizer.kl.free_bits=0.1"])
    assert judged.healthy == healthy
    for text in said:
        assert text in judged.text
    assert "\n" not in judged.text


def test_the_remedy_of_the_likelihood_comes_first() -> None:
    text = of_code(latent(16, 0, kl=0.01), ["likelihood.sigma=0.27", "regularizer=[kl_warmup]", ""]).text
    assert text.endswith("try likelihood.sigma=0.27 or regularizer=[kl_warmup]")


def test_a_code_that_has_nothing_to_do_with_x_has_not_collapsed_but_is_not_trained() -> None:
    judged = of_code(latent(16, 5) | {"kl": 169.0, "mutual_information": -0.16})
    assert not judged.healthy
    assert judged.text.startswith("The code carries no information: 5 of 16 latent dimensions active, KL 169.00 nats")
    assert "collapsed" not in judged.text


def test_verdict_of_a_dense_code_says_nothing_of_activity() -> None:
    assert "at a time" not in of_code(latent(8, 8)).text


def test_mutual_information_at_its_ceiling_is_a_lower_bound() -> None:
    used = latent(16, 16) | {"kl": 30.0, "mutual_information": 5.8}
    assert "mutual information of x and z at least 5.80 nats" in of_code(used, examples=360).text
    assert "mutual information of x and z 5.80 nats" in of_code(used, examples=10_000).text


@pytest.mark.parametrize(
    ("used", "perplexity", "healthy", "said"),
    [
        (0.9, 40.0, True, "The codebook is in use: 90% of the entries of the codebook, perplexity 40.0"),
        (0.5, 1.5, False, "The codebook has collapsed: 50%"),
        (0.05, 4.0, False, "Most of the codebook is unused: 5%"),
    ],
)
def test_a_codebook_is_in_use_collapsed_or_mostly_unused(
    used: float, perplexity: float, healthy: bool, said: str
) -> None:
    judged = of_codebook({"codes_used": used, "code_perplexity": perplexity}, "fewer codes")
    assert judged.healthy == healthy
    assert judged.text.startswith(said)
    assert ("try fewer codes" in judged.text) != healthy
    own = VectorQuantized((4,), 2).diagnosis({"codes_used": used, "code_perplexity": perplexity})
    assert ("model.bottleneck.dead_after" in own.text) != healthy


@pytest.mark.parametrize(
    ("steps", "mmd", "healthy", "said"),
    [
        ((0, 0), 0.02, True, ["tells 75% of codes and draws from the prior apart, 50% is chance"]),
        ((199, 0), 0.02, True, ["tells 75%"]),
        ((1200, 0), 1.4, False, ["has won", "more than 95%", "1,200 steps", "larger model.objective.weight"]),
        ((0, 300), 0.65, False, ["has lost", "300 steps", "(mmd 0.65)", "larger model.players.critic.lr"]),
        ((0, 300), 0.01, True, ["tells 75%"]),
    ],
)
def test_a_critic_wins_or_loses_for_many_steps(
    steps: tuple[int, int], mmd: float, healthy: bool, said: list[str]
) -> None:
    objective = Adversarial({}, (2,))
    objective.won.fill_(steps[0])
    objective.lost.fill_(steps[1])
    judged = objective.diagnosis({"critic_accuracy": 0.75, "mmd": mmd})
    assert judged.healthy == healthy
    assert all(words in judged.text for words in said)


def test_each_part_has_its_say_and_faults_come_first(make_model: Callable[..., Autoencoder]) -> None:
    class Wrong(Objective):
        def diagnosis(self, numbers: Mapping[str, float]) -> Verdict:
            return Verdict(False, f"The score is constant at {numbers['score']:g}")

    class Learnt(StandardNormal):
        def diagnosis(self, numbers: Mapping[str, float]) -> Verdict:
            return Verdict(True, "The prior uses 9 of 10 components")

    model = make_model()
    model.bottleneck.prior = Learnt((3,))
    numbers = latent(8, 8) | {"score": 2.0}
    whole = verdict(model, Wrong({}), numbers)
    assert not whole.healthy
    expected = ["The score is constant at 2", "The code is in use: 8 of 8 units", "The prior uses 9 of 10 components"]
    assert whole.text == ". ".join(expected)
    assert verdict(model, Objective({}), numbers).text == ". ".join(expected[1:])
    assert verdict(make_model(), None, numbers) == of_code(numbers)


def test_one_example_is_too_few_to_judge_a_code_by(make_model: Callable[..., Autoencoder]) -> None:
    few = "1 example is too few to tell whether the code is in use"
    collapsed = latent(16, 0, kl=5.0, mutual_information=0.0)
    for numbers in (latent(8, 0), latent(256, 0, dead=240, zeros=0.9), collapsed):
        assert verdict(make_model(), None, numbers, examples=1) == Verdict(True, few)
        assert not verdict(make_model(), None, numbers, examples=2).healthy
    discrete, one_index = make_model(VectorQuantized), {"codes_used": 0.01, "code_perplexity": 1.0}
    assert verdict(discrete, None, one_index, examples=1) == Verdict(True, few)
    one_class = OneClass({})
    assert verdict(make_model(), one_class, {"distance": 1.0, "distance_sd": 0.0}, examples=1) == Verdict(True, few)
    critic = Adversarial({}, (2,))
    judged = verdict(make_model(), critic, latent(8, 0) | {"critic_accuracy": 0.75, "mmd": 0.0}, examples=1)
    assert judged.text.startswith(f"{few}. The critic tells 75%")


def test_an_adversarial_run_ends_with_a_verdict_on_its_critic(train_run: Callable[..., Path]) -> None:
    path = train_run("model=aae", "model.latent_dim=4", "network.hidden=[16]", "trainer.epochs=1")
    assert "critic" in json.loads((path / "summary.json").read_text())["verdict"]
