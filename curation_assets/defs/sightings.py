"""Standing queries on Dagster's pages: which images count as new, and how what they hold is shown and told."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime

import dagster as dg
import polars as pl

from curation_assets.defs import metadata as md
from curation_assets.defs.running import Context
from curation_assets.defs.tags import DATA_VERSION
from curation_assets.images.contact_sheet import contact_sheet
from curation_assets.images.names import printable
from curation_assets.search.index import IndexInfo
from curation_assets.search.standing import Sighting

SIGHTING = "standing query"
_OBSERVATIONS = 100  # of one refresh: the first of a large tree would tell of every folder


def is_new(context: Context, asset: dg.AssetKey, info: IndexInfo) -> pl.Expr:
    """Which vectors came since the last materialization, whoever brought the index in line meanwhile."""
    event = context.instance.get_latest_materialization_event(asset)
    if event is None or event.asset_materialization is None:
        return pl.lit(True)
    tag = (event.asset_materialization.tags or {}).get(DATA_VERSION, "").split(".")
    if len(tag) == 4 and tag[0] == info.embeddings_id:
        if tag[3] != info.model_fingerprint:
            context.log.info("the vectors are new, the images are not: another model took over")
            return pl.lit(False)
        if info.built_at_version <= int(tag[1]):
            return pl.col("first_seen_version") > int(tag[1])
    # The index was built from nothing since, or the tables were: then only the time of embedding tells.
    return pl.col("embedded_at") > datetime.fromtimestamp(event.timestamp, UTC)


def worth_telling(context: Context, sightings: list[Sighting]) -> list[Sighting]:
    """Those that pass their threshold; of too many, of each query in turn."""
    of_query: dict[str, list[Sighting]] = {}
    for sighting in sightings:
        if sighting.passes:
            of_query.setdefault(sighting.text, []).append(sighting)
    in_turn = [one for turn in itertools.zip_longest(*of_query.values()) for one in turn if one is not None]
    if len(in_turn) > _OBSERVATIONS:
        context.log.warning("%d sightings; the first %d are observations", len(in_turn), _OBSERVATIONS)
    return in_turn[:_OBSERVATIONS]


def of_newest(sightings: list[Sighting]) -> list[Sighting]:
    """One of each query: of the folder that was embedded last."""
    return list({sighting.text: sighting for sighting in reversed(sightings)}.values())[::-1]


def observation(asset: dg.AssetKey, sighting: Sighting, previews: dict[str, bytes]) -> dg.AssetObservation:
    """What Dagster is told of a sighting."""
    folder = printable(sighting.folder)
    return dg.AssetObservation(
        asset_key=asset,
        description=f"{SIGHTING} {sighting.text!r}: {sighting.score:.3f} in {folder}, threshold {sighting.threshold:g}",
        metadata={
            SIGHTING: sighting.text,
            "image folder": folder,
            "score": sighting.score,
            "threshold": float(sighting.threshold or 0),
            "best image": printable(sighting.rows["relative_path"][0]),
            **_sheet("images", sighting, previews),
        },
    )


def contact_sheets(sightings: list[Sighting], previews: dict[str, bytes]) -> dict[str, dg.MetadataValue]:
    """A sheet of each query, for the asset's page."""
    found: dict[str, dg.MetadataValue] = {}
    for sighting in of_newest(sightings):
        found |= _sheet(f"{SIGHTING}: {sighting.text}", sighting, previews)
    return found


def _sheet(name: str, sighting: Sighting, previews: dict[str, bytes]) -> dict[str, dg.MetadataValue]:
    pictures = [previews[key] for key in sighting.rows["relative_path"] if key in previews]
    if not pictures:
        return {}
    scores = ", ".join(f"{score:.3f}" for score in sighting.rows["score"])
    place = md.escaped(printable(sighting.folder))
    said = f"best of {place}, cosines {scores}"
    return {name: md.picture(contact_sheet(pictures), f"{len(pictures)} images", "jpeg", said)}
