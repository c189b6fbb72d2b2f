"""Time of a forward pass through a convolution and through MisConv (MisConv, appendix C, table 10 and figure 5).

Values are random, since the time does not depend on them. The convolution includes its ReLU. MisConv takes the image,
its mask and the density as a network would predict it; pinning the density is part of its time.
"""

from __future__ import annotations

import contextlib
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lacuna import files
from lacuna.data.masks import Square
from lacuna.drawing.box_plots import box_plot
from lacuna.errors import LacunaError
from lacuna.layers.misconv import MisConv2d
from lacuna.mfa import MFA
from lacuna.tasks.measurement import Measurement

AUTOCAST = {"32-true": None, "bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}
"""Precisions that can be measured -> autocast type of the layers."""
WARM_UP = 10
"""Passes of each layer before the first one that is measured."""

AT_LEAST_ONE = ("size", "missing_square", "batch", "channels", "filters", "kernel", "components", "threads")


class Timing(Measurement):
    """Measures the layers in turn, so that other work of the machine affects them equally.

    Keys of the recipe's ``timing``: ``size`` and ``missing_square``, sides of the square images and of the missing
    square in pixels; ``batch``, images per batch, and their ``channels``; ``filters``, ``kernel`` and ``padding`` of
    the layer; ``components`` K and ``factors`` L of the density; ``repeats``, passes of each layer; ``compiled``,
    whether compiled MisConv is measured as well; ``threads`` of a CPU.

    Raises:
        LacunaError: a value out of range, or a precision that cannot be measured.
    """

    def __init__(self, config: Mapping[str, Any], device: torch.device) -> None:
        super().__init__(config, device)
        self.spec: Mapping[str, Any] = config["timing"]
        self.times: dict[str, list[float]] = {}
        least = dict.fromkeys(AT_LEAST_ONE, 1) | {"padding": 0, "factors": 0}
        for key, smallest in least.items():
            if not isinstance(self.spec[key], int) or self.spec[key] < smallest:
                raise LacunaError(f"timing.{key}={self.spec[key]} must be a whole number of at least {smallest}.")
        square, size = self.spec["missing_square"], self.spec["size"]
        if square >= size:
            raise LacunaError(f"timing.missing_square={square} must be smaller than timing.size={size}.")
        if self.spec["kernel"] > self.spec["size"] + 2 * self.spec["padding"]:
            raise LacunaError(f"timing.kernel={self.spec['kernel']} is larger than the image: lower it.")
        if config["precision"] not in AUTOCAST:
            raise LacunaError(f"precision={config['precision']} cannot be timed: choose one of {', '.join(AUTOCAST)}.")

    def measure(self, folder: Path) -> dict[str, float]:
        """Median, mean, standard deviation and minimum of every layer, in seconds; ratios to the convolution.

        Other work of the machine only adds time: on a busy machine the minimum and ``ratio_best`` are more reliable
        than the median. All times are written to ``folder/times.json``: layer -> seconds of every pass in order.
        """
        with self._settings():
            passes = self.passes()
            for one_pass in passes.values():
                for _ in range(WARM_UP):
                    one_pass()
            self.times = {name: [] for name in passes}
            for _ in range(self.spec["repeats"]):
                for name, one_pass in passes.items():
                    self.times[name].append(self._seconds(one_pass))
        files.write_json(folder / "times.json", self.times)
        found = {}
        for name, times in self.times.items():
            found[f"{name}_seconds"] = statistics.median(times)
            found[f"{name}_mean"] = statistics.fmean(times)
            found[f"{name}_sd"] = statistics.stdev(times)
            found[f"{name}_best"] = min(times)
        for name in [name for name in self.times if name != "conv"]:
            ratio = name.replace("misconv", "ratio")
            found[ratio] = found[f"{name}_seconds"] / found["conv_seconds"]
            found[f"{ratio}_best"] = found[f"{name}_best"] / found["conv_best"]
        return found

    def draw(self, folder: Path) -> dict[str, Path]:
        """Box plots of all times (figure 5)."""
        path = folder / "times.png"
        title = f"{self.spec['size']}x{self.spec['size']}, batch {self.spec['batch']}"
        box_plot({title: self.times}, label="milliseconds", scale=1e3, path=path)
        return {"times": path}

    def passes(self) -> dict[str, Callable[[], Tensor]]:
        """The passes to measure: ``conv``, ``misconv`` and optionally ``misconv_compiled``; each returns its features.

        Raises:
            LacunaError: MisConv cannot be compiled here.
        """
        spec = self.spec
        image, mask, density = self._inputs()
        conv = nn.Conv2d(spec["channels"], spec["filters"], spec["kernel"], padding=spec["padding"]).to(self.device)
        eager = MisConv2d.from_conv(conv)
        found: dict[str, Callable[[], Tensor]] = {
            "conv": lambda: conv(image).relu(),
            "misconv": lambda: eager(density.pin(image, mask)),
        }
        if spec["compiled"]:
            # after a compilation for other sizes, torch would compile a slower version for all sizes
            torch.compiler.reset()
            compiled = MisConv2d.from_conv(conv, compiled=True)
            found["misconv_compiled"] = lambda: compiled(density.pin(image, mask))
            try:
                found["misconv_compiled"]()
            except Exception as error:  # any error of the compiler's tool chain
                reason = " ".join(str(error).split())[:200]
                raise LacunaError(f"timing.compiled=true: MisConv cannot be compiled here ({reason}).") from error
        return found

    def _inputs(self) -> tuple[Tensor, Tensor, MFA]:
        """Images (B,C,H,W), their masks and a density of the missing pixels, not pinned yet."""
        spec = self.spec
        batch, k, shape = spec["batch"], spec["components"], (spec["channels"], spec["size"], spec["size"])
        index = torch.arange(batch)
        mask = Square(spec["missing_square"] / spec["size"])(index, shape, seed=self.config["seed"], split="timing")
        image = torch.rand(batch, *shape).where(mask, 0)
        density = MFA(
            torch.zeros(batch, k),
            torch.rand(batch, k, *shape),
            0.1 * torch.randn(batch, k, spec["factors"], *shape),
            0.01 + 0.1 * torch.rand(batch, k, *shape),
        )
        return image.to(self.device), mask.to(self.device), density.to(self.device)

    def _seconds(self, one_pass: Callable[[], Tensor]) -> float:
        """Seconds of one pass, including the device; on one CPU thread its processor time, unaffected by other work."""
        alone = self.device.type == "cpu" and self.spec["threads"] == 1
        clock = time.thread_time if alone else time.perf_counter
        self._wait()
        start = clock()
        one_pass()
        self._wait()
        return clock() - start

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    @contextlib.contextmanager
    def _settings(self) -> Iterator[None]:
        """No gradients, the recipe's precision and number of threads."""
        before, precision = torch.get_num_threads(), AUTOCAST[self.config["precision"]]
        torch.set_num_threads(self.spec["threads"])
        try:
            with torch.no_grad(), torch.autocast(self.device.type, precision, enabled=precision is not None):
                yield
        finally:
            torch.set_num_threads(before)
