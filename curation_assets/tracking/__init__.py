"""Versions of datasets in MLflow, so that a training run names the data that it used.

For trainings: ``dataset_of`` makes what ``mlflow.log_input`` takes of an export, ``versions_of`` reads it off a run.
"""

import mlflow.data  # noqa: F401  first: it looks up what is imported next, by the name that this package gives it

from curation_assets.tracking.sources import VersionDataset, VersionSource, dataset_of, versions_of

__all__ = ["VersionDataset", "VersionSource", "dataset_of", "versions_of"]
