"""Tags and limits that several definitions share, each with the reason why it exists."""

from __future__ import annotations

from typing import Any

import dagster as dg

from curation_assets.defs.executor import few_processes_executor, one_process_executor

OWNERS = ["team:curation"]

# Dagster's own: of runs, and of materializations.
RUN_KEY, PARTITION = "dagster/run_key", "dagster/partition"
DATA_VERSION, INPUT_VERSION = "dagster/data_version", "dagster/input_data_version/"

# Steps that want a GPU. The executor lets one such step of a run go at a time (the limit works within a run, on
# op_tags only); on Kubernetes the second tag asks the scheduler for a node that has one.
DEVICE_TAG = "curation/device"
GPU_OP_TAGS: dict[str, Any] = {
    DEVICE_TAG: "gpu",
    "dagster-k8s/config": {"container_config": {"resources": {"limits": {"nvidia.com/gpu": 1}}}},
}

# The same limit across runs: pools are counted by the instance (`dagster.yaml`, `dagster instance concurrency set`).
GPU_POOL = "gpu"

EXECUTOR = few_processes_executor.configured(
    {"tag_concurrency_limits": [{"key": DEVICE_TAG, "value": "gpu", "limit": 1}]}
)

# A lost connection or a full disk may pass; a wrong setting doesn't, and raises `Failure(allow_retries=False)`. Not a
# policy of the assets: `running.trying_again` applies it, and says why.
RETRIES = dg.RetryPolicy(max_retries=2, delay=5, backoff=dg.Backoff.EXPONENTIAL, jitter=dg.Jitter.PLUS_MINUS)

# The same for all assets of a folder, so that a backfill of several of them goes through each folder's in one run: one
# process start and one model load serve them all.
FOLDERS_A_BACKFILL_RUN = dg.BackfillPolicy.multi_run(25)

# Of a job whose steps could run at the same time, and need not: all in the run's own process, one after the other.
ONE_PROCESS = one_process_executor
