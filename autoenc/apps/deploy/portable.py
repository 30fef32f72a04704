"""Conversion of models to ONNX and torch.export files."""

from __future__ import annotations

import io
import logging
import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from autoenc import __version__
from autoenc.core import Autoencoder
from autoenc.data.kinds.raw import RawInput
from autoenc.data.kinds.raw.inputs import OTHER
from autoenc.data.kinds.raw.normal import normal_quantile
from autoenc.errors import UserError, one_line
from autoenc.metrics import mse_per_example

if TYPE_CHECKING:
    from onnx import ModelProto
    from onnx.utils import Extractor

OPSET = 20
OPSETS = 18, 25  # supported by the exporter and by onnxscript 0.7

ML, ML_OPSET = "ai.onnx.ml", 3
Call = Callable[..., list[np.ndarray]]


class Encode(nn.Module):
    """Deterministic codes: (N, *shape) -> (N, K)."""

    def __init__(self, model: Autoencoder):
        super().__init__()
        self.encoder, self.bottleneck, self.likelihood = model.encoder, model.bottleneck, model.likelihood

    def forward(self, x: Tensor) -> Tensor:
        return self.code(x).flatten(1)

    def code(self, x: Tensor) -> Tensor:
        """Return codes in their shape: (N, *latent_shape)."""
        return self.bottleneck(self.encoder(self.likelihood.visible(x, x))).mean.float()


class Decode(nn.Module):
    """Reconstructions in data space from codes, which are projected first: (N, K) -> (N, *shape)."""

    def __init__(self, model: Autoencoder):
        super().__init__()
        self.bottleneck, self.decoder, self.likelihood = model.bottleneck, model.decoder, model.likelihood

    def forward(self, code: Tensor) -> Tensor:
        return self.reconstruction(self.bottleneck.project(code.unflatten(1, self.bottleneck.latent_shape)))

    def reconstruction(self, z: Tensor) -> Tensor:
        """Decode valid codes: (N, *latent_shape) -> (N, *shape)."""
        return self.likelihood.mean(self.decoder(z).float())


class Score(nn.Module):
    """Mean squared error (N,) of the reconstruction, and the reconstruction (N, *shape)."""

    def __init__(self, model: Autoencoder):
        super().__init__()
        self.encode, self.decode = Encode(model), Decode(model)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        reconstruction = self.decode.reconstruction(self.encode.code(x))
        observed = self.decode.likelihood.observed(x)
        return mse_per_example(x, reconstruction, observed), reconstruction


def _erfinv(x: Tensor) -> Tensor:
    return (normal_quantile((x.double() + 1) / 2) / math.sqrt(2)).to(x.dtype)


def _cross_entropy(logits: Tensor, x: Tensor, weight: None = None, pos: None = None, reduction: int = 0) -> Tensor:
    assert (weight, pos, reduction) == (None, None, 0), "of each dimension, as likelihoods call it"
    return logits.clamp(min=0) - logits * x + (-logits.abs()).exp().log1p()


# ONNX has no inverse of the error function, and the exporter's cross-entropy is infinite for logits of -100.
DECOMPOSED = {
    torch.ops.aten.erfinv.default: _erfinv,
    torch.ops.aten.binary_cross_entropy_with_logits.default: _cross_entropy,
}


@dataclass(frozen=True)
class Part:
    """A module to export.

    Args:
        examples: (2, ...) of each input. sides: its axes of any length apart from the first.
        variadic: the module has `forward(*inputs)`.
    """

    module: nn.Module
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    examples: tuple[Tensor, ...]
    sides: tuple[Mapping[int, Dim], ...] = ()
    variadic: bool = False

    @cached_property
    def program(self) -> ExportedProgram:
        """The traced module; tracing takes half the time of an export."""
        return _traced(self.module, self.variadic, self)


