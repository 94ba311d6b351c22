"""``image_pairs`` and ``image_groups``: the same photograph twice; counts over time, pictures, checks."""

import hashlib
import time
from collections.abc import Iterator, Mapping
from typing import Any

import dagster as dg

from curation_assets.curate.checks import LEAST_IMAGES
from curation_assets.curate.duplicates import checks, overview
from curation_assets.curate.duplicates.pictures import open_pictures
from curation_assets.curate.duplicates.verification import VERIFICATION_VERSION
from curation_assets.decisions.record import read_decisions
from curation_assets.defs import metadata as md
from curation_assets.defs.quality import image_quality
from curation_assets.defs.reports import AssetReport, Check, Event
from curation_assets.defs.resources import CurationResource
from curation_assets.defs.running import Context, failing_for_good, progress, trying_again
from curation_assets.defs.runs import data_version, latest_run, run_key_is_used
from curation_assets.defs.search import image_search_index
from curation_assets.defs.state import ATTEMPT, Attempt, Wait, next_attempt
from curation_assets.defs.tags import ONE_PROCESS, OWNERS
from curation_assets.errors import CurationError
from curation_assets.images.contact_sheet import contact_sheet
from curation_assets.images.names import printable
from curation_assets.lake.schemas import GROUPS, PAIRS
from curation_assets.pipeline import Pipeline
from curation_assets.search.index import read_info
from curation_assets.settings import Settings

PAIRS_NAME, GROUPS_NAME = "image_pairs", "image_groups"
AGREE, LIVE, AS_BEFORE = "members_agree", "keepers_live", "spare_as_before"
_IMAGES = "images"
_SHEETS, _TABLE_ROWS = 4, 20


@dg.asset(
    name=PAIRS_NAME,
    deps=[image_search_index],
    group_name="curation",
    owners=OWNERS,
    kinds={"python", "deltalake"},
    description="Pairs of contents that are the same photograph (re-encoded, resized, cropped, turned, mirrored, "
    "toned, framed, written on) or scene, brought together by hashes and the model's neighbours and verified on "
    "their pixels. What is new is compared with everything; nothing is compared twice.",
    metadata={"dagster/column_schema": md.column_schema(PAIRS)},
)
def image_pairs(context: dg.AssetExecutionContext, curation: CurationResource) -> dg.MaterializeResult:  # type: ignore[type-arg]
    """Compare what is new with all."""
    with trying_again(context), failing_for_good():
        return compare_pairs(context, curation.pipeline()).result()


@dg.asset(
    name=GROUPS_NAME,
    deps=[image_pairs, image_quality],
    group_name="curation",
    owners=OWNERS,
    kinds={"python", "deltalake"},
    description="Images of the same bytes (exact), photograph (near) or scene (burst), in groups of which every two "
    "members are a pair, each with the image to keep and why (CURATION_KEEPER_ORDER); `curation duplicates` tells.",
    metadata={"dagster/column_schema": md.column_schema(GROUPS)},
    check_specs=[
        dg.AssetCheckSpec(
            AGREE, asset=GROUPS_NAME, description="Every two members of a near group meet the threshold."
        ),
        dg.AssetCheckSpec(
            LIVE, asset=GROUPS_NAME, blocking=True, description="Each group has one keeper, which is there."
        ),
        dg.AssetCheckSpec(AS_BEFORE, asset=GROUPS_NAME, description="No much larger share of the images is to spare."),
    ],
)
def image_groups(context: dg.AssetExecutionContext, curation: CurationResource) -> dg.MaterializeResult:  # type: ignore[type-arg]
    """Form the groups of the pairs and of what people decided."""
    with trying_again(context), failing_for_good():
        return form_groups(context, curation.pipeline()).result()


def compared(context: dg.OpExecutionContext, curation: CurationResource) -> Iterator[Event]:
    """Bring pairs and groups in line in a job of ops, and tell of them as the assets' own runs would."""
    pipeline = curation.pipeline()
    for work in (compare_pairs, form_groups):
        with failing_for_good():
            report = work(context, pipeline)
        yield from report.events(context.instance)


