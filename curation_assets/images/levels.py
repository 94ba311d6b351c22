"""Samples of more than eight bits → the 0–255 of a picture.

Sensors put 10, 12 or 14 bits into 16, rasters hold temperatures or heights, and either may hold places without data:
so the scale goes by the values that are there.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

# Share of the valid samples that may lie beyond either end of the scale: single hot or dead pixels don't set it.
TAIL = 0.005
_SAMPLED = 1_000_000
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
    valid = _valid(samples, nodata)
    sampled = _sample(samples, valid)
    if not len(sampled):
        return np.full(samples.shape, 255, np.uint8)
    low, high = _range(sampled, colour, bits)
    scaled = (samples.astype(np.float32) - np.float32(low)) * np.float32(255 / (high - low))
    np.copyto(scaled, 0, where=~valid)
    scaled = scaled.clip(0, 255)
    if inverted:
        scaled = 255 - scaled
    scaled[~valid.all(axis=2)] = 255
    # Cut, not rounded, as Pillow's conversions do.
    return scaled.astype(np.uint8)


def _valid(samples: NDArray[Any], nodata: float | None) -> NDArray[np.bool_]:
    if samples.dtype.kind == "f":
        valid = np.isfinite(samples) & (np.abs(samples) < _HUGE)
    else:
        valid = np.ones(samples.shape, np.bool_)
    numbers = set(_NO_DATA) if samples.dtype.kind in "if" else set()
    if nodata is not None:
        numbers.add(nodata)
    for number in numbers:
        if _fits(number, samples.dtype):
            valid &= samples != samples.dtype.type(number)
    if samples.dtype.kind == "u" and samples.dtype.itemsize > 1:
        valid &= ~_full(samples)
    return np.asarray(valid)


def _fits(number: float, dtype: np.dtype[Any]) -> bool:
    if dtype.kind == "f":
        return True
    limits = np.iinfo(dtype)
    return float(number).is_integer() and limits.min <= number <= limits.max


def _full(samples: NDArray[Any]) -> NDArray[np.bool_]:
    """Where a whole number is its type's largest and all others are less than half: it stands for no value."""
    full = np.asarray(samples == np.iinfo(samples.dtype).max)
    if not full.any() or full.all() or samples[~full].max() >= np.iinfo(samples.dtype).max // 2:
        return np.zeros(samples.shape, np.bool_)
    return full


def _sample(samples: NDArray[Any], valid: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Valid samples, at most some million of them, evenly from all over the picture."""
    found = samples[valid]
    step = -(-found.size // _SAMPLED)
    return found[::step].astype(np.float64)


def _range(sampled: NDArray[np.float64], colour: bool, bits: int | None) -> tuple[float, float]:
    whole = bits is not None
    low, high = (
        np.quantile(sampled, TAIL, method="lower"),
        np.quantile(sampled, 1 - TAIL, method="higher"),
    )
    if colour and whole:
        held = next((b for b in (8, 10, 12, 14, 16) if high < 2**b), bits)
        return 0.0, float(2 ** max(held or 8, 8) - 1)
    if low == high:
        low, high = sampled.min(), sampled.max()
    if low == high:  # one value everywhere: of its type's range, where that has one
        return (0.0, float(2**bits - 1)) if whole and bits else (float(low), float(low) + 1)
    return float(low), float(high)
