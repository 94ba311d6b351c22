"""Dagster only: assets, checks, sensors, jobs, partitions, resources. The work itself is in ``pipeline`` and below.

Modules that define assets or sensors don't postpone annotations: Dagster reads them when it decorates.
"""

import warnings

import dagster as dg

# Backfill policies are beta in Dagster 1.13, whose exact version `constraints.txt` pins: no news to who runs this.
warnings.filterwarnings("ignore", category=dg.BetaWarning)
