"""Networks: shapes, leading dimensions, norms of dictionaries, and what is refused."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import nn

from autoenc.errors import ConfigError
from autoenc.networks import Pair, conv, linear, mlp
from autoenc.networks.attention import Block, positions
from autoenc.networks.parts import ColumnLinear
from autoenc.objectives.image_critic import ImageCritic

SIZES = [(8, 8), (9, 13), (28, 28), (31, 17)]


@pytest.mark.parametrize("size", SIZES, ids=lambda s: f"{s[0]}x{s[1]}")
@pytest.mark.parametrize("depth", [1, 3])
@pytest.mark.parametrize(("stages", "kernel_size"), [(1, 3), (2, 5), (3, 3)])
def test_conv_gives_back_the_size_it_was_given(size, depth: int, stages: int, kernel_size: int) -> None:
    shape = (depth, *size)
    pair = conv(shape, 4, channels=[3, 5, 6][:stages], hidden=7, kernel_size=kernel_size)
    features = pair.encoder(torch.randn(2, *shape))
    assert features.shape == (2, *pair.feature_shape) == (2, 7)
    assert pair.decoder(torch.randn(2, 4)).shape == (2, *shape)


@pytest.mark.parametrize("size", SIZES, ids=lambda s: f"{s[0]}x{s[1]}")
def test_conv_stages_halve_rounding_up_and_the_decoder_goes_back_the_same_way(size: tuple[int, int]) -> None:
    pair, seen = conv((1, *size), 4, channels=[3, 5], hidden=7), {}

    def note(name: str) -> Callable[..., None]:
        return lambda module, args, out: seen.setdefault(name, []).append(tuple(out.shape[2:]))

    for module in pair.encoder.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(note("down"))
    for module in pair.decoder.modules():
        if isinstance(module, nn.ConvTranspose2d):
            module.register_forward_hook(note("up"))
    pair.encoder(torch.randn(1, 1, *size))
    pair.decoder(torch.randn(1, 4))
    half = tuple(math.ceil(s / 2) for s in size)
    assert seen == {"down": [half, tuple(math.ceil(s / 2) for s in half)], "up": [half, size]}


def test_conv_decoder_reaches_every_pixel_from_the_code() -> None:
    """A wrong output padding leaves the last row or column to the bias alone."""
    pair = conv((1, 9, 14), 4, channels=[3, 5], hidden=7, activation="tanh")
    z = torch.randn(30, 4)
    assert (pair.decoder(z).std(0) > 0).all()


@pytest.mark.parametrize("size", SIZES, ids=lambda s: f"{s[0]}x{s[1]}")
def test_nearest_upsampling_gives_back_the_size_and_has_no_pattern_of_its_own(size: tuple[int, int]) -> None:
    """A constant feature map becomes a constant image, but for the zeros at the border; transposed: a checkerboard."""
    spread = {}
    for upsampling in ("nearest", "transposed"):
        pair = conv((2, *size), 4, channels=[5], hidden=7, upsampling=upsampling)
        up = pair.decoder.module[-1:] if upsampling == "transposed" else pair.decoder.module[-2:]
        half = [math.ceil(s / 2) for s in size]
        image = up(torch.ones(1, 5, *half))
        assert image.shape == pair.decoder(torch.randn(1, 4)).shape == (1, 2, *size)
        spread[upsampling] = image[0, :, 1:-1, 1:-1].std((1, 2)).max()
    assert spread["nearest"] < 1e-6 < 1e-3 < spread["transposed"]
    with pytest.raises(ConfigError, match=r"upsampling=bilinear.*must be transposed or nearest"):
        conv((2, *size), 4, upsampling="bilinear")


def test_conv_output_has_no_activation_of_its_own() -> None:
    """Its range is the likelihood's affair."""
    x = conv((1, 8, 8), 4, channels=[3], hidden=7).decoder(5 * torch.randn(200, 4))
    assert x.min() < 0 < x.max()


