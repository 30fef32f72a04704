"""Data-parallel training: processes that compute each step together, started by torchrun.

Each process has the same model and computes the same loss of the whole batch. The networks, which treat the examples
one by one, are divided: a process runs encoder and decoder on its part of the rows, and the results are gathered. All
else (noise, samples of z, codebooks, critics, every quantity over the batch) is computed from whole batches with the
same random state everywhere, and is therefore what a single process computes.

A *whole* tensor has all rows, and its gradient is the same in all processes. A *part* has the rows of one process, and
its gradient is that of the loss times the number of processes N:

    part(whole)   the rows of this process           backward: the gathered gradients, divided by N
    whole(part)   the gathered rows                  backward: N times the rows of this process

The mean over the processes of the gradient of a parameter is then that of the loss, wherever the parameter is used.
"""

from __future__ import annotations

import datetime
import io
import itertools
import math
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from autoenc import launched
from autoenc.errors import ProcessLost, one_line

TIMEOUT = datetime.timedelta(hours=1)  # the first process may build a cache while the others wait
BATCH_STATISTICS = nn.modules.batchnorm._BatchNorm


class _Division:
    """What this process divides with the others at the moment."""

    active: ClassVar[bool] = False
    sizes: ClassVar[Sequence[int] | None] = None  # rows of each process, inside a divided network


@contextmanager
def joined() -> Iterator[None]:
    """Join the processes of torchrun; nothing is done without it."""
    if launched.processes() == 1:
        yield
        return
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() and dist.is_nccl_available() else "gloo"
    launched.Meeting.held = True
    with _talking():
        dist.init_process_group(backend, rank=launched.rank(), world_size=launched.processes(), timeout=TIMEOUT)
    try:
        yield
    finally:
        dist.destroy_process_group()


def count() -> int:
    """Return the number of processes that have joined."""
    return dist.get_world_size() if dist.is_initialized() else 1


def is_first() -> bool:
    """Return whether this process is the one that writes."""
    return count() == 1 or dist.get_rank() == 0


def shared(value: Any) -> Any:
    """Return what the first process passes: plain values, and tensors, which the others get on the CPU."""
    if count() == 1:
        return value
    buffer = io.BytesIO()
    if is_first():
        torch.save(value, buffer)
    sent = [buffer.getvalue()]
    with _talking():
        dist.broadcast_object_list(sent, device=torch.device("cpu"))
    return value if is_first() else torch.load(io.BytesIO(sent[0]), map_location="cpu", weights_only=True)


def largest(value: int) -> int:
    """Return the largest of the values of all processes."""
    if count() == 1:
        return value
    number = torch.tensor(value)
    with _talking():
        dist.all_reduce(number, dist.ReduceOp.MAX)
    return int(number)


def average(gradients: Iterable[Tensor | None]) -> None:
    """Replace gradients with respect to parameters by their means over the processes, in one exchange."""
    if not _Division.active:
        return
    some = [g for g in gradients if g is not None]
    flat = torch.cat([g.reshape(-1) for g in some])
    with _talking():
        dist.all_reduce(flat)
    flat /= count()
    for g, mean in zip(some, flat.split([g.numel() for g in some]), strict=True):
        g.copy_(mean.view_as(g))


@torch.no_grad()
def align(*modules: nn.Module) -> None:
    """Copy parameters and buffers of the first process to the others, where rounding may have differed."""
    if count() > 1:
        with _talking():
            for tensor in itertools.chain.from_iterable(module.state_dict().values() for module in modules):
                dist.broadcast(tensor, 0)


@contextmanager
def undivided() -> Iterator[None]:
    """Compute without the other processes."""
    active, _Division.active = _Division.active, False
    try:
        yield
    finally:
        _Division.active = active


def fetched(
    fetch: Callable[[Sequence[Tensor | slice]], Iterator[Tensor]], indexes: Sequence[Tensor | slice]
) -> Iterator[Tensor]:
    """Yield fetch(indexes), of which each process reads its part of each index."""
    if not _Division.active:
        yield from fetch(indexes)
        return
    divisions = [sizes_of(_rows(index)) for index in indexes]
    for rows, sizes in zip(
        fetch([_own(*pair) for pair in zip(indexes, divisions, strict=True)]), divisions, strict=True
    ):
        yield _gather(rows, 0, sizes)


def _rows(index: Tensor | slice) -> int:
    return index.stop - index.start if isinstance(index, slice) else len(index)


def _own(index: Tensor | slice, sizes: Sequence[int]) -> Tensor | slice:
    start = sum(sizes[: dist.get_rank()])
    stop = start + sizes[dist.get_rank()]
    if isinstance(index, slice):
        return slice(index.start + start, index.start + stop)
    return index[start:stop]


def sizes_of(rows: int) -> list[int]:
    """Return the number of rows of each process."""
    least, rest = divmod(rows, count())
    return [least + (i < rest) for i in range(count())]


@dataclass(frozen=True)
class Network:
    """A module that treats examples one by one, called with tensors of which each has a row for each example.

    Args:
        dims: dimensions of a row of the first argument, which has further ones before that of the examples; None: the
            examples come first. The other arguments have none before.
        outputs: from the second argument, the number of rows of the output of each example; None: one.
    """

    module: nn.Module
    dims: int | None = None
    outputs: Callable[[Tensor], Tensor] | None = None


