"""Samples of more than eight bits → the 0–255 of a picture.

Sensors put 10, 12 or 14 bits into 16, rasters hold temperatures or heights, and either may hold places without data:
so the scale goes by the values that are there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Share of the valid samples that may lie beyond either end of the scale: single hot or dead pixels don't set it.
TAIL = 0.005
_SAMPLED = 1_000_000
_BLOCK = 2**22  # samples scaled at a time
# What programs write where there is no value and no tag says so; beyond 1e30 lie the ends of the float formats.
_NO_DATA = (-9999.0, -99999.0, -10000.0, -32768.0, -32767.0)
_HUGE = 1e30


def to_bytes(
    samples: NDArray[Any], *, colour: bool, inverted: bool, nodata: float | None = None, bits: int | None = None
) -> NDArray[np.uint8]:
    """Scale samples to 0–255.

    Colour of whole numbers keeps its black and is divided by the fewest of 8, 10, 12, 14 or 16 bits that hold it;
    anything else is stretched from its 0.5th to its 99.5th percentile, all bands alike. Places without a value (NaN,
    infinite, ``nodata``, or a number that stands for none) don't count, and are white, as transparency is.

    Args:
        samples: (height, width, bands) integers or floats.
        colour: whether the bands are red, green and blue as a screen shows them.
        inverted: whether zero is white.
        nodata: the file's own number for no value.
        bits: of a sample, where its type has more.
    """
    rule = _Valid.of(samples, nodata)
    sampled = rule.values(_evenly(samples))
    if not len(sampled):  # next to no values: look at every one
        sampled = rule.values(samples)
    if not len(sampled):
        return np.full(samples.shape, 255, np.uint8)
    low, high = _range(sampled, colour, bits)
    made = np.empty(samples.shape, np.uint8)
    height = max(1, _BLOCK // samples[0].size)
    for top in range(0, len(samples), height):
        rows = slice(top, top + height)
        valid = rule(samples[rows])
        values = np.where(valid, samples[rows], low).astype(np.float32)
        scaled = (values - np.float32(low)) * np.float32(255 / (high - low))
        scaled = scaled.clip(0, 255)
        if inverted:
            scaled = 255 - scaled
        scaled[~valid.all(axis=2)] = 255
        made[rows] = scaled.astype(np.uint8)  # cut, not rounded, as Pillow's conversions do
    return made


@dataclass(frozen=True)
class _Valid:
    """Which samples are values: finite, and none of the numbers that stand for none."""

    numbers: tuple[float, ...]
    finite: bool

    @classmethod
    def of(cls, samples: NDArray[Any], nodata: float | None) -> _Valid:
        kind = samples.dtype.kind
        numbers = set(_NO_DATA) if kind in "if" else set()
        if nodata is not None:
            numbers.add(nodata)
        if kind == "u" and samples.dtype.itemsize > 1 and _full_is_none(_evenly(samples)):
            numbers.add(float(np.iinfo(samples.dtype).max))
        return cls(tuple(sorted(number for number in numbers if _fits(number, samples.dtype))), kind == "f")

    def __call__(self, samples: NDArray[Any]) -> NDArray[np.bool_]:
        valid = np.ones(samples.shape, np.bool_)
        if self.finite:
            valid = np.isfinite(samples) & (np.abs(samples) < _HUGE)
        for number in self.numbers:
            valid &= samples != samples.dtype.type(number)
        return np.asarray(valid)

    def values(self, samples: NDArray[Any]) -> NDArray[np.float64]:
        return np.asarray(samples[self(samples)], np.float64)


def _fits(number: float, dtype: np.dtype[Any]) -> bool:
    if dtype.kind == "f":
        return abs(number) <= float(np.finfo(dtype).max)
    limits = np.iinfo(dtype)
    return float(number).is_integer() and limits.min <= number <= limits.max


def _full_is_none(sampled: NDArray[Any]) -> bool:
    """Whether a type's largest number stands for no value: it is there, and all others are less than half of it."""
    most = np.iinfo(sampled.dtype).max
    full = np.asarray(sampled == most)
    return bool(full.any() and not full.all() and sampled[~full].max() < most // 2)


def _evenly(samples: NDArray[Any]) -> NDArray[Any]:
    """Some million of the samples, from all over the picture."""
    step = max(1, int(np.ceil(np.sqrt(samples.size / _SAMPLED))))
    return samples[::step, ::step]


def _range(sampled: NDArray[np.float64], colour: bool, bits: int | None) -> tuple[float, float]:
    low = np.quantile(sampled, TAIL, method="lower")
    high = np.quantile(sampled, 1 - TAIL, method="higher")
    if colour and bits is not None:
        held = next((b for b in (8, 10, 12, 14, 16) if high < 2**b), bits)
        return 0.0, float(2**held - 1)
    if low == high:
        low, high = sampled.min(), sampled.max()
    if low == high:  # one value everywhere: of its type's range, where that has one
        return (0.0, float(2**bits - 1)) if bits is not None else (float(low), float(low) + 1)
    return float(low), float(high)
