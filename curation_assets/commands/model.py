"""``curation model``: versions of the CLIP model in the registry."""

from __future__ import annotations

import typer

app = typer.Typer(help="Versions of the CLIP model: list, promote, roll back, verify.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    pass
