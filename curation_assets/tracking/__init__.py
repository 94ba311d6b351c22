"""Versions of datasets in MLflow, so that a training run names the data that it used.

For trainings: ``dataset_of`` makes what ``mlflow.log_input`` takes of an export, ``versions_of`` reads it off a run.
"""

from curation_assets.tracking.sources import VersionDataset, VersionSource, dataset_of, versions_of

__all__ = ["VersionDataset", "VersionSource", "dataset_of", "versions_of"]
