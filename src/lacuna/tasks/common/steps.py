"""How the steps of a training run: eagerly, or each as one CUDA graph that is recorded once and replayed.

The steps of both papers' networks are so small that launching their kernels takes several times as long as running
them. A graph launches all kernels of a step at once.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Hashable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

Step = Callable[[Tensor, Hashable], Tensor]
"""A training step on the images at some positions (int64 (B,)) of the training set: (positions, kind) -> loss."""

MODES = ("auto", "graph", "eager")
WARM_UP = 3
"""Eager steps before a kind of step is recorded: they allocate what stays, and libraries choose their algorithms."""
MOST_GRAPHS = 4
"""Graphs that are kept; each holds the memory of a step."""


@dataclass(frozen=True)
class Recording:
    """A recorded step: ``replay`` repeats it on what ``positions`` holds then, and leaves its loss in ``loss``."""

    positions: Tensor
    loss: Tensor
    replay: Callable[[], Any]


class Recorder(Protocol):
    """Records steps."""

    def together(self) -> AbstractContextManager[Any]:
        """A context for steps, eager ones included, and recordings."""

    def record(self, step: Callable[[], Tensor]) -> tuple[Tensor, Callable[[], Any]]:
        """Record a step without running it: its loss, which every replay writes anew, and the replay."""


def announce(reason: str) -> None:
    """Say why steps are not recorded."""
    print(f"Training steps run one operation at a time, not as CUDA graphs: {reason}", file=sys.stderr, flush=True)


class EagerSteps:
    """Runs every step as it comes."""

    def __init__(self, step: Step) -> None:
        self._step = step

    def together(self) -> AbstractContextManager[Any]:
        """A context for the steps of a chunk."""
        return nullcontext()

    def __call__(self, positions: Tensor, kind: Hashable) -> Tensor:
        """Run a step."""
        return self._step(positions, kind)

    def forget(self) -> None:
        """Nothing is kept."""


class GraphedSteps:
    """Records every kind of step on full batches once and replays it; other batches run eagerly.

    A replay repeats the operations on the tensors of the recording. A step must therefore keep its state in tensors
    that stay the same ones, and may depend on values of the host only through ``kind``.

    A step that cannot be recorded (it waits for the device, for instance) runs eagerly, and a line says why.

    Args:
        step: the step.
        batch_size: of full batches.
        recorder: :class:`CudaRecorder`.
    """

    def __init__(self, step: Step, batch_size: int, recorder: Recorder) -> None:
        self._step, self._batch_size, self._recorder = step, batch_size, recorder
        self._recordings: dict[Hashable, Recording] = {}
        self._seen: Counter[Hashable] = Counter()
        self.failure: str | None = None
        """Why steps cannot be recorded."""

    def together(self) -> AbstractContextManager[Any]:
        """A context for the steps of a chunk."""
        return self._recorder.together()

    def __call__(self, positions: Tensor, kind: Hashable) -> Tensor:
        """Run or replay a step."""
        recording = self._recordings.get(kind) if len(positions) == self._batch_size else None
        if recording is not None:
            recording.positions.copy_(positions)
            recording.replay()
            return recording.loss
        if len(positions) == self._batch_size and self.failure is None:
            self._seen[kind] += 1
            if self._seen[kind] > WARM_UP and self._record(positions, kind):
                return self(positions, kind)
        return self._step(positions, kind)

    def _record(self, positions: Tensor, kind: Hashable) -> bool:
        """Record a kind of step; whether that was possible."""
        while len(self._recordings) >= MOST_GRAPHS:  # the oldest kind, of an earlier phase of the training
            self._recordings.pop(next(iter(self._recordings)))
        fixed = positions.clone()
        try:
            loss, replay = self._recorder.record(lambda: self._step(fixed, kind))
        except RuntimeError as error:
            self.failure = str(error).strip().split("\n")[0]
            announce(self.failure)
            return False
        self._recordings[kind] = Recording(fixed, loss, replay)
        return True

    def forget(self) -> None:
        """Record all kinds anew, after tensors of the training have been replaced."""
        self._recordings.clear()
        self._seen.clear()


class CudaRecorder:
    """Records CUDA graphs on a stream of its own, on which eager steps run as well.

    One stream for both, because autograd remembers the stream on which it first saw a weight, and a recording must not
    wait for another stream.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device)

    @contextmanager
    def together(self) -> Iterator[None]:
        """Work on the stream of the recordings, after what is queued on the current one and before what follows."""
        outside = torch.cuda.current_stream(self._device)
        self._stream.wait_stream(outside)
        with torch.cuda.stream(self._stream):
            yield
        outside.wait_stream(self._stream)

    def record(self, step: Callable[[], Tensor]) -> tuple[Tensor, Callable[[], Any]]:
        """Record a step.

        Raises:
            RuntimeError: the step does something that a graph cannot contain; nothing has been run.
        """
        state = torch.cuda.get_rng_state(self._device)
        graph = torch.cuda.CUDAGraph()
        try:
            # other threads (of a logger, say) may use the GPU meanwhile
            with torch.cuda.graph(graph, stream=self._stream, capture_error_mode="thread_local"):
                loss = step()
        except RuntimeError:
            torch.cuda.set_rng_state(state, self._device)
            raise
        return loss, graph.replay
