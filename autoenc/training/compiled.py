"""Training steps that are compiled as a whole: forward pass, loss and backward pass are one graph of fused kernels.

On a GPU, the choice of the rows, this graph and the optimizers are also captured as one CUDA graph, which replaces some
thirty launches a step by one.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from autoenc.core import Autoencoder, Batch
from autoenc.data.split import Split
from autoenc.errors import one_line, out_of_memory
from autoenc.objective import Objective, apply_gradients, parameters_of, train_step

log = logging.getLogger("autoenc")
EAGER = 3  # steps before a CUDA graph is captured: optimizers and libraries allocate what they need
Gradients = dict[str, tuple[Tensor | None, ...]]  # of each player's loss with respect to its own parameters
Parts = dict[str, Tensor]


class CompiledStep:
    """Training steps as `objective.train_step`, compiled where that is possible.

    The first step runs eagerly: libraries fill tables that cannot be traced. Full batches are compiled from then on;
    others, such as the last of an epoch, run eagerly. What cannot be compiled runs eagerly, too, which is logged
    once. Random numbers are those of eager steps.

    Args:
        optimizers: one for each player. clip: largest norm of each player's gradient. bf16: networks in bfloat16.
    """

    def __init__(
        self,
        model: Autoencoder,
        objective: Objective,
        optimizers: Mapping[str, Optimizer],
        device: torch.device,
        clip: float | None = None,
        bf16: bool = False,
    ):
        self.model, self.objective, self.optimizers, self.clip = model, objective, optimizers, clip
        self.device, self.bf16 = device, bf16
        self.parameters = {player: parameters_of(optimizer) for player, optimizer in optimizers.items()}
        self.now = torch.zeros((), device=device)  # the step, as a tensor: a number would be a constant of the graph
        self.split: Split | None = None
        self.size = 0  # of the batches that are compiled
        self.begun = False
        self.compiled: Callable[[Batch | Tensor], tuple[Gradients, Parts]] | None = None
        self.graph = CapturedStep(self, device) if device.type == "cuda" else None
        try:
            torch._dynamo.config.trace_autograd_ops = True  # the gradients are part of the compiled function
            self.compiled = torch.compile(
                self.gradients, fullgraph=True, dynamic=False, options={"fallback_random": True}
            )
        except (AttributeError, RuntimeError) as error:  # an older torch; Python without a compiler
            self._give_up(error)

    def batches(self, split: Split, batch_size: int, seed: int, epoch: int, start: int) -> Iterator[Batch | Tensor]:
        """Yield what `__call__` takes for the rest of an epoch: batches, or the indices of their rows on a GPU."""
        self.split, self.size = split, min(batch_size, len(split))
        if self.graph is not None and self.graph.reads(split):
            yield from split.shuffled_rows(batch_size, seed, epoch)[start:]
        else:
            yield from split.shuffled(batch_size, seed, epoch, start=start)

    def __call__(self, rows: Batch | Tensor, step: int) -> Parts:
        """Update every player, and return the parts of the loss, detached."""
        usual, self.begun = self.begun and len(rows) == self.size, True
        if usual and self.graph is not None and isinstance(rows, Tensor) and self.graph.ready(rows):
            return self.graph(rows, step)
        if usual and self.compiled is not None:
            self.now.fill_(step)
            try:
                gradients, parts = self.compiled(rows)
            except Exception as error:  # raised before the step has begun, while it is traced or compiled
                if out_of_memory(error):
                    raise
                self._give_up(error)
            else:
                self.update(gradients)
                return parts
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            return train_step(self.model, self.objective, self.batch(rows), step, self.optimizers, clip=self.clip)

    def batch(self, rows: Batch | Tensor) -> Batch:
        """Return the batch of rows, if they are indices."""
        if isinstance(rows, Batch):
            return rows
        assert self.split is not None
        return self.split.take(rows)

    def gradients(self, rows: Batch | Tensor) -> tuple[Gradients, Parts]:
        """Return the gradients at step `now`, and the parts of the loss."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            loss = self.objective(self.model, self.batch(rows), self.now)
        last = list(loss.total)[-1]
        gradients: Gradients = {
            player: torch.autograd.grad(total, self.parameters[player], retain_graph=player != last, allow_unused=True)
            for player, total in loss.total.items()
        }
        return gradients, loss.parts

    def update(self, gradients: Gradients) -> None:
        """Let the optimizers take a step along these gradients."""
        for player, values in gradients.items():
            for p, value in zip(self.parameters[player], values, strict=True):
                p.grad = value
        apply_gradients({player: self.optimizers[player] for player in gradients}, self.clip)

    def _give_up(self, error: Exception) -> None:
        self.compiled = None
        log.warning("trainer.compile=true: steps run eagerly, as they cannot be compiled: %s", one_line(error)[:300])


