"""Networks, noise and variants of series."""

from collections.abc import Callable

import pytest
import test_variants
import torch

from autoenc import build
from autoenc.bottlenecks import Deterministic
from autoenc.data import Data, oscillations
from autoenc.errors import ConfigError
from autoenc.estimators.inmemory import compose
from autoenc.networks import Pair, conv, conv1d, temporal
from autoenc.noise import Channels, Spans
from autoenc.objective import train_step
from autoenc.objectives.perceptual import turned

GRU = {"cell": "gru", "width": 8}
TRANSFORMER = {"cell": "transformer", "width": 8, "heads": 2}
NETWORKS: dict[str, Callable[..., Pair]] = {
    "conv": lambda *a, **o: conv(*a, channels=[3, 5], hidden=7, activation="tanh", **o),
    "dilated": lambda *a, **o: conv1d(*a, channels=[3, 5], hidden=7, dilations=[1, 2], activation="tanh", **o),
    "nearest": lambda *a, **o: conv1d(*a, channels=[3, 5], hidden=7, upsampling="nearest", activation="tanh", **o),
    "gru": lambda *a, **o: temporal(*a, **GRU, patch=3, **o),
    "transformer": lambda *a, **o: temporal(*a, **TRANSFORMER, patch=4, **o),
}


@pytest.mark.parametrize("spatial", [False, True])
@pytest.mark.parametrize("steps", [8, 13, 30])
@pytest.mark.parametrize("network", NETWORKS)
def test_networks_take_windows_of_any_length(network: str, steps: int, spatial: bool) -> None:
    pair = NETWORKS[network]((2, steps), 4, spatial=spatial)
    x = torch.randn(5, 2, steps)
    features = pair.encoder(x)
    assert features.shape == (5, *pair.feature_shape)
    bottleneck = Deterministic(pair.feature_shape, 4)
    z = bottleneck(features).z
    assert z.shape == (5, *bottleneck.latent_shape)
    assert len(bottleneck.latent_shape) == 1 + spatial
    out = pair.decoder(z)
    assert out.shape == x.shape
    several = torch.stack([z, 2 * z])
    torch.testing.assert_close(pair.decoder(several)[0], out, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shape", [(2, 16), (2, 9, 16)])
def test_the_default_of_series_is_for_windows_and_for_their_spectrograms(shape: tuple[int, ...]) -> None:
    config = compose(["data=series", "data.path=logs", "network.channels=[3,5]", "network.dilations=[1,2]"])
    pair = build.make("network", config["network"], {"input_shape": shape, "latent_dim": 4})
    bottleneck = Deterministic(pair.feature_shape, 4)
    assert pair.decoder(bottleneck(pair.encoder(torch.randn(3, *shape))).z).shape == (3, *shape)


@pytest.mark.parametrize("network", NETWORKS)
def test_every_step_depends_on_the_code_and_the_code_on_every_step(network: str) -> None:
    torch.manual_seed(0)
    pair = NETWORKS[network]((2, 13), 4)
    x = torch.randn(6, 2, 13, requires_grad=True)
    (pair.encoder(x) * torch.randn(1)).square().sum().backward()
    assert x.grad is not None
    reached = (x.grad.abs().amax((0, 1)) > 0).float().mean()
    assert reached == 1 if network in ("conv", "dilated", "nearest") else reached > 0.8
    assert (pair.decoder(torch.randn(30, 4)).std(0) > 0).all()


def test_spans_hide_the_fraction_that_was_asked_for() -> None:
    x = torch.ones(400, 2, 50)
    hidden = Spans((2, 50), p=0.3, length=6)(x) == 0
    assert float(hidden.float().mean()) == pytest.approx(0.3, abs=0.02)
    assert torch.equal(hidden[:, 0], hidden[:, 1])
    edges = hidden[:, 0, 1:-1] & ~hidden[:, 0, :-2]
    long = torch.stack([hidden[:, 0, 1 + i : 45 + i] for i in range(5)]).all(0)
    assert (edges[:, :44] <= long).all(), "a span that begins inside has its whole length"
    apart = Spans((2, 50), p=0.3, length=6, together=False)(x) == 0
    assert not torch.equal(apart[:, 0], apart[:, 1])


def test_channels_are_hidden_but_never_all() -> None:
    hidden = Channels((3, 5), p=0.6)(torch.ones(2_000, 3, 5)) == 0
    assert torch.equal(hidden.any(2), hidden.all(2))
    assert not hidden.all(2).all(1).any()
    assert float(hidden.float().mean()) == pytest.approx(0.6 - 0.6**3 / 3, abs=0.03)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Spans((6,)), "spans is for series"),
        (lambda: Channels((1, 8)), "two channels or more"),
        (lambda: Spans((1, 8), length=9), "length=9: must lie in 1 to 8"),
        (lambda: conv1d((1, 8, 8), 2), "conv1d needs series; the data are images: network=conv"),
        (lambda: conv1d((1, 6), 2), "needs windows of at least 8 steps, got 6"),
        (lambda: conv((1, 8, 8), 2, dilations=[0]), r"dilations=\[0\]"),
        (lambda: temporal((6,), 2), "gru reads series"),
        (lambda: temporal((1, 8), 2, patch=9), "patch=9: must be at most the 8 steps"),
    ],
)
def test_what_does_not_fit_is_refused(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make()


def test_series_are_turned_in_four_ways() -> None:
    x = torch.randn(3, 2, 5)
    ways = [turned(x, k) for k in range(4)]
    assert all(not torch.equal(a, b) for i, a in enumerate(ways) for b in ways[:i])
    assert all(torch.equal(turned(turned(x, k), k), x) for k in range(4))


SMALL = ["data=oscillations", "trainer.epochs=1"]
MLP = [name for name, options in test_variants.OPTIONS.items() if "network.hidden=[32]" in options]
OPTIONS = {
    name: [*options, *(["network=mlp"] if name in MLP else [])] for name, options in test_variants.OPTIONS.items()
}
OPTIONS |= {
    name: [f"model={name}", "model.latent_dim=4", "network.hidden=16"] for name in ("ae", "vae", "dae", "contractive")
}
OPTIONS |= {name: [f"model={name}", "model.latent_dim=4"] for name in ("sparse", "topk", "linear")}
OPTIONS |= {
    name: ["model=vae", f"network={name}", "network.width=8", "model.latent_dim=4"] for name in ("gru", "transformer")
}
OPTIONS["conv1d_spatial"] = ["model=vae", "network=conv1d_spatial", "network.channels=[4,4]", "model.latent_dim=2"]
OPTIONS["topk"].append("model.bottleneck.k=2")


@pytest.fixture(scope="module")
def data() -> Data:
    return oscillations(count=6, steps=96, window=16, period=12)


@pytest.mark.parametrize("name", OPTIONS)
def test_every_variant_of_images_trains_on_series(name: str, data: Data) -> None:
    first, *options = OPTIONS[name]
    parts = build.build(compose([first, *SMALL, *options]), torch.device("cpu"), data)
    parts.objective.start(data.train, lambda line: None)
    before = [p.detach().clone() for p in parts.model.parameters()]
    for step in range(2):
        loss = train_step(
            parts.model, parts.objective, data.train.take(slice(32 * step, 32 * step + 32)), step, parts.optimizers
        )
        assert loss["loss"].isfinite()
    assert any(not torch.equal(p, q) for p, q in zip(before, parts.model.parameters(), strict=True))
    batch = data.test.take(slice(0, 3))
    parts.model.eval()
    assert parts.model.reconstruct(batch).shape == batch.x.shape == (3, 3, 16)
    code = parts.model.encode(batch)
    assert torch.equal(parts.model.bottleneck.project(code.mean), code.mean)