@contextmanager
def divided(networks: Iterable[Network]) -> Iterator[None]:
    """Divide networks and the rows of files among the processes that have joined."""
    if count() == 1:
        yield
        return
    with ExitStack() as stack:
        _Division.active = True
        try:
            for network in networks:
                stack.enter_context(_replaced(network.module, _Divided(network)))
                for module in network.module.modules():
                    if isinstance(module, BATCH_STATISTICS):
                        stack.enter_context(_replaced(module, _with_statistics(module)))
            yield
        finally:
            _Division.active = False


@contextmanager
def _replaced(module: nn.Module, forward: Callable[..., Any]) -> Iterator[None]:
    module.forward = forward  # type: ignore[method-assign]
    try:
        yield
    finally:
        del module.forward


class _Divided:
    """The forward pass of a network on the rows of this process, gathered.

    A network that draws random numbers, such as dropout, is not divided, as its draws would depend on the number of
    processes: each computes all rows, with the same draws.
    """

    def __init__(self, network: Network):
        self.network, self.inner = network, network.module.forward
        self.draws: bool | None = None

    def __call__(self, values: Tensor, *others: Tensor) -> Any:
        module, dims = self.network.module, self.network.dims
        lead = 0 if dims is None else values.dim() - 1 - dims
        draws = module.training and self.draws
        if not _Division.active or _Division.sizes is not None or values.shape[lead] < count() or draws:
            return self.inner(values, *others)
        probing = module.training and self.draws is None
        before = _random_state(values.device) if probing else []
        kept = {name: buffer.clone() for name, buffer in module.named_buffers()} if probing else {}
        out = self._on_parts(lead, values, *others)
        if probing:
            state = _random_state(values.device)
            self.draws = any(not torch.equal(a, b) for a, b in zip(before, state, strict=True))
            if self.draws:
                _set_random_state(before, values.device)
                for name, buffer in module.named_buffers():
                    buffer.copy_(kept[name])
                return self.inner(values, *others)
        return out

    def _on_parts(self, lead: int, values: Tensor, *others: Tensor) -> Any:
        sizes = sizes_of(values.shape[lead])
        _Division.sizes = sizes
        try:
            out = self.inner(_Part.apply(values, lead, sizes), *(_Part.apply(other, 0, sizes) for other in others))
        finally:
            _Division.sizes = None
        if self.network.outputs is not None:
            sizes = [int(part.sum()) for part in self.network.outputs(others[0]).split(sizes)]
        return tree_map(lambda rows: _Whole.apply(rows, lead, sizes), out)


def _with_statistics(module: nn.Module) -> Callable[[Tensor], Tensor]:
    """Return the forward pass of a batch normalization with the statistics of the whole batch."""
    inner = module.forward

    def forward(x: Tensor) -> Tensor:
        if _Division.sizes is None or not module.training:
            return inner(x)
        several = len(x) // _Division.sizes[dist.get_rank()]  # rows of an example
        sizes = [several * size for size in _Division.sizes]
        return _Part.apply(inner(_Whole.apply(x, 0, sizes)), 0, sizes)

    return forward


class _Part(torch.autograd.Function):
    """Rows of this process."""

    @staticmethod
    def forward(ctx: Any, whole: Tensor, dim: int, sizes: Sequence[int]) -> Tensor:
        ctx.dim, ctx.sizes = dim, sizes
        return whole.split(list(sizes), dim)[dist.get_rank()].clone()

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor, None, None]:
        return _Whole.apply(grads[0], ctx.dim, ctx.sizes) / count(), None, None


class _Whole(torch.autograd.Function):
    """Rows of all processes."""

    @staticmethod
    def forward(ctx: Any, part: Tensor, dim: int, sizes: Sequence[int]) -> Tensor:
        ctx.dim, ctx.sizes = dim, sizes
        return _gather(part, dim, sizes)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor, None, None]:
        return count() * _Part.apply(grads[0], ctx.dim, ctx.sizes), None, None


@torch.no_grad()
def _gather(part: Tensor, dim: int, sizes: Sequence[int]) -> Tensor:
    """Return the parts of all processes, joined; as bytes, since not every backend has every type."""
    rows = part.movedim(dim, 0).contiguous()
    shape = rows.shape[1:]
    flat = rows.reshape(-1).view(torch.uint8)
    each, most = math.prod(shape) * rows.element_size(), max(sizes)  # bytes of a row, rows
    if len(rows) < most:
        flat = torch.cat([flat, flat.new_zeros((most - len(rows)) * each)])
    received = flat.new_empty(count() * flat.numel())
    with _talking():
        dist.all_gather_into_tensor(received, flat)
    pieces = received.split(flat.numel())
    whole = torch.cat([piece[: size * each] for piece, size in zip(pieces, sizes, strict=True)])
    return whole.view(part.dtype).view(sum(sizes), *shape).movedim(0, dim)


def _random_state(device: torch.device) -> list[Tensor]:
    return [torch.get_rng_state()] + ([torch.cuda.get_rng_state(device)] if device.type == "cuda" else [])


def _set_random_state(state: list[Tensor], device: torch.device) -> None:
    torch.set_rng_state(state[0])
    if device.type == "cuda":
        torch.cuda.set_rng_state(state[1], device)


@contextmanager
def _talking() -> Iterator[None]:
    """Convert errors of an exchange: another process has ended."""
    try:
        yield
    except RuntimeError as error:
        why = re.sub(r"^\[[^\]]*\] |\. This is typically.*", "", one_line(error))  # gloo's line of source, and advice
        raise ProcessLost(f"another process of the run has ended ({why})") from None