def parts_of(model: Autoencoder, shape: tuple[int, ...], latent_dim: int) -> dict[str, Part]:
    """Return encoder, decoder and score of a model (on the CPU, in evaluation mode)."""
    x, code = torch.zeros(2, *shape), torch.zeros(2, latent_dim)
    return {
        "encoder": Part(Encode(model), ("x",), ("code",), (x,)),
        "decoder": Part(Decode(model), ("code",), ("reconstruction",), (code,)),
        "score": Part(Score(model), ("x",), ("score", "reconstruction"), (x,)),
    }


class _Together(nn.Module):
    def __init__(self, parts: list[Part]):
        super().__init__()
        self.parts = nn.ModuleList(part.module for part in parts)
        self.counts = [len(part.inputs) for part in parts]

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        rest = iter(inputs)
        outputs = [part(*islice(rest, count)) for part, count in zip(self.parts, self.counts, strict=True)]
        return tuple(tensor for out in outputs for tensor in (out if isinstance(out, tuple) else (out,)))


def onnx_files(parts: Mapping[str, Part], opset: int = OPSET, what: str = "model") -> dict[str, bytes]:
    """Return each part as a self-contained ONNX model with a batch axis "N".

    All parts are exported in one call, which takes seconds for any model, and then separated.
    """
    from onnx.utils import Extractor

    inputs = [f"{name}.{each}" for name, part in parts.items() for each in part.inputs]
    outputs = [f"{name}.{output}" for name, part in parts.items() for output in part.outputs]
    with _user_errors(f"{what}: cannot be exported to ONNX opset {opset}"), _quiet():
        first, *others = parts.values()
        program = _traced(_Together([first, *others]), True, first, *others) if others else first.program
        if any(node.target in DECOMPOSED for node in program.graph.nodes):
            program = program.run_decompositions(DECOMPOSED)
        translated = torch.onnx.export(
            program, input_names=inputs, output_names=outputs, opset_version=opset, dynamo=True, external_data=False,
            verbose=False,
        )  # fmt: skip
        assert translated is not None
        model = translated.model_proto
        if (reached := next(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))) != opset:
            raise UserError(f"the exporter stops at opset {reached}")
        extractor = Extractor(model)
        return {name: _cut(extractor, name, part).SerializeToString() for name, part in parts.items()}


def _cut(extractor: Extractor, name: str, part: Part) -> ModelProto:
    """Return one part of the joint model, with the names of the part and without debugging information."""
    import onnx

    plain = {f"{name}.{word}": word for word in (*part.inputs, *part.outputs)}
    ends = ([f"{name}.{word}" for word in words] for words in (part.inputs, part.outputs))
    model = extractor.extract_model(*ends)
    model.producer_name, model.producer_version, model.graph.name = "autoenc", __version__, name
    graph = model.graph
    graph.ClearField("value_info")
    for item in (model, graph, *graph.node, *graph.initializer, *graph.input, *graph.output):
        item.ClearField("doc_string")
        item.ClearField("metadata_props")  # stack traces with paths
    for node in graph.node:
        node.input[:] = [plain.get(word, word) for word in node.input]
        node.output[:] = [plain.get(word, word) for word in node.output]
    for value in (*graph.input, *graph.output):
        value.name = plain[value.name]
        value.type.tensor_type.shape.dim[0].dim_param = "N"
    onnx.checker.check_model(model)
    return model


