"""Processes of tests: forks of a server that has imported torch and MLflow, which takes longer than what they do."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

FORKED = multiprocessing.get_context("forkserver")
FORKED.set_forkserver_preload(["curation_assets_tests.preload"])


def run_script(
    code: str, *arguments: str, env: Mapping[str, str] | None = None, cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a program, as ``python -c`` does, until its end.

    Args:
        env: all of its environment; by default this process's as it is now.
        cwd: its working directory; by default this process's.
    """
    with tempfile.TemporaryDirectory() as folder:
        said = Path(folder, "stdout"), Path(folder, "stderr")
        given = code, arguments, dict(env or os.environ), cwd or Path.cwd(), said
        process = FORKED.Process(target=_carry_out, args=given)
        process.start()
        process.join(300)
        if process.exitcode is None:
            process.kill()
            raise AssertionError(f"after 300 s it was still at work: {said[1].read_text()}")
        return subprocess.CompletedProcess(arguments, process.exitcode, *(path.read_text() for path in said))


class Begun:
    """A program at work, as ``python -c`` does it, in a session of its own; asked as a ``subprocess.Popen`` is."""

    def __init__(self, code: str, *arguments: str, env: Mapping[str, str], stderr: Path, cwd: Path | None = None):
        given = code, arguments, dict(env), cwd or Path.cwd(), (Path(os.devnull), stderr)
        self._process = FORKED.Process(target=_in_own_session, args=given)
        self._process.start()

    @property
    def pid(self) -> int:
        """Of the process."""
        assert self._process.pid is not None
        return self._process.pid

    def poll(self) -> int | None:
        """Its exit code; None while it is at work."""
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        """Its exit code."""
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired("a forked program", timeout or 0)
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        """Send it a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """End it at once."""
        self._process.kill()


def _in_own_session(*given: Any) -> None:
    os.setsid()
    _carry_out(*given)


def _carry_out(code: str, arguments: tuple[str, ...], env: dict[str, str], cwd: Path, said: tuple[Path, Path]) -> None:
    for number, path in enumerate(said, 1):
        with path.open("wb") as out:
            os.dup2(out.fileno(), number)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    sys.argv = ["-c", *arguments]
    exec(compile(code, "<script>", "exec"), {"__name__": "__main__"})
