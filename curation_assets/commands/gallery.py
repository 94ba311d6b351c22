"""``curation gallery``: the lake's images in the browser."""

from __future__ import annotations

from typing import Annotated

import typer

from curation_assets.commands.options import ImagesOption, LakeOption, pipeline_of, settings_of
from curation_assets.commands.progress import quiet_libraries


def gallery(
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="0 takes a free one.")] = 8080,
    host: Annotated[str, typer.Option("--host", help="Any but this machine itself needs a token.")] = "127.0.0.1",
    open_page: Annotated[bool, typer.Option("--open", help="Show it in the browser.")] = False,
    images: ImagesOption = None,
    lake: LakeOption = None,
) -> None:
    """Look at the images in the browser: search, folders, map, and files of what was chosen; see docs/gallery.md."""
    settings = settings_of(images, lake)
    quiet_libraries()
    from curation_assets.gallery.server import serve

    serve(pipeline_of(settings), host=host, port=port, open_browser=open_page)