class CapturedStep:
    """The whole of a `CompiledStep` as a CUDA graph, for rows of a tensor on the GPU.

    The first steps run without it. Where a step cannot be captured, such as one that synchronizes with the host, steps
    stay as they are, which is logged once.
    """

    def __init__(self, steps: CompiledStep, device: torch.device):
        self.steps, self.device = steps, device
        self.done = 0  # steps before the graph
        self.usable = True
        self.graph: torch.cuda.CUDAGraph | None = None
        self.rates: list[tuple[dict[str, Any], Tensor]] = []  # parameter group, its learning rate in the graph
        self.values: list[float] = []  # what these learning rates are at present

    def reads(self, split: Split) -> bool:
        """Return whether a graph can choose the rows of a split.

        Batches of token ids have different lengths; those of augmented or binarized images are not the stored rows.
        """
        x, y = split.x, split.y
        return (
            not split.redrawn
            and isinstance(x, Tensor)
            and x.is_cuda
            and x.dtype != torch.int64
            and (y is None or y.is_cuda)
        )

    def ready(self, rows: Tensor) -> bool:
        """Return whether there is a graph; it is captured after the first steps."""
        if self.graph is None and self.usable:
            self.done += 1
            if self.done > EAGER:
                self._capture(rows)
        return self.graph is not None

    def __call__(self, rows: Tensor, step: int) -> Parts:
        """Update every player, and return the parts of the loss, which the next call overwrites."""
        assert self.graph is not None
        self.rows.copy_(rows)
        self.steps.now.fill_(step)
        for i, (group, rate) in enumerate(self.rates):
            if group["lr"] != self.values[i]:
                self.values[i] = group["lr"]
                rate.fill_(group["lr"])
        self.graph.replay()
        for player, values in self.gradients.items():  # a step without the graph has left its own
            for p, value in zip(self.steps.parameters[player], values, strict=True):
                p.grad = value
        return self.parts

    def _capture(self, rows: Tensor) -> None:
        groups = [group for optimizer in self.steps.optimizers.values() for group in optimizer.param_groups]
        before: list[dict[str, Any]] = [
            {key: group[key] for key in ("lr", "capturable") if key in group} for group in groups
        ]
        self.values = [group["lr"] for group in groups]
        self.rates = [(group, torch.tensor(group["lr"], device=self.device)) for group in groups]
        self.rows = rows.clone()
        graph = torch.cuda.CUDAGraph()
        try:
            for group, rate in self.rates:
                group |= {"lr": rate} | ({"capturable": True} if "capturable" in group else {})
            with torch.cuda.graph(graph):
                self.gradients, self.parts = (self.steps.compiled or self.steps.gradients)(self.rows)
                self.steps.update(self.gradients)
        except Exception as error:
            self._give_up(error)
        else:
            self.graph = graph
        finally:
            for group, values in zip(groups, before, strict=True):
                group.update(values)

    def _give_up(self, error: Exception) -> None:
        self.usable = False
        log.warning("trainer.compile=true: steps are not captured as a CUDA graph: %s", one_line(error)[:300])
