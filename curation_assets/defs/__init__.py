"""Dagster only: assets, checks, sensors, jobs, partitions, resources. The work itself is in ``pipeline`` and below.

``images``, ``model``, ``embeddings``, ``search``, ``quality``, ``ingest``, ``zero_shot_labels``: a subject each, with
assets, jobs and sensors. ``following`` is what assets by folder that follow by state have in common. ``state`` decides
for sensors, from values alone. The others are what several subjects share.

Modules that define assets or sensors don't postpone annotations: Dagster reads them when it decorates.
"""

import warnings

import dagster as dg

# Backfill policies are beta and partitioned checks a preview in Dagster 1.13, whose exact version `constraints.txt`
# pins: no news to whoever runs this.
for _category in (dg.BetaWarning, dg.PreviewWarning):
    warnings.filterwarnings("ignore", category=_category)
