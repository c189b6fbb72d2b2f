"""EncodingCache: encodings, stored at missing pixels only."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from lacuna.data.incomplete import IncompleteImages
from lacuna.data.masks import Bernoulli, MaskScheme, Noise, NoMask, Square
from lacuna.data.prepared import Arrays
from lacuna.imputers.knn import KNN
from lacuna.imputers.simple import Mean
from lacuna.mfa import MFA
from lacuna.tasks.common.encoding_cache import Encoding, EncodingCache
from tests.dense import random_images, random_mask, random_mfa

N, SHAPE, CHUNK = 23, (2, 8, 7), 5
SCHEMES: dict[str, MaskScheme] = {
    "square": Square(),
    "noise": Noise(0.7),
    "bernoulli": Bernoulli(0.6),
    "bernoulli, per channel": Bernoulli(0.6, per_channel=True),
    "none": NoMask(),
}


def data(scheme: MaskScheme, own: int = 0, **options) -> IncompleteImages:
    rng = np.random.default_rng(0)
    observed = None
    if own:
        observed = rng.random((N + 9, own, *SHAPE[1:])) < 0.8
        observed[:, :, 0, 0] = True
    arrays = Arrays(rng.integers(0, 256, (N + 9, *SHAPE), dtype=np.uint8), rng.integers(0, 3, N + 9), observed)
    # every image but some: positions in the stored split are not those in the set
    index = np.sort(rng.permutation(N + 9)[:N])
    return IncompleteImages(arrays, scheme, seed=1, split="train", index=index, **options)


def fitted(imputer: KNN | Mean) -> Callable[[Tensor, Tensor], Tensor]:
    imputer.fit(random_images(30, SHAPE, seed=7).float(), random_mask(30, SHAPE, seed=8))
    return imputer.impute


def mixture(k: int, rank: int) -> Callable[[Tensor, Tensor], MFA]:
    """A density that is different for every image."""
    prior = random_mfa(1, k, rank, SHAPE, dtype=torch.float32)
    return lambda observed, mask: prior.condition(observed, mask)


ENCODERS: dict[str, Callable[[], Callable[[Tensor, Tensor], Encoding]]] = {
    "mean": lambda: fitted(Mean()),
    "knn": lambda: fitted(KNN(k=3)),
    "gaussian": lambda: mixture(1, 4),
    "mixture": lambda: mixture(3, 2),
    "diagonal": lambda: mixture(2, 0),
}


def said(images: IncompleteImages, encode: Callable[[Tensor, Tensor], Encoding]) -> list[Tensor]:
    """The encodings of all images, computed in the same chunks as in the cache."""
    answers = []
    for rows in torch.arange(len(images)).split(CHUNK):
        batch = images.batch(rows)
        answers.append(plain(encode(batch.observed, batch.mask)))
    return [torch.cat(tensors) for tensors in zip(*answers, strict=True)]


def plain(encoding: Encoding) -> list[Tensor]:
    if isinstance(encoding, MFA):
        return [encoding.logits, encoding.mean, encoding.factors, encoding.noise]
    assert isinstance(encoding, Tensor)
    return [encoding]


@pytest.mark.parametrize("frozen", ENCODERS)
@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("own", [0, 1, SHAPE[0]])
def test_reproduces_the_encodings(frozen, scheme, own):
    images, encode = data(SCHEMES[scheme], own), ENCODERS[frozen]()
    cache = EncodingCache(images, encode, 1e9, CHUNK)
    assert cache.filled
    wanted = said(images, encode)
    for rows in (torch.arange(N), torch.tensor([22, 3, 3, 0, 17])):
        for found, expected in zip(plain(cache(images.batch(rows))), wanted, strict=True):
            assert torch.equal(found, expected[rows])


def test_reproduces_it_for_images_on_the_host():
    images, encode = data(Square(), resident_bytes=0), mixture(2, 1)
    assert not images.resident
    cache = EncodingCache(images, encode, 1e9, CHUNK)
    for found, expected in zip(plain(cache(images.batch(torch.arange(N)))), said(images, encode), strict=True):
        assert torch.equal(found, expected)


@pytest.mark.parametrize("frozen", ENCODERS)
@pytest.mark.parametrize("scheme", ["square", "bernoulli, per channel"])
def test_the_limit_is_the_size(frozen, scheme):
    images, encode = data(SCHEMES[scheme]), ENCODERS[frozen]()
    cache = EncodingCache(images, encode, 1e9, CHUNK)
    size = sum(value.nbytes for value in vars(cache).values() if isinstance(value, Tensor))
    assert EncodingCache(images, encode, size, CHUNK).filled
    assert not EncodingCache(images, encode, size - 1, CHUNK).filled
    assert not EncodingCache(images, encode, 0, CHUNK).filled


def test_only_missing_pixels_are_stored():
    """A quarter of the area is missing: a quarter of the size, except for overhead."""
    whole, encode = N * (2 + 4) * 2 * 8 * 7 * 4, mixture(1, 4)
    cache = EncodingCache(data(Square()), encode, 1e9, CHUNK)
    size = sum(value.nbytes for value in vars(cache).values() if isinstance(value, Tensor))
    assert size < 0.35 * whole


def test_a_cache_over_its_limit_is_given_up_early():
    asked = []

    def encode(observed: Tensor, mask: Tensor) -> Tensor:
        asked.append(len(observed))
        return observed

    assert not EncodingCache(data(Square()), encode, 10, CHUNK).filled
    assert asked == [CHUNK]


def test_an_encoding_of_none_is_not_cached():
    assert not EncodingCache(data(Square()), lambda observed, mask: None, 1e9, CHUNK).filled


def test_the_size_of_the_chunks_is_irrelevant():
    images, encode = data(Noise(0.5)), mixture(2, 2)
    caches = [EncodingCache(images, encode, 1e9, size) for size in (1, CHUNK, 100)]
    first, *others = ([*plain(cache(images.batch(torch.arange(N))))] for cache in caches)
    for other in others:
        for a, b in zip(first, other, strict=True):
            torch.testing.assert_close(a, b)


@pytest.mark.parametrize("frozen", ENCODERS)
@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_file_gives_the_same_encodings_without_computing_them(frozen, scheme, tmp_path):
    images, file = data(SCHEMES[scheme]), tmp_path / "cache" / "x.safetensors"
    first = EncodingCache(images, ENCODERS[frozen](), 1e9, CHUNK, file)

    def asked(observed: Tensor, mask: Tensor) -> Tensor:
        raise AssertionError

    again = EncodingCache(images, asked, 1e9, CHUNK, file)
    assert again.filled and again.bytes == first.bytes
    batch = images.batch(torch.tensor([22, 3, 3, 0, 17]))
    for found, expected in zip(plain(again(batch)), plain(first(batch)), strict=True):
        assert torch.equal(found, expected)


def test_a_damaged_foreign_or_large_file_is_ignored(tmp_path):
    images, encode, file = data(Square()), mixture(2, 1), tmp_path / "x.safetensors"
    EncodingCache(images, encode, 1e9, CHUNK, file)
    whole = file.read_bytes()
    assert not EncodingCache(images, encode, 100, CHUNK, file).filled
    wanted = plain(encode(*(getattr(images.batch(torch.arange(CHUNK)), name) for name in ("observed", "mask"))))
    for damaged in (whole[:-9], b"", b"nonsense"):
        file.write_bytes(damaged)
        cache = EncodingCache(images, encode, 1e9, CHUNK, file)
        for found, expected in zip(plain(cache(images.batch(torch.arange(CHUNK)))), wanted, strict=True):
            assert torch.equal(found, expected)
        assert file.read_bytes() == whole
