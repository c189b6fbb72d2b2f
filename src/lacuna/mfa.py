"""The mixture of factor analysers: a density over the missing pixels of an image.

Component k of an image's mixture is Gaussian with mean ``mean[k]`` and covariance
``sum_j factors[k, j] factors[k, j]^T + diag(noise[k])`` (MisConv, section 3, eq. 1). All computations are exact and
batched: every image has its own set of pixels, no loop runs over images, and nothing larger than L x L is factorised.
"""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Concatenate, ParamSpec, TypeVar

import torch
from torch import Tensor

LOG_2PI = math.log(2 * math.pi)

P = ParamSpec("P")
R = TypeVar("R")


def full_precision(tensor: Tensor) -> AbstractContextManager[Any]:
    """A context without autocasting on the device of ``tensor`` (the meta device has no autocasting)."""
    kind = tensor.device.type
    return contextlib.nullcontext() if kind == "meta" else torch.autocast(kind, enabled=False)


def widened(values: Tensor) -> Tensor:
    """Values in half precision as float32; others as they are."""
    return values.float() if values.element_size() < 4 else values


def _own_precision(method: Callable[Concatenate[MFA, P], R]) -> Callable[Concatenate[MFA, P], R]:
    """Compute in the mixture's own floating-point type, also inside autocasting to half precision."""

    @functools.wraps(method)
    def computed(self: MFA, /, *args: P.args, **kwargs: P.kwargs) -> R:
        with full_precision(self.mean):
            return method(self, *args, **kwargs)

    return computed


