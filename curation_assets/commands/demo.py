"""``curation demo``: sample photographs, the whole pipeline, and a text search to look at."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from curation_assets.commands.curate import (
    overview_facts,
    print_duplicate_counts,
    print_not_told,
    print_overview,
)
from curation_assets.commands.datasets import outcome_facts, print_outcome
from curation_assets.commands.ingest import run_shown
from curation_assets.commands.options import JsonOption
from curation_assets.commands.output import err, out, print_json
from curation_assets.commands.progress import stoppable
from curation_assets.commands.reports import print_run, run_facts
from curation_assets.images.names import printable

if TYPE_CHECKING:
    import polars as pl

    from curation_assets.settings import Settings

QUERIES = (
    "rust on a coffee leaf",
    "coffee leaf miner damage",
    "powdery mildew on a grape leaf",
    "holes eaten by caterpillars",
    "ripe oranges",
    "weeds between crop rows",
    "a golden wheat field",
    "rice in a flooded paddy",
)
HITS = 6


def demo(
    photographs: Annotated[
        int, typer.Option("--photographs", min=200, max=10_000, help="How many to draw, where there are none yet.")
    ] = 300,
    as_json: JsonOption = False,
) -> None:
    """Make sample photographs, run the whole pipeline on them with the embedded model, and search them by text."""
    from curation_assets.demo import annotated
    from curation_assets.demo.sample import write_sample
    from curation_assets.settings import load_settings, project_dir

    home = project_dir() / "demo_workspace"
    settings = load_settings(
        images_root=home / "images",
        lake_root=home / "lake",
        model_source="demo",
        annotations=annotated.sources(home / "splits.csv"),
        recipes=home / "recipes",
    )
    images = home / "images"
    with stoppable() as shown:
        made = write_sample(images, photographs, progress=shown)
        annotated.write_splits(images, home / "splits.csv")
    if made:
        err.print(f"wrote {made} sample files to {images}", markup=False)
    from curation_assets.curate.overview import as_decided, decided_of, overview
    from curation_assets.datasets.reading import read_recipe
    from curation_assets.pipeline import Pipeline
    from curation_assets.search.page import write_search_page

    # Never the user's own registry: the embedded model would become its champion.
    pipeline = Pipeline(settings, own_registry=True)
    summary = run_shown(pipeline)
    searcher = pipeline.searcher
    with stoppable() as shown:
        pipeline.refresh_map(shown)
    found = [(query, searcher.search(query, HITS).rows) for query in QUERIES]
    page = home / "search.html"
    keys = {key for _, rows in found for key in rows["relative_path"]}
    write_search_page(page, summary.chosen.model, found, searcher.previews(searcher.open(), keys))
    judged = pipeline.judged_rows()
    counts, decided, judged = overview(judged, pipeline.thresholds), decided_of(judged), as_decided(judged)
    # The sample holds broken files on purpose: finding them is success.
    with stoppable() as shown:
        outcome = pipeline.build_dataset(read_recipe(annotated.write_recipe(settings.recipes)), shown)
    if as_json:
        hits = [{"query": query, "hits": rows.select("relative_path", "score").to_dicts()} for query, rows in found]
        facts = {"contact_sheet": str(page), "search": hits, "problems": overview_facts(judged, counts, decided)}
        facts |= {"dataset": outcome_facts(outcome, dry_run=False)}
        print_json(run_facts(settings, summary) | facts)
        return
    print_run(settings, summary)
    _print_search(found)
    out.print("\nWhat is wrong with them:")
    print_overview(judged, counts, decided)
    print_not_told(pipeline)
    print_duplicate_counts(pipeline)
    out.print("\nA dataset of the coffee leaves:")
    print_outcome(outcome, dry_run=False)
    out.print(f"\nLook at  {page}", markup=False)
    _say_what_next(settings, found[0][1]["relative_path"][0])


def _print_search(found: list[tuple[str, pl.DataFrame]]) -> None:
    out.print("\nText search, the nearest photograph to each:")
    wide = max(len(query) for query, _ in found)
    for query, rows in found:
        best = rows.row(0, named=True)
        out.print(f"  {query:<{wide}}  {best['score']:.3f}  {printable(best['relative_path'])}", markup=False)


def _say_what_next(settings: Settings, file: str) -> None:
    curation, lake = os.path.relpath(sys.argv[0]), os.path.relpath(str(settings.lake_root))
    out.print(
        f"""
What next:
  make demo          again: takes seconds, as nothing has changed
  make gallery-demo  these photographs to look at, to search and on a map, in the browser
  make dev-demo      these photographs and tables in Dagster's UI
  {curation} search "weeds between crop rows" --lake {lake}
  {curation} problems --html problems.html --lake {lake}
  {curation} clusters --html clusters.html --lake {lake}
  {curation} dataset show leaves --csv leaves.csv --lake {lake}
  {curation} leakage --split-from annotations --html leaks.html --lake {lake}
  {curation} show {printable(file)} --lake {lake}
  {curation} run --images DIR    your own photographs; CURATION_MODEL_SOURCE chooses the model""",
        markup=False,
    )
