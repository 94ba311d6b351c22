"""How fast each materialization was: numbers among its metadata, and a picture of them over time.

A run that had nothing to read or encode records no speed, so that it doesn't pull the curve down to zero.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from io import BytesIO
from typing import Any

import dagster as dg

from curation_assets.defs import metadata as md
from curation_assets.defs.metadata import Facts
from curation_assets.embed.result import EmbedResult
from curation_assets.scan.result import ScanResult

SPEED, LIMIT_SHARE = "images per second", "share of the device's limit"
PICTURE = "speed over time"
_MATERIALIZATIONS = 200  # in the picture
_REDRAW_SECONDS = 10

Point = tuple[datetime, float, float | None]  # when, images a second, share of the device's limit


def scan_speed(result: ScanResult) -> Facts:
    """Seconds, bytes, images a second and where the time went."""
    facts: Facts = {"seconds": _number(result.seconds), "MB read": _number(result.bytes_read / 1e6)}
    if result.read:
        facts[SPEED] = _number(result.images_per_second)
        facts |= _shares(result.shares())
    return facts


def embed_speed(result: EmbedResult) -> Facts:
    """The same, and what part of the device's arithmetic the encoding used, where both are known.

    Where images were encoded, seconds are those that their speed counts; with planning and loading the model it was
    ``seconds in all``.
    """
    facts: Facts = {"seconds": _number(result.seconds), "MB read": _number(result.bytes / 1e6)}
    if result.encoded and result.computed:
        facts |= {
            SPEED: _number(result.images_per_second),
            "seconds": _number(result.encode_seconds),
            "seconds in all": _number(result.seconds),
            "devices": dg.MetadataValue.int(result.computed.devices),
            "GFLOP an image": _number(result.computed.flops / 1e9),
        }
        facts |= _shares(result.stages.shares())
        if result.mfu is not None:
            facts[LIMIT_SHARE] = _number(result.mfu)
    return facts


def over_time(instance: dg.DagsterInstance, asset: dg.AssetKey, now: Sequence[Facts]) -> Facts:
    """A picture of the speed of an asset's last materializations.

    Args:
        now: facts of those that this run is about to record.

    Returns:
        One entry of metadata; none before there are two speeds.
    """
    stored = instance.fetch_materializations(asset, limit=_MATERIALIZATIONS).records
    newest = {_identity(record): record for record in reversed(stored)}
    facts: list[tuple[datetime, Mapping[str, Any]]] = [
        (datetime.fromtimestamp(record.timestamp), _metadata(record)) for record in newest.values()
    ]
    facts += [(datetime.now(), current) for current in now]
    points = [point for when, of_it in facts if (point := _point(when, of_it)) is not None]
    if len(points) < 2:
        return {}
    return {PICTURE: md.picture(_picture(points), "images per second", "png")}


class SpeedPictures:
    """The pictures of one run. One that does folder after folder has each anew only every few seconds."""

    def __init__(self) -> None:
        self._drawn: dict[dg.AssetKey, tuple[float, Facts]] = {}

    def over_time(self, instance: dg.DagsterInstance, asset: dg.AssetKey, now: Sequence[Facts]) -> Facts:
        """As :func:`over_time`."""
        drawn_at, picture = self._drawn.get(asset, (-_REDRAW_SECONDS, {}))
        if time.monotonic() - drawn_at > _REDRAW_SECONDS:
            picture = over_time(instance, asset, now)
            if picture:
                self._drawn[asset] = time.monotonic(), picture
        return picture


def _identity(record: Any) -> tuple[str, str | int]:
    """The same for two events of one partition in one run, which a run of many partitions records."""
    partition = record.asset_materialization.partition if record.asset_materialization else None
    return record.run_id, record.storage_id if partition is None or not record.run_id else partition


def _metadata(record: Any) -> Mapping[str, Any]:
    materialization = record.asset_materialization
    return materialization.metadata if materialization else {}


def _point(when: datetime, facts: Mapping[str, Any]) -> Point | None:
    speed, share = (getattr(facts.get(name), "value", None) for name in (SPEED, LIMIT_SHARE))
    if not isinstance(speed, float) or speed <= 0:
        return None
    return when, speed, share if isinstance(share, float) else None


def _picture(points: Sequence[Point]) -> bytes:
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter, date2num
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 2.6), dpi=90, layout="constrained")
    axes = figure.add_subplot()
    days = [float(date2num(when)) for when, _, _ in points]
    axes.plot(days, [speed for _, speed, _ in points], "o-", markersize=3, linewidth=1, color="#2f6f3e")
    axes.set_ylabel("images per second")
    axes.set_ylim(0, 1.1 * max(speed for _, speed, _ in points))
    locator = AutoDateLocator(maxticks=7)
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))
    axes.grid(alpha=0.3)
    shares = [(day, share) for day, (_, _, share) in zip(days, points, strict=True) if share is not None]
    if shares:
        right = axes.twinx()
        right.plot(*zip(*shares, strict=True), "x--", markersize=3, linewidth=0.8, color="#a05a2c")
        right.set_ylabel("share of the limit", color="#a05a2c")
        right.set_ylim(0, 1)
    out = BytesIO()
    figure.savefig(out, format="png")
    return out.getvalue()


def _shares(shares: Mapping[str, float]) -> Facts:
    return {f"share of {stage}": _number(share) for stage, share in shares.items()}


def _number(value: float) -> dg.MetadataValue:
    return dg.MetadataValue.float(float(f"{value:.4g}") if abs(value) < 1000 else round(value, 1))