@pytest.mark.parametrize(
    ("make", "shape"),
    [
        (linear, (6,)),
        (lambda *a: linear(*a, unit_norm=True), (2, 3, 4)),
        *[(lambda *a, n=norm: mlp(*a, hidden=[9, 8], norm=n), (2, 3, 4)) for norm in ("none", "batch", "layer")],
        *[
            (lambda *a, n=norm: conv(*a, channels=[4], hidden=8, norm=n), (3, 9, 8))
            for norm in ("none", "batch", "group")
        ],
    ],
    ids=["linear", "dictionary", "mlp", "mlp-batch", "mlp-layer", "conv", "conv-batch", "conv-group"],
)
def test_decoders_take_leading_sample_dimensions(make: Callable[..., Pair], shape: tuple[int, ...]) -> None:
    pair = make(shape, 4)
    for module in (pair.encoder, pair.decoder):  # statistics that are not those of a fresh network
        for norm in module.modules():
            if isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d):
                norm.running_mean.normal_()
                norm.running_var.uniform_(0.5, 2)
        module.eval()
    z = torch.randn(5, 8, 4)  # 8: as many examples as a hidden layer has units, where mixing them up has no error
    expected = torch.stack([pair.decoder(sample) for sample in z])
    assert expected.shape == (5, 8, *shape)
    torch.testing.assert_close(pair.decoder(z), expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(pair.decoder(z[:, None]), expected[:, None], atol=1e-5, rtol=1e-5)


def test_mlp_decoder_mirrors_the_widths_of_the_encoder() -> None:
    affine = [m for m in mlp((2, 5), 3, hidden=[8, 6], decoder_hidden=[]).decoder.modules() if not list(m.children())]
    assert [type(m) for m in affine] == [ColumnLinear, nn.Unflatten]
    pair = mlp((2, 5), 3, hidden=[8, 6, 4])

    def widths(module: nn.Module) -> list[tuple[int, int]]:
        return [(m.in_features, m.out_features) for m in module.modules() if isinstance(m, nn.Linear)]

    assert widths(pair.encoder) == [(10, 8), (8, 6), (6, 4)]
    assert widths(pair.decoder) == [(3, 4), (4, 6), (6, 8), (8, 10)]
    assert pair.feature_shape == (4,)
    assert isinstance(list(pair.decoder.modules())[-2], nn.Linear), "no activation on the output"
    assert pair.decoder(torch.randn(7, 3)).shape == (7, 2, 5)


@pytest.mark.parametrize("norm", ["none", "layer"])
def test_mlp_without_batch_norm_treats_each_example_by_itself(norm: str) -> None:
    pair, x = mlp((10,), 3, hidden=[8], norm=norm), torch.randn(6, 10)
    torch.testing.assert_close(pair.encoder(x)[2:3], pair.encoder(x[2:3]))


def test_conv_with_group_norm_treats_each_example_by_itself() -> None:
    pair, x = conv((1, 8, 8), 3, channels=[6, 7], hidden=8, norm="group"), torch.randn(6, 1, 8, 8)
    torch.testing.assert_close(pair.encoder(x)[2:3], pair.encoder(x[2:3]), atol=1e-6, rtol=1e-5)


def test_linear_network_is_affine() -> None:
    pair = linear((2, 3), 4)
    x = torch.randn(5, 2, 3)
    assert torch.equal(pair.encoder(x), x.flatten(1))
    a, b, zero = torch.randn(7, 4), torch.randn(7, 4), torch.zeros(7, 4)
    decode = pair.decoder
    torch.testing.assert_close(decode(2 * a - 3 * b), 2 * decode(a) - 3 * decode(b) + 2 * decode(zero))


def test_dictionary_atoms_have_norm_one_whatever_the_weight() -> None:
    decoder = linear((2, 3), 4, unit_norm=True).decoder
    with torch.no_grad():
        decoder[0].weight.mul_(torch.tensor([0.01, 1.0, 7.0, 300.0]))
    at_zero = decoder(torch.zeros(1, 4))
    atoms = (decoder(torch.eye(4)) - at_zero).flatten(1)  # what each unit of the code adds
    torch.testing.assert_close(atoms.norm(dim=1), torch.ones(4))
    torch.testing.assert_close(atoms.T, decoder[0].atoms)


def test_gradients_cannot_change_the_norm_of_an_atom() -> None:
    decoder = linear((6,), 4, unit_norm=True).decoder
    weight = decoder[0].weight
    decoder(torch.randn(5, 4)).square().sum().backward()
    assert weight.grad.norm() > 0.1
    torch.testing.assert_close((weight.grad * weight).sum(0), torch.zeros(4), atol=1e-4, rtol=0)  # column by column
    with torch.no_grad():
        weight.sub_(0.5 * weight.grad)
    torch.testing.assert_close(decoder[0].atoms.norm(dim=0), torch.ones(4))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: conv((7,), 3), "vectors of 7 numbers: network=mlp"),
        (lambda: conv((1, 7, 12), 3), "at least 8x8, got 7x12"),
        (lambda: conv((1, 12, 8), 3, channels=[4, 4, 4, 4]), r"channels=.*too many stages for images of 12x8"),
        (lambda: conv((1, 8, 8), 3, channels=[]), r"channels=\[\]: must be a list of widths"),
        (lambda: conv((1, 8, 8), 3, hidden=0), "hidden=0: must be 1 or more"),
        (lambda: conv((1, 8, 8), 3, kernel_size=4), "kernel_size=4: must be odd"),
        (lambda: conv((1, 8, 8), 3, norm="layer"), "norm=layer: must be one of none, batch, group"),
        (lambda: conv((1, 8, 8), 3, activation="swish"), "activation=swish: must be one of relu"),
        (lambda: mlp((7,), 3, hidden=[4, 0]), r"hidden=\[4, 0\]: must be a list of widths, each 1 or more"),
        (lambda: mlp((7,), 3, decoder_hidden=[0]), r"decoder_hidden=\[0\]: must be a list of widths"),
        (lambda: mlp((7,), 3, norm="group"), "norm=group: must be one of none, batch, layer"),
        (lambda: mlp((7,), 3, activation="swish"), "activation=swish: must be one of relu"),
    ],
)
def test_what_cannot_be_built_is_refused_in_one_line(make: Callable[[], Pair], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as refused:
        make()
    assert "\n" not in str(refused.value)


def test_eight_by_eight_takes_three_stages() -> None:
    assert conv((1, 8, 8), 3, channels=[2, 2, 4]).decoder(torch.randn(1, 3)).shape == (1, 1, 8, 8)


@pytest.mark.parametrize("channels", [[8, 8, 8], [8, 8, 16]])
def test_group_norm_of_a_map_of_one_position_keeps_what_tells_examples_apart(channels: list[int]) -> None:
    """A channel that is normalized by itself is 0, and two are signs."""
    torch.manual_seed(0)
    features = conv((1, 8, 8), 3, channels=channels).encoder(torch.randn(64, 1, 8, 8))
    assert features.std(0).mean() > 0.05
    assert features.shape == conv((1, 8, 8), 3, channels=channels).encoder(torch.randn(1, 1, 8, 8)).expand(64, -1).shape
    assert ImageCritic((1, 8, 8), channels)(torch.randn(64, 1, 8, 8)).std() > 0.01
    with pytest.raises(ConfigError, match=r"^channels=2: the last stage has 2 values"):
        conv((1, 8, 8), 3, channels=[2, 2, 2])


def test_positions_are_the_same_in_bfloat16_up_to_its_rounding() -> None:
    exact = positions(200, 200, 8, torch.zeros(()))
    rounded = positions(200, 200, 8, torch.zeros((), dtype=torch.bfloat16))
    torch.testing.assert_close(rounded.float(), exact, atol=2**-8, rtol=0)


def test_attention_is_in_float32_on_a_cpu_where_the_layers_around_it_are_in_bfloat16(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    block, x, inputs, attend = Block(8, 2, 0.0), torch.randn(3, 5, 8), [], nn.functional.scaled_dot_product_attention

    def watched(query: torch.Tensor, *rest: torch.Tensor, **options: torch.Tensor) -> torch.Tensor:
        inputs.append((query.dtype, torch.is_autocast_enabled("cpu")))
        return attend(query, *rest, **options)

    monkeypatch.setattr(nn.functional, "scaled_dot_product_attention", watched)
    exact, _ = block(x, None)
    with torch.autocast("cpu", torch.bfloat16):
        rounded, seen = block(x, None)
    assert inputs == [(torch.float32, False)] * 2
    assert seen.dtype == torch.bfloat16
    assert torch.allclose(rounded.float(), exact, atol=0.05)