@dataclass(frozen=True, eq=False)
class MFA:
    """A batch of mixtures of K factor analysers with L factors each, over images (C, H, W).

    Attributes:
        logits: (B, K) unnormalised log mixture weights.
        mean: (B, K, C, H, W) component means, in pixel units ([0, 1]).
        factors: (B, K, L, C, H, W) factor loadings; L may be 0 (a diagonal Gaussian).
        noise: (B, K, C, H, W) *variances* of the pixel-wise noise, >= 0.

    Raises:
        ValueError: the four shapes do not fit together.
    """

    logits: Tensor
    mean: Tensor
    factors: Tensor
    noise: Tensor

    def __post_init__(self) -> None:
        batch = self.logits.shape
        image = self.mean.shape[2:]
        fits = (
            self.logits.ndim == 2
            and self.mean.ndim == 5
            and self.mean.shape[:2] == batch
            and self.noise.shape == self.mean.shape
            and self.factors.ndim == 6
            and self.factors.shape[:2] == batch
            and self.factors.shape[3:] == image
        )
        if not fits:
            raise ValueError(
                "MFA needs logits (B,K), mean and noise (B,K,C,H,W), factors (B,K,L,C,H,W); got "
                f"{tuple(self.logits.shape)}, {tuple(self.mean.shape)}, {tuple(self.noise.shape)}, "
                f"{tuple(self.factors.shape)}"
            )

    # ------------------------------------------------------------------ shape and placement

    def __len__(self) -> int:
        return self.logits.shape[0]

    @property
    def components(self) -> int:
        """K, the number of mixture components."""
        return self.logits.shape[1]

    @property
    def rank(self) -> int:
        """L, the number of factors of a component."""
        return self.factors.shape[2]

    @property
    def weights(self) -> Tensor:
        """(B, K) mixture weights, summing to one."""
        return self.logits.softmax(1)

    def _parts(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        return self.logits, self.mean, self.factors, self.noise

    def __getitem__(self, index: Tensor | slice) -> MFA:
        """The mixtures of some images of the batch."""
        return MFA(*(part[index] for part in self._parts()))

    def to(self, *args: torch.device | torch.dtype | str) -> MFA:
        """The same mixture on another device or in another floating-point type."""
        return MFA(*(part.to(*args) for part in self._parts()))  # type: ignore[call-overload]

    def detach(self) -> MFA:
        """The same mixture, detached from its computation graph."""
        return MFA(*(part.detach() for part in self._parts()))

    @staticmethod
    def cat(parts: Sequence[MFA]) -> MFA:
        """Several batches concatenated."""
        return MFA(*(torch.cat(tensors) for tensors in zip(*(p._parts() for p in parts), strict=True)))

    def permute_components(self, order: Tensor) -> MFA:
        """The same mixture with its components in another order (K,)."""
        return MFA(*(part[:, order] for part in self._parts()))

    # ------------------------------------------------------------------ density

    def log_prob(self, x: Tensor, where: Tensor) -> Tensor:
        """Exact log-density, in nats, of the values of ``x`` at which ``where`` is True.

        Every image may have its own set; the rest of the image is marginalised out and never read (it may be NaN).
        Cost O(n L^2) per image and component.

        Args:
            x: (B, C, H, W) values.
            where: bool, (B, 1, H, W) or (B, C, H, W). ``noise`` must be positive there.

        Returns:
            (B,) log-densities; 0 for an empty set.
        """
        joint = self.logits.log_softmax(1) + self.component_log_prob(x, where)
        return torch.logsumexp(joint, 1)

    @_own_precision
    def component_log_prob(self, x: Tensor, where: Tensor) -> Tensor:
        """As :meth:`log_prob`, for each component separately: (B, K)."""
        mfa = self
        if x.device.type == "cpu" and len(x) == len(where) == len(self):
            mfa, x, where = self._packed(x, where)
        w, scale, residual = mfa._whiten(x, where)
        return mfa._evidence(w, *mfa._capacitance(scale, residual))

    def _packed(self, x: Tensor, where: Tensor) -> tuple[MFA, Tensor, Tensor]:
        """Mixture, values and set, reduced to the size of the largest set of the batch if that is below one half.

        Halves the time for a quarter of the pixels. Only for the CPU: the size of the sets must be known on the host.
        """
        w = where.flatten(1)
        width = int(w.sum(1).max())
        if 2 * width > w.shape[1]:
            return self, x, where
        # the set first, in order; then, where an image's set is smaller, pixels that `keep` excludes again
        order = w.to(torch.uint8).argsort(dim=1, descending=True, stable=True)[:, :width]
        keep = w.gather(1, order)[:, None, None]

        def pick(values: Tensor) -> Tensor:
            flat = values.flatten(-2) if where.shape[1] == 1 else values.flatten(-3).unsqueeze(-2)
            at = order.view(len(order), *(1,) * (flat.ndim - 2), width).expand(*flat.shape[:-1], width)
            return flat.gather(-1, at).unsqueeze(-2)

        mfa = MFA(self.logits, pick(self.mean), pick(self.factors), pick(self.noise))
        return mfa, pick(x.expand(-1, *self.mean.shape[2:])), keep

    def _evidence(self, w: Tensor, chol: Tensor, half: Tensor, squared: Tensor) -> Tensor:
        """Log N_k of the set, (B,K), from the results of :meth:`_whiten` and :meth:`_capacitance`."""
        quadratic = squared - half.square().sum((-2, -1))
        log_noise = torch.where(w, self.noise.flatten(2), 1).log().sum(-1)
        log_det = log_noise + 2 * chol.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        # the product of an integer count and a Python float would be float32
        count = w.sum(-1, dtype=log_noise.dtype)
        return -0.5 * (quadratic + log_det + count * LOG_2PI)

    def _whiten(self, x: Tensor, where: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The set as (B,1,n), 1/sqrt(noise) on it and 0 elsewhere (B,K,n), and the whitened residual (B,K,n)."""
        image = self.mean.shape[2:]
        w = where.expand(-1, *image).flatten(1).unsqueeze(1)
        # the inner `where` keeps 1/sqrt(0) outside the set, and its infinite gradient, out of the graph
        scale = torch.where(w, self.noise.flatten(2), 1).rsqrt() * w
        x = torch.where(w, x.expand(-1, *image).flatten(1).unsqueeze(1), 0)
        residual = (x - self.mean.flatten(2)) * scale
        return w, scale, residual

    def _capacitance(self, scale: Tensor, residual: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Cholesky factor R (B,K,L,L) of I + A^T D^-1 A, R^-1 A^T D^-1 r (B,K,L,1) and r^T D^-1 r (B,K)."""
        loadings = self.factors.flatten(3) * scale.unsqueeze(2)
        identity = torch.eye(self.rank, dtype=loadings.dtype, device=loadings.device)
        # cholesky_ex does not synchronise to report errors; the matrix is I + PSD
        chol = torch.linalg.cholesky_ex(identity + loadings @ loadings.mT).L
        projected = loadings @ residual.unsqueeze(-1)
        half = torch.linalg.solve_triangular(chol, projected, upper=False)
        return chol, half, residual.square().sum(-1)

    # ------------------------------------------------------------------ conditioning

    @_own_precision
    def condition(self, x: Tensor, mask: Tensor) -> MFA:
        """p(image | observed pixels), exactly, again as an MFA.

        The posterior of the factors is N(L^-1 h, L^-1) with L = I + A_o^T D_o^-1 A_o = R R^T, so the missing
        pixels have loadings A_u R^-T and unchanged noise; the weights become responsibilities. A batch of one
        mixture (a density of the whole data set) may be conditioned on many images.

        Args:
            x: (B, C, H, W); read only where observed.
            mask: bool, True = observed, (B, 1, H, W) or (B, C, H, W).

        Returns:
            MFA whose mean is ``x`` and whose factors and noise are 0 at observed pixels.
        """
        shape = (x.shape[0], *self.mean.shape[1:])
        w, scale, residual = self._whiten(x, mask)
        chol, half, squared = self._capacitance(scale, residual)
        evidence = self._evidence(w, chol, half, squared)
        # F' = R^-1 F satisfies F'^T F' = A L^-1 A^T; the mean moves by A L^-1 h = F'^T (R^-1 h)
        factors = self.factors.flatten(3).expand(shape[0], -1, -1, -1)
        factors = torch.linalg.solve_triangular(chol, factors, upper=False)
        mean = self.mean.flatten(2) + (factors.mT @ half).squeeze(-1)
        posterior = MFA(
            logits=self.logits.log_softmax(1) + evidence,
            mean=mean.reshape(shape),
            factors=factors.reshape(*shape[:2], self.rank, *shape[2:]),
            noise=self.noise.expand(shape),
        )
        return posterior.pin(x, mask)

    def pin(self, x: Tensor, mask: Tensor) -> MFA:
        """The mixture with all mass on ``x`` at observed pixels: mean = x, factors = 0, noise = 0 there.

        This is MisConv's extension of p(x_m | x_o) to the whole image (section 3), for a density that already is
        conditional (DMFA). For an unconditional mixture use :meth:`condition`.

        Args:
            x: (B, C, H, W); read only where observed.
            mask: bool, True = observed, (B, 1, H, W) or (B, C, H, W).
        """
        mask = mask.unsqueeze(1)
        return MFA(
            logits=self.logits,
            mean=torch.where(mask, x.to(self.mean.dtype).unsqueeze(1), self.mean),
            factors=self.factors.masked_fill(mask.unsqueeze(2), 0),
            noise=self.noise.masked_fill(mask, 0),
        )

    # ------------------------------------------------------------------ summaries

    @_own_precision
    def expectation(self) -> Tensor:
        """E[image], (B, C, H, W): the imputation with the least expected squared error."""
        return torch.einsum("bk,bkchw->bchw", self.weights, self.mean)

    @_own_precision
    def variance(self) -> Tensor:
        """Variance of every pixel under the mixture, (B, C, H, W): within components plus between them."""
        within = self.noise + self.factors.square().sum(2)
        spread = self.mean - self.expectation().unsqueeze(1)
        return torch.einsum("bk,bkchw->bchw", self.weights, within + spread.square())

    def mode(self) -> Tensor:
        """Mean of the component of largest weight, (B, C, H, W): MisConv's "most probable imputation" (table 7)."""
        best = self.logits.argmax(1)
        return self.mean[torch.arange(len(self), device=best.device), best]

    @_own_precision
    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """``n`` independent samples from every mixture: (n, B, C, H, W)."""
        batch, k = self.logits.shape
        drawn = torch.multinomial(self.weights, n, replacement=True, generator=generator).T
        rows = torch.arange(batch, device=drawn.device)
        options = {"dtype": self.mean.dtype, "device": self.mean.device, "generator": generator}
        latent = torch.randn(n, batch, self.rank, **options)  # type: ignore[call-overload]
        white = torch.randn(n, batch, *self.mean.shape[2:], **options)  # type: ignore[call-overload]
        out: Tensor = self.mean[rows, drawn] + self.noise.sqrt()[rows, drawn] * white
        # a sum over a one-hot choice avoids copying the chosen factors, n B L images
        choice = torch.nn.functional.one_hot(drawn, k).to(latent.dtype)
        return out + torch.einsum("nbk,nbl,bklchw->nbchw", choice, latent, self.factors)
