"""``curation index`` and ``map``: what search and gallery read, brought in line by hand."""

from __future__ import annotations

from typing import Any

from curation_assets.commands.options import JsonOption, LakeOption, ModelOption, pipeline_of, settings_of
from curation_assets.commands.output import out, print_json
from curation_assets.commands.progress import stoppable
from curation_assets.commands.reports import index_facts, index_line


def index(model_version: ModelOption = None, lake: LakeOption = None, as_json: JsonOption = False) -> None:
    """Bring the search index in line with the tables, or build it; `curation run` does so at its end."""
    pipeline = pipeline_of(settings_of(None, lake))
    with stoppable() as shown:
        done = pipeline.searcher.refresh(shown, model_version)
    if as_json:
        print_json(index_facts(done))
        return
    info = done.index.info
    out.print(f"index  {index_line(done)}; a query takes {info.latency_ms:.1f} ms")
    out.print(f"covers version {info.embeddings_version} of the embeddings, {info.directory_version} of the images")
    out.print(f"lies in {done.index.path}", markup=False)


def image_map(lake: LakeOption = None, as_json: JsonOption = False) -> None:
    """Lay the images out on a map, for `curation gallery`; what is on it stays where it is."""
    pipeline = pipeline_of(settings_of(None, lake))
    with stoppable() as shown:
        _, done = pipeline.refresh_map(shown)
    facts: dict[str, Any] = {
        "images": done.info.images,
        "new": done.new,
        "laid_out": done.info.laid_out,
        "fresh_layout": done.fresh_layout,
        "seconds": done.seconds,
    }
    if as_json:
        print_json(facts)
        return
    how = "laid out anew" if done.fresh_layout else f"{done.new:,} new"
    out.print(f"map    {done.info.images:,} images, {how}, {done.seconds:.1f} s")
