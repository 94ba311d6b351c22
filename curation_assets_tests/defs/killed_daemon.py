"""Dagster's daemon, ended by SIGKILL at a chosen point inside a sensor tick. Run as a script by test_daemon_kill."""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

from dagster import DagsterInstance
from dagster._daemon.cli import cli


def kill_after(method: str) -> None:
    """Let a method of the instance do its work once, then die as if the power went."""
    original = getattr(DagsterInstance, method)

    def deadly(self: Any, *args: Any, **kwargs: Any) -> Any:
        result = original(self, *args, **kwargs)
        if method != "add_dynamic_partitions" or args[0] == "image_folders":
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(DagsterInstance, method, deadly)


if __name__ == "__main__":
    if sys.argv[1] != "never":
        kill_after(sys.argv[1])
    cli(["run", "-m", "curation_assets.definitions"])
