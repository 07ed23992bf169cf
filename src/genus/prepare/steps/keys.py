"""Numbers that stand for pieces of text: 64-bit hashes, and finding which of them occur more than once."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np

_FACTOR, _OTHER = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xC2B2AE3D27D4EB4F)
_LONG = 512


def mix(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """One 64-bit hash of two: uint64. Not symmetric."""
    value = b * _OTHER
    value ^= a
    value *= _FACTOR
    value ^= value >> np.uint64(32)
    value *= _OTHER
    value ^= value >> np.uint64(29)
    return value


def hashes(data: np.ndarray, start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """64-bit hashes of ranges of bytes: uint64, the same in every process and on every machine."""
    size = end - start
    padded = np.concatenate([data, np.zeros(8, dtype=np.uint8)])
    eights: Any = np.ndarray((len(data) + 1,), dtype="<u8", buffer=padded, strides=(1,))  # eight bytes from each place on
    masks = np.array([2 ** (8 * n) - 1 for n in range(8)] + [2**64 - 1], dtype=np.uint64)
    result = mix(size.astype(np.uint64), eights[start] & masks[np.minimum(size, 8)])
    todo = np.flatnonzero((size > 8) & (size <= _LONG))
    at, left = start[todo] + 8, size[todo] - 8
    while len(todo):
        result[todo] = mix(result[todo], eights[at] & masks[np.minimum(left, 8)])
        more = np.flatnonzero(left > 8)
        todo, at, left = todo[more], at[more] + 8, left[more] - 8
    for i in np.flatnonzero(size > _LONG).tolist():
        digest = hashlib.blake2b(data[start[i] : end[i]].data, digest_size=8).digest()
        result[i] = int.from_bytes(digest, "little")
    return result


def alike(keys: np.ndarray, at: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Those of `at` (in order) whose key another has too, like beside like and in order; and which is the first of its like.

    Sorts numbers that hold the upper bits of a key and its place, which is several times as fast as sorting places by keys.
    """
    some = np.flatnonzero(at_most(keys) > 1)
    keys, at = keys[some], at[some]
    bits = np.uint64(len(keys).bit_length())
    packed = np.sort((keys >> bits) << bits | np.arange(len(keys), dtype=np.uint64))
    order = (packed & ((np.uint64(1) << bits) - np.uint64(1))).astype(np.int64)
    keys, at = keys[order], at[order]
    same = keys[1:] == keys[:-1]
    follows, followed = np.append(False, same)[: len(keys)], np.append(same, False)[: len(keys)]
    repeated = follows | followed
    return at[repeated], ~follows[repeated]


def at_most(keys: np.ndarray) -> np.ndarray:
    """How often each key occurs, or, seldom, more: counts of their lowest bits. (keys,) int64."""
    bits = len(keys).bit_length() + 2
    slot = (keys & np.uint64((1 << bits) - 1)).astype(np.int64)
    return np.bincount(slot, minlength=1 << bits)[slot]


_MASKS = np.array([0xFF] * 12 + [0xFFFF] * 2 + [0xFFFFFF, 0xFFFFFFFF], dtype=np.uint32)


def characters(data: np.ndarray, at: np.ndarray) -> np.ndarray:
    """A number for the character that begins at each place, the same for the same character: uint64."""
    padded = np.concatenate([data, np.zeros(4, dtype=np.uint8)])
    fours: Any = np.ndarray((len(data) + 1,), dtype="<u4", buffer=padded, strides=(1,))
    return np.asarray((fours[at] & _MASKS[data[at] >> 4]).astype(np.uint64))