def reading_texts(content: bytes, inputs: Sequence[RawInput]) -> bytes:
    """Return an ONNX model whose inputs of numbered texts take the texts themselves."""
    import onnx
    from onnx import TensorProto, helper

    model = onnx.load_from_string(content)
    for given in (each for each in inputs if each.codes):
        place = [value.name for value in model.graph.input].index(given.name)
        numbers = f"{given.name}.numbers"
        for node in model.graph.node:
            node.input[:] = [numbers if name == given.name else name for name in node.input]
        nodes, columns = [], [f"{given.name}.{i}" for i in range(len(given.codes))]
        for i, (name, codes) in enumerate(zip(columns, given.codes, strict=True)):
            model.graph.initializer.append(helper.make_tensor(f"{name}.place", TensorProto.INT64, [1], [i]))
            nodes.append(helper.make_node("Gather", [given.name, f"{name}.place"], [f"{name}.text"], axis=1))
            tables: dict[str, Any] = {
                "keys_strings": list(codes),
                "values_int64s": list(codes.values()),
                "default_int64": OTHER,
            }
            nodes.append(helper.make_node("LabelEncoder", [f"{name}.text"], [name], domain=ML, **tables))
        nodes.append(helper.make_node("Concat", columns, [numbers], axis=1))
        rest = list(model.graph.node)
        model.graph.ClearField("node")
        model.graph.node.extend([*nodes, *rest])
        shape: list[str | int] = ["N", *given.shape]
        model.graph.input[place].CopyFrom(helper.make_tensor_value_info(given.name, TensorProto.STRING, shape))
        if not any(entry.domain == ML for entry in model.opset_import):
            model.opset_import.append(helper.make_opsetid(ML, ML_OPSET))
    onnx.checker.check_model(model)
    return model.SerializeToString()


def pt2_file(part: Part, what: str = "model") -> bytes:
    """Return a part in the format of torch.export.save, with a dynamic batch axis."""
    with _user_errors(f"{what}: cannot be exported by torch.export"), _quiet():
        file = io.BytesIO()
        torch.export.save(part.program, file)
        return file.getvalue()


@torch.no_grad()
def _traced(module: nn.Module, variadic: bool, *parts: Part) -> ExportedProgram:
    """Trace a module, which takes *inputs if `variadic`; the inputs of a part have the same number of rows."""
    axes = tuple(
        {0: Dim(f"N{i}"), **sides} for i, part in enumerate(parts) for sides in part.sides or [{}] * len(part.inputs)
    )
    shapes = (axes,) if variadic else axes
    examples = tuple(
        each.clone() for part in parts for each in part.examples
    )  # inputs that share memory would become one
    program = torch.export.export(
        module.eval(), examples, dynamic_shapes=shapes, prefer_deferred_runtime_asserts_over_guards=True
    )
    graph = program.graph_module.graph
    # The unused sample of a Gaussian bottleneck, and assertions that restrict the file to the CPU.
    graph.eliminate_dead_code(lambda node: node.op in ("placeholder", "output"))
    for node in graph.nodes:
        node.meta.pop("stack_trace", None)  # contains paths
    program.graph_module.recompile()
    return program


@contextmanager
def _quiet() -> Iterator[None]:
    """Leave out warnings of the exporters, which do not concern the user."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


@contextmanager
def _user_errors(what: str) -> Iterator[None]:
    """Raise exceptions of exporters and runtimes as UserError with their first cause, which names the operator."""
    try:
        yield
    except Exception as error:
        cause: BaseException = error
        while (below := cause.__cause__) is not None:
            cause = below
        raise UserError(f"{what}: {one_line(cause)}") from None


def onnx_call(content: bytes, what: str = "model") -> Call:
    """Return an ONNX model as a function, run by onnxruntime on the CPU."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors
    with _user_errors(f"{what}: onnxruntime {onnxruntime.__version__} cannot run it"):
        session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    names = [each.name for each in session.get_inputs()]
    return lambda *arrays: session.run(None, dict(zip(names, arrays, strict=True)))


def pt2_call(content: bytes, what: str = "model") -> Call:
    """Return a model in the format of torch.export.save as a function."""
    with _user_errors(f"{what}: cannot be loaded"):
        module = torch.export.load(io.BytesIO(content)).module()

    @torch.no_grad()
    def call(*arrays: np.ndarray) -> list[np.ndarray]:
        out = module(*map(torch.from_numpy, arrays))
        return [tensor.numpy() for tensor in (out if isinstance(out, tuple) else (out,))]

    return call