def compare_pairs(context: Context, pipeline: Pipeline) -> AssetReport:
    """Bring the pairs in line with the images."""
    state = duplicates_state(pipeline)
    done = pipeline.compare(progress(context))
    facts: dict[str, Any] = {
        "contents": done.contents,
        "pairs verified": done.verified,
        "near pairs found": done.found["near"],
        "burst pairs found": done.found["burst"],
        "represented by another": done.crowded,
        "pairs removed": done.removed,
        "not comparable": len(done.failed),
        "seconds": round(done.seconds, 3),
        **_table(pipeline.tables.pairs, pipeline.settings.full_name(pipeline.settings.pairs_table)),
    }
    return AssetReport(image_pairs.key, state, facts)


def form_groups(context: Context, pipeline: Pipeline) -> AssetReport:
    """Bring the groups in line with pairs, images and decisions."""
    state = duplicates_state(pipeline)
    done = pipeline.group(progress(context))
    rows = overview.group_table(pipeline.tables.groups)
    images = pipeline.tables.directory.latest().rows()
    counts = overview.counts(rows)
    facts: dict[str, Any] = {_IMAGES: images}
    facts |= {f"{kind} {what}": number for kind, of in counts.items() for what, number in of.items()}
    facts |= {"changed rows": done.changed, "seconds": round(done.seconds, 3)}
    facts |= _table(pipeline.tables.groups, pipeline.settings.full_name(pipeline.settings.groups_table))
    facts |= _pictures(pipeline, rows)
    return AssetReport(image_groups.key, state, facts, _checks(context.instance, pipeline, counts, images))


find_duplicates = dg.define_asset_job(
    "find_duplicates",
    selection=[image_pairs, image_groups],
    executor_def=ONE_PROCESS,
    description="Compare what is new with all images, then form the groups: what `curation curate` does of duplicates.",
)


def duplicates_state(pipeline: Pipeline) -> str:
    """32 hex digits of all that pairs and groups are made of: the same as long as comparing would change nothing."""
    tables, settings = pipeline.tables, pipeline.settings
    directory = tables.directory.latest()
    model = pipeline.selection.current() if tables.embeddings.exists() else None
    info = None if model is None else read_info(pipeline.searcher.location_of(model))
    index = None if info is None else (info.model_fingerprint, info.embeddings_id, info.embeddings_version)
    said = (
        directory.table_id,
        directory.version,
        index,
        tables.quality.newest_version(),
        tables.decisions.newest_version(),
        VERIFICATION_VERSION,
        str(pipeline.agreements),
        settings.keeper_order,
    )
    return hashlib.sha256(repr(said).encode()).hexdigest()[:32]


def build_duplicates_sensor(settings: Settings) -> dg.SensorDefinition:
    """The sensor of pairs and groups, with the interval of the settings. It compares states, as that of the index."""

    @dg.sensor(
        name="image_duplicates_sensor",
        job=find_duplicates,
        minimum_interval_seconds=settings.sensor_interval_seconds,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Starts a run of image_pairs and image_groups when images, search index, quality, decisions or "
        "thresholds are others than those that the last one was made of.",
    )
    def sensor(context: dg.SensorEvaluationContext, curation: CurationResource) -> dg.RunRequest | dg.SkipReason:
        pipeline = curation.pipeline()
        if not pipeline.tables.directory.exists():
            return dg.SkipReason("nothing is scanned yet")
        try:
            if why := _not_ready(pipeline):
                return dg.SkipReason(why)
            wanted = duplicates_state(pipeline)
        except CurationError as error:
            return dg.SkipReason(f"nothing requested: {error}")
        if all(data_version(context.instance, of) == wanted for of in (image_pairs.key, image_groups.key)):
            return dg.SkipReason("pairs and groups are in line")
        latest, now = latest_run(context.instance, find_duplicates.name), time.time()
        if latest is not None and not latest.finished:
            return dg.SkipReason(f"run {latest.run_id[:8]} is at it")
        found = next_attempt(GROUPS_NAME, wanted, latest, run_key_is_used(context.instance), now)
        if isinstance(found, Attempt):
            return dg.RunRequest(found.run_key, tags={ATTEMPT: str(found.number)} if found.number > 1 else {})
        return dg.SkipReason(f"asked for already; {Wait(GROUPS_NAME, found).told(now)}")

    return sensor


