"""Dagster only: assets, checks, sensors, jobs, partitions, resources. The work itself is in ``pipeline`` and below."""
