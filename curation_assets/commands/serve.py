"""``curation serve``: the registered model behind MLflow's scoring protocol."""

from __future__ import annotations

from typing import Annotated

import typer

from curation_assets.commands.options import LakeOption, pipeline_of, settings_of


def serve(
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="0 takes a free one.")] = 8000,
    host: Annotated[str, typer.Option("--host", help="Any but this machine itself needs a token.")] = "127.0.0.1",
    workers: Annotated[int, typer.Option("--workers", min=1, help="Processes; each loads the weights.")] = 1,
    version: Annotated[str | None, typer.Option("--model-version", help="Its number [the champion].")] = None,
    device: Annotated[str | None, typer.Option("--device", help="cpu, cuda, cuda:N [CURATION_DEVICE].")] = None,
    precision: Annotated[str | None, typer.Option("--precision", help="[CURATION_PRECISION].")] = None,
    access_log: Annotated[bool, typer.Option("--access-log/--no-access-log", help="A line a request.")] = True,
    lake: LakeOption = None,
) -> None:
    """Answer images and texts with vectors over HTTP, as MLflow's own server does; see docs/serving.md."""
    settings = settings_of(None, lake, device=device, precision=precision)
    from curation_assets.serving.server import serve

    serve(
        pipeline_of(settings).registry,
        settings,
        host=host,
        port=port,
        workers=workers,
        version=version,
        access_log=access_log,
    )
