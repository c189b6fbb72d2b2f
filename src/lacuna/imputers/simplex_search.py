"""Delaunay triangles around the missing pixels of many images at once, for a GPU.

The Delaunay triangle around a pixel q solves a small linear programme: of all ways to write q as a weighted mean of
observed pixels p, the one with the smallest mean of |p - q|² + height(p) uses the corners of that triangle. The simplex
method solves it for all pixels of all images at once, first with the pixels of a small window, then with all. One step
is a matrix product that finds the pixel deepest inside each circumcircle.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

DEPTH = 1e-8  # minimal depth inside a circle, in squared pixels, to count as inside
OUTSIDE = 1e-6  # weight of the artificial corners above which a query lies outside the convex hull
ASIDE = 1e-9  # offset of queries, so that none lies on an edge, where the simplex method could cycle
ABSENT = 1e30  # height of pixels that are not observed: never inside a circle
REACH = 3  # half-width of the small window
STEPS = 200  # maximum number of simplex steps; about ten are needed
PAIRS = {"cpu": 2**21, "cuda": 2**27}
"""Pairs of a missing and an observed pixel compared at once."""


def corners(mask: Tensor, heights: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The missing pixels in the convex hull of the observed ones, their corners and weights, as ``linear.Corners``.

    Args:
        mask: (N,H,W) bool, which pixels are observed.
        heights: (H,W) float64 random heights of the positions, in squared pixels.
    """
    count = mask.flatten(1).sum(1)
    most, missing = int(count.max()), mask[0].numel() - int(count.min())
    at_once = max(1, PAIRS["cpu" if mask.device.type == "cpu" else "cuda"] // max(1, missing * most))
    parts = [_corners(some, heights, most, missing) for some in mask.split(at_once)]
    starts = range(0, mask.numel(), at_once * mask[0].numel())
    return (
        torch.cat([pixel + start for (pixel, _, _), start in zip(parts, starts, strict=True)]),
        torch.cat([corner + start for (_, corner, _), start in zip(parts, starts, strict=True)]),
        torch.cat([weight for _, _, weight in parts]),
    )


def _corners(mask: Tensor, heights: Tensor, most: int, missing: int) -> tuple[Tensor, Tensor, Tensor]:
    """:func:`corners`; ``most`` and ``missing`` bound the numbers of observed and of missing pixels of a mask."""
    # Where fewer pixels are missing, observed ones are queried, too.
    order = mask.flatten(1).byte().sort(dim=1, descending=True, stable=True).indices
    queries = order[:, order.shape[1] - missing :]
    if most == 0 or missing == 0:
        nothing = queries.new_empty(0, 3)
        return nothing[:, 0], nothing, nothing.double()
    corner, weight = triangles(mask, order[:, :most], queries, heights)
    outside = torch.where(corner < 0, weight, 0.0).sum(2) > OUTSIDE
    image, number = (~outside & ~mask.flatten(1).gather(1, queries)).nonzero(as_tuple=True)
    start = image * mask[0].numel()
    corner, weight = corner[image, number], weight[image, number]
    weight = torch.where(corner < 0, 0.0, weight).clamp(min=0)
    # An artificial corner has no weight: any observed pixel will do in its place.
    corner = torch.where(corner < 0, corner.amax(1, keepdim=True), corner)
    return queries[image, number] + start, corner + start[:, None], weight / weight.sum(1, keepdim=True)


class Basis(NamedTuple):
    """Three corners around each query q, all (N,Q,3); at the end those of q's Delaunay triangle.

    Attributes:
        site: flat position of a corner p; -1 = an artificial corner, far away and with a large height.
        row, column: position of p relative to q.
        height: |p - q|² plus the random height of p.
    """

    site: Tensor
    row: Tensor
    column: Tensor
    height: Tensor


Search = Callable[[Tensor, Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]
"""(slopes of a plane along rows and columns and its height at the query (N,R), numbers of the queries (N,R)) ->
flat position of the site deepest below the plane, and its (negative) depth (N,R)."""


def triangles(mask: Tensor, sites: Tensor, queries: Tensor, heights: Tensor) -> tuple[Tensor, Tensor]:
    """The Delaunay triangle around each query and the query's weights in it.

    Args:
        mask: (N,H,W) bool, which pixels are observed.
        sites: (N,P) flat positions, int64; the observed ones are all among them.
        queries: (N,Q) flat positions of the pixels to write as weighted means.
        heights: (H,W) float64 random heights of the positions.

    Returns:
        corners (N,Q,3): flat positions, or -1 for an artificial corner, which has weight outside the convex hull only;
        and weights (N,Q,3), float64, that sum to 1.
    """
    side, width = max(mask.shape[1:]), mask.shape[2]
    lifts = torch.where(mask, heights, ABSENT)
    basis = _far_away(queries, side)
    for search in (_among_near(lifts, queries), _among_all(lifts.flatten(1), sites, queries, width)):
        todo = torch.arange(queries.shape[1], device=queries.device).expand(len(queries), -1)
        for _ in range(STEPS):
            part = Basis(*(field.gather(1, todo[..., None].expand(-1, -1, 3)) for field in basis))
            site, depth = search(*_plane(part), todo)
            deep = (depth < -DEPTH) & (site[..., None] != part.site).all(2)  # rounding may lift a corner
            part = _pivot(part, site, deep, lifts.flatten(1), queries.gather(1, todo), width)
            for field, new in zip(basis, part, strict=True):
                field.scatter_(1, todo[..., None].expand(-1, -1, 3), new)
            left = int(deep.sum(1).max())
            if left == 0:
                break
            if left < 0.8 * todo.shape[1]:
                todo = todo.gather(1, deep.byte().sort(dim=1, descending=True, stable=True).indices[:, :left])
    return basis.site, _weights(basis.row, basis.column)


def _far_away(queries: Tensor, side: int) -> Basis:
    """A triangle of artificial corners around each query, larger than the image and higher than any site."""
    angle = torch.tensor([0.1, 2.2, 4.3], dtype=torch.float64, device=queries.device)
    shape = (*queries.shape, 3)
    return Basis(
        torch.full(shape, -1, device=queries.device),
        (4 * side * angle.sin()).expand(shape).clone(),
        (4 * side * angle.cos()).expand(shape).clone(),
        torch.full(shape, 64.0 * side**4, dtype=torch.float64, device=queries.device),
    )


def _among_near(heights: Tensor, queries: Tensor) -> Search:
    """A search among the pixels of a window around each query; ``heights`` (N,H,W) are the random ones."""
    offset = torch.arange(-REACH, REACH + 1, device=queries.device)
    down, right = (part.flatten() for part in torch.meshgrid(offset, offset, indexing="ij"))
    padded = torch.nn.functional.pad(heights, (REACH,) * 4, value=ABSENT)
    width, step = heights.shape[2], padded.shape[2]
    corner = queries // width * step + queries % width
    places = (corner[..., None] + ((down + REACH) * step + right + REACH)).flatten(1)
    lifted = padded.flatten(1).gather(1, places).unflatten(1, (-1, len(down))) + (down**2 + right**2)
    grid = torch.stack([down, right]).double()

    def search(slope_down: Tensor, slope_right: Tensor, level: Tensor, which: Tensor) -> tuple[Tensor, Tensor]:
        some = lifted.gather(1, which[..., None].expand(-1, -1, len(down)))
        depth, nearest = some.sub_(torch.stack([slope_down, slope_right], 2) @ grid).min(2)
        return queries.gather(1, which) + down[nearest] * width + right[nearest], depth - level

    return search


def _among_all(heights: Tensor, sites: Tensor, queries: Tensor, width: int) -> Search:
    """A search among all ``sites``; ``heights`` (N,HW) are the random ones."""
    group = 8
    sites = torch.cat([sites, sites[:, -1:].expand(-1, -sites.shape[1] % group)], 1)
    r, c = (sites // width).double(), (sites % width).double()
    table = torch.stack([heights.gather(1, sites) + r * r + c * c, r, c], 1)
    row, column = (queries // width).double(), (queries % width).double()

    def search(slope_down: Tensor, slope_right: Tensor, level: Tensor, which: Tensor) -> tuple[Tensor, Tensor]:
        r, c = row.gather(1, which), column.gather(1, which)
        # |p - q|² - plane(p - q), of which the part that does not depend on p is added after the search
        factors = torch.stack([torch.ones_like(r), -2 * r - slope_down, -2 * c - slope_right], 2)
        below = (factors @ table).unflatten(2, (group, -1))
        # in two stages, because amin is much faster than min with indices
        block = below.amin(2).min(2).indices
        depth, member = below.gather(3, block[..., None, None].expand(-1, -1, group, -1))[..., 0].min(2)
        found = sites.gather(1, member * below.shape[3] + block)
        return found, depth + r * r + c * c + slope_down * r + slope_right * c - level

    return search


def _pivot(basis: Basis, site: Tensor, deep: Tensor, heights: Tensor, queries: Tensor, width: int) -> Basis:
    """Where ``deep``, replace by ``site`` (N,R) the corner that must leave so that the query stays inside."""
    site = torch.where(deep, site, queries)
    row, column = (site // width - queries // width).double(), (site % width - queries % width).double()
    height = row.square() + column.square() + heights.gather(1, site)
    now = _weights(basis.row - 0.37 * ASIDE, basis.column - 0.61 * ASIDE)
    change = _weights(basis.row - row[..., None], basis.column - column[..., None])
    ratio = torch.where(change > 1e-12, now / change, torch.inf)
    leaves = (torch.arange(3, device=site.device) == ratio.argmin(2)[..., None]) & deep[..., None]
    new = (field[..., None] for field in (site, row, column, height))
    return Basis(*(torch.where(leaves, fresh, old) for fresh, old in zip(new, basis, strict=True)))


def _plane(basis: Basis) -> tuple[Tensor, Tensor, Tensor]:
    """Slopes along rows and columns, and the height at the query, of the plane through the corners; each (N,Q)."""
    (r1, r2, r3), (c1, c2, c3) = basis.row.unbind(2), basis.column.unbind(2)
    h1, h2, h3 = basis.height.unbind(2)
    twice_area = (r2 - r1) * (c3 - c1) - (r3 - r1) * (c2 - c1)
    down = ((h2 - h1) * (c3 - c1) - (h3 - h1) * (c2 - c1)) / twice_area
    right = ((r2 - r1) * (h3 - h1) - (r3 - r1) * (h2 - h1)) / twice_area
    return down, right, h1 - down * r1 - right * c1


def _weights(row: Tensor, column: Tensor) -> Tensor:
    """Weights (N,Q,3) with which the weighted mean of the corners (row, column), each (N,Q,3), is the origin."""
    (r1, r2, r3), (c1, c2, c3) = row.unbind(2), column.unbind(2)
    areas = torch.stack([r2 * c3 - r3 * c2, r3 * c1 - r1 * c3, r1 * c2 - r2 * c1], 2)
    return areas / areas.sum(2, keepdim=True)
