"""A real Dagster in its own processes, driven over GraphQL, for the tests that need one."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from curation_assets.defs.state import folder_tags

CHECKOUT = Path(__file__).resolve().parents[2]
INSTANCE = """
concurrency:
  pools: {granularity: op, default_limit: 1}
  runs: {max_concurrent_runs: 2}
run_coordinator:
  module: dagster.core.run_coordinator
  class: QueuedRunCoordinator
  config: {dequeue_interval_seconds: 1}
run_monitoring: {enabled: true, poll_interval_seconds: 2, free_slots_after_run_end_seconds: 2}
telemetry: {enabled: false}
nux: {enabled: false}
"""


def environment(home: Path, images: Path, **settings: str) -> dict[str, str]:
    """Environment of a Dagster process whose state, tables and registry lie in ``home``."""
    home.mkdir(exist_ok=True)
    (home / "dagster.yaml").write_text(INSTANCE)
    chosen = {
        "IMAGES_ROOT": str(images),
        "LAKE_ROOT": str(home / "lake"),
        "MODEL_SOURCE": "demo",
        "SENSOR_INTERVAL_SECONDS": "10",
        "SETTLE_SECONDS": "1",
    } | settings
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return (
        os.environ
        | {"DAGSTER_HOME": str(home), "PATH": path, "PYTHONUNBUFFERED": "1"}
        | {f"CURATION_{k}": v for k, v in chosen.items()}
    )


def stop(process: subprocess.Popen[bytes]) -> None:
    """End a process and everything it started."""
    for signal_number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, signal_number)
            process.wait(20)
        except (ProcessLookupError, subprocess.TimeoutExpired):
            continue


def wait_for(what: str, condition: Callable[[], Any], seconds: float = 300, pause: float = 1) -> Any:
    """Ask until the answer is true, and return it."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if answer := condition():
            return answer
        time.sleep(pause)
    raise AssertionError(f"after {seconds:.0f} s still not: {what}")


class DagsterDev:
    """``dg dev``: webserver, daemon and code server."""

    def __init__(self, env: dict[str, str], log: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        command = ["dg", "dev", "--host", "127.0.0.1", "--port", str(self.port)]
        with log.open("wb") as out:
            self.process = subprocess.Popen(
                command, cwd=CHECKOUT, env=env, stdout=out, stderr=subprocess.STDOUT, start_new_session=True
            )
        wait_for("the code location is loaded", self._loaded)

    def ask(self, query: str, **variables: Any) -> Any:
        """Data of a GraphQL query."""
        body = json.dumps({"query": query, "variables": variables}).encode()
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/graphql", body, {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=30) as response:
            answer = json.load(response)
        assert "errors" not in answer, answer
        return answer["data"]

    def runs(self, **tags: str) -> list[dict[str, Any]]:
        """Runs with these tags of Dagster's: id, job, status, times and tags of each, newest first."""
        return self._tagged({f"dagster/{key}": value for key, value in tags.items()})

    def _tagged(self, tags: dict[str, str]) -> list[dict[str, Any]]:
        data = self.ask(
            "query($f: RunsFilter!) { runsOrError(filter: $f) { ... on Runs { results "
            "{ id jobName status creationTime startTime endTime tags { key value } } } } }",
            f={"tags": [{"key": key, "value": value} for key, value in tags.items()]},
        )
        found: list[dict[str, Any]] = data["runsOrError"]["results"]
        for run in found:
            run["tags"] = {tag["key"]: tag["value"] for tag in run["tags"]}
        return found

    def launch(self, asset: str, partition: str) -> str:
        """Materialize one partition of an asset; the run's id."""
        data = self.ask(
            "mutation($p: ExecutionParams!) { launchRun(executionParams: $p) "
            "{ __typename ... on LaunchRunSuccess { run { id } } } }",
            p={
                "selector": {
                    "repositoryLocationName": "curation_assets",
                    "repositoryName": "__repository__",
                    "pipelineName": "__ASSET_JOB",
                    "assetSelection": [{"path": [asset]}],
                },
                "executionMetadata": {"tags": [{"key": "dagster/partition", "value": partition}]},
                "mode": "default",
            },
        )["launchRun"]
        assert data["__typename"] == "LaunchRunSuccess", data
        run_id: str = data["run"]["id"]
        return run_id

    def backfill(self, assets: list[str], partitions: list[str]) -> str:
        """Materialize partitions of assets as the button "Materialize all" does; the backfill's id."""
        data = self.ask(
            "mutation($p: LaunchBackfillParams!) { launchPartitionBackfill(backfillParams: $p) "
            "{ __typename ... on LaunchBackfillSuccess { backfillId } } }",
            p={"assetSelection": [{"path": [asset]} for asset in assets], "partitionNames": partitions},
        )["launchPartitionBackfill"]
        assert data["__typename"] == "LaunchBackfillSuccess", data
        backfill_id: str = data["backfillId"]
        return backfill_id

    def backfill_status(self, backfill_id: str) -> str:
        """Status of a backfill."""
        query = (
            "query($id: String!) { partitionBackfillOrError(backfillId: $id) { ... on PartitionBackfill { status } } }"
        )
        return str(self.ask(query, id=backfill_id)["partitionBackfillOrError"]["status"])

    def runs_of(self, folder: str) -> list[dict[str, Any]]:
        """Runs that were asked for a folder, alone or with others, by the partition's key."""
        found = {run["id"]: run for run in self.runs(partition=folder) + self._tagged(folder_tags(folder))}
        return list(found.values())

    def status(self, run_id: str) -> str:
        """Status of a run."""
        data = self.ask("query($id: ID!) { runOrError(runId: $id) { ... on Run { status } } }", id=run_id)
        return str(data["runOrError"]["status"])

    def _loaded(self) -> bool:
        if self.process.poll() is not None:
            raise AssertionError(f"dg dev ended with {self.process.returncode}")
        try:
            data = self.ask("{ repositoriesOrError { ... on RepositoryConnection { nodes { name } } } }")
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            return False
        return bool(data["repositoriesOrError"].get("nodes"))
