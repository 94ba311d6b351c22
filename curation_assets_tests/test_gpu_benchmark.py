"""The benchmark for the hour there is a GPU runs through, here on the CPU with a tiny model."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest

from benchmarks import gpu


def test_every_section_runs_dry_and_is_written_as_it_comes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    target = tmp_path / "gpu.md"
    report = gpu.Report(target)
    really_add = gpu.Report.add

    def add(self: gpu.Report, *lines: str) -> None:
        really_add(self, *lines)
        seen.append(len(target.read_text()))

    monkeypatch.setattr(gpu.Report, "add", add)
    gpu.run(report, tmp_path / "home", dry=True, minutes=5)
    text = target.read_text()
    assert seen == sorted(seen)
    assert len(seen) > 20, "line by line"
    assert "failed" not in text
    assert "no time was left" not in text
    for title in gpu.SECTIONS:
        assert f"## {title}" in text
    cosines = [float(found) for found in re.findall(r"^\| (?:float32|bfloat16) \| ([0-9.]+) \|", text, re.M)]
    assert len(cosines) == 2
    assert min(cosines) >= gpu.AGREEMENT
    assert "**below" not in text


def test_when_the_time_is_over_the_rest_is_named_as_not_measured(tmp_path: Path) -> None:
    report = gpu.Report(None)
    started = time.monotonic()
    gpu.run(report, tmp_path / "home", dry=True, minutes=0)
    assert report.lines.count("not measured: no time was left") == len(gpu.SECTIONS)
    assert time.monotonic() - started < 60
