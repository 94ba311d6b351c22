"""The command, run in this process."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from curation_assets import cli
from curation_assets.pipeline import Pipeline

Curation = Callable[..., tuple[int, str, str]]


@pytest.fixture
def curation(ready: Pipeline, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Curation:
    """Run the command in this process on the test's lake; gives exit code, standard output and standard error."""
    for name in ("images_root", "lake_root", "model_source"):
        monkeypatch.setenv(f"CURATION_{name.upper()}", str(getattr(ready.settings, name)))

    def call(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["curation", *arguments])
        capfd.readouterr()
        with pytest.raises(SystemExit) as end:
            cli.main()
        said = capfd.readouterr()
        return int(end.value.code or 0), said.out, said.err

    return call
