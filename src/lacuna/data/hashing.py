"""Random choices as pure functions of a key: no generator, no state, no dependence on the order of calls.

A key (strings and integers) is hashed with SHA-256; a position is mixed with it by SplitMix64 (Steele, Lea and
Flood, OOPSLA 2014). The result is the same on every machine and with every library version.
"""

from __future__ import annotations

import hashlib

import numpy as np

GOLDEN = 0x9E3779B97F4A7C15
MIX_1 = 0xBF58476D1CE4E5B9
MIX_2 = 0x94D049BB133111EB


def key(*parts: str | int) -> int:
    """A signed 64-bit hash of ``parts``; ("a", 1) and ("a1",) give different hashes."""
    text = "\x1f".join(f"{type(part).__name__}:{part}" for part in parts)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little", signed=True)


def hashes(positions: np.ndarray, *parts: str | int) -> np.ndarray:
    """One uniform uint64 for every position (int array, any shape), given the key ``parts``."""
    with np.errstate(over="ignore"):
        x = positions.astype(np.uint64) * np.uint64(GOLDEN) + np.uint64(key(*parts) % 2**64)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(MIX_1)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(MIX_2)
    mixed: np.ndarray = x ^ (x >> np.uint64(31))
    return mixed


def permutation(n: int, *parts: str | int) -> np.ndarray:
    """A permutation of 0..n-1 (int64) that depends only on ``n`` and the key ``parts``."""
    return np.argsort(hashes(np.arange(n), *parts), kind="stable").astype(np.int64)