def _not_ready(pipeline: Pipeline) -> str | None:
    """Why to wait with comparing: with the index come the neighbours of the model."""
    tables = pipeline.tables
    if tables.embeddings.newest_version() < 1 or (model := pipeline.selection.current()) is None:
        return "nothing is embedded yet"
    info = read_info(pipeline.searcher.location_of(model))
    if info is None or info.directory_version != tables.directory.latest().version:
        return "the search index is not in line yet"
    return None


def _table(table: Any, name: str) -> dict[str, Any]:
    snapshot = table.latest()
    return {
        "dagster/uri": dg.MetadataValue.text(table.path.as_uri()),
        "dagster/table_name": name,
        "dagster/row_count": snapshot.rows(),
        "table version": snapshot.version,
    }


def _pictures(pipeline: Pipeline, rows: Any) -> dict[str, Any]:
    """Contact sheets of the largest near and burst groups, a row a group; and a table of them."""
    facts: dict[str, Any] = {}
    for kind in ("near", "burst"):
        groups = [group for group, _ in zip(overview.groups_of(rows, kind), range(_TABLE_ROWS), strict=False)]
        if not groups:
            continue
        shown = [group.images["relative_path"].head(md.THUMBNAILS).to_list() for group in groups[:_SHEETS]]
        pictures = pipeline.tables.pictures({path for paths in shown for path in paths})
        sheets = []
        for paths in shown:
            previews = [
                there[1] for path in paths if (there := pictures.get(path)) is not None and there[1] is not None
            ]
            if previews:
                said = f"keep {md.escaped(printable(paths[0]))}"
                sheets.append(str(md.picture(contact_sheet(previews), f"a {kind} group", "jpeg", said).value))
        facts[f"{kind} groups shown"] = dg.MetadataValue.md("\n\n".join(sheets))
        records = [
            dg.TableRecord(
                {"images": len(group.images), "keep": printable(group.keeper), "why": str(group.images["rule"][0])}
            )
            for group in groups
        ]
        schema = dg.TableSchema([dg.TableColumn(name, of) for name, of in _COLUMNS.items()])
        facts[f"largest {kind} groups"] = dg.MetadataValue.table(records, schema)
    return facts


_COLUMNS = {"images": "int", "keep": "string", "why": "string"}


def _checks(
    instance: dg.DagsterInstance, pipeline: Pipeline, counts: Mapping[str, Mapping[str, int]], images: int
) -> list[Check]:
    tables = pipeline.tables
    groups, directory = tables.groups.latest(), tables.directory.latest()
    same = read_decisions(tables.decisions).same_pairs()
    pictures = open_pictures(pipeline.settings.pictures_dir)
    event = instance.get_latest_materialization_event(dg.AssetKey(GROUPS_NAME))
    told = event.asset_materialization.metadata if event is not None and event.asset_materialization else {}
    before: dict[str, Any] = {name: fact.value for name, fact in told.items()}
    images_before = before.get(_IMAGES, 0)
    spare = checks.spare_as_before(
        {kind: of["spare"] / max(1, images) for kind, of in counts.items()},
        {kind: before[f"{kind} spare"] / images_before for kind in counts if f"{kind} spare" in before}
        if min(images, images_before) >= LEAST_IMAGES
        else {},
    )
    agree = checks.members_agree(groups, directory, pictures, pipeline.agreements, same)
    return [
        Check(AGREE, agree, blocking=False),
        Check(LIVE, checks.keepers_live(groups, directory)),
        Check(AS_BEFORE, spare, blocking=False),
    ]
