"""Every name, path and limit, once. Environment prefix ``CURATION_``; ``.env`` in the project folder is read too."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PlainSerializer,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from pydantic_settings import (
    BaseSettings,
    DotEnvSettingsSource,
    EnvSettingsSource,
    InitSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from curation_assets.errors import CurationError
from curation_assets.stores.address import UNMOUNTED, StoreAddress, is_address
from curation_assets.stores.notifications import QueueAddress
from curation_assets.stores.options import StorageOptions
from curation_assets.stores.volumes import VolumeAddress

if TYPE_CHECKING:
    from curation_assets.images.guard import DecodeOptions
    from curation_assets.images.walk import WalkRules
    from curation_assets.stores.mirror import Mirror

# What disks, operating systems and network storage put beside photographs; thumbnails are made of other files.
LEFT_OUT = (
    *("@eaDir", "@Recycle", "@Recently-Snapshot", "@__thumb", "@tmp", "#recycle", "#snapshot"),
    *("$RECYCLE.BIN", "RECYCLER", "System Volume Information", "FOUND.[0-9][0-9][0-9]", "lost+found"),
    *("Network Trash Folder", "__MACOSX", "thumbnails"),
)


def project_dir() -> Path:
    """Folder that relative paths start from: the checkout, or the working directory of an installed wheel."""
    checkout = Path(__file__).resolve().parent.parent
    return checkout if (checkout / "workspace.yaml").is_file() else Path.cwd()


def _local_path(path: Path) -> Path:
    if ":/" in str(path):
        raise ValueError(f"{path} looks like a URL; give a local or mounted folder (for example /Volumes/… or /dbfs/…)")
    return Path(os.path.abspath(project_dir() / _expanded(path)))


def _expanded(path: Path) -> Path:
    try:
        return path.expanduser()
    except RuntimeError:
        raise ValueError("there is no such user's home folder") from None


LocalPath = Annotated[Path, AfterValidator(_local_path)]


def _place(value: Any) -> Any:
    if isinstance(value, StoreAddress):
        return value
    if not is_address(str(value)):
        return _local_path(Path(value))
    address = StoreAddress.parse(str(value))
    if address.scheme == "memory":
        raise ValueError("memory:// ends with the process; give a folder or a bucket")
    return address


def _images_place(value: Any) -> Any:
    return VolumeAddress.parse(value) if isinstance(value, str) and value.startswith(UNMOUNTED) else _place(value)


def _events_place(value: Any) -> Any:
    if isinstance(value, QueueAddress):
        return value
    return QueueAddress.parse(value) if isinstance(value, str) and QueueAddress.is_meant(value) else _place(value)


_as_written = PlainSerializer(lambda place: place if isinstance(place, Path) else place.written)
# A local or mounted folder, or a prefix of a bucket.
Place = Annotated[Path | StoreAddress, NoDecode, BeforeValidator(_place), _as_written]
# The same, or a folder in a volume that is read without its mount.
ImagesPlace = Annotated[Path | StoreAddress, NoDecode, BeforeValidator(_images_place), _as_written]
# Of message files, or a queue.
EventsPlace = Annotated[Path | StoreAddress | QueueAddress, NoDecode, BeforeValidator(_events_place), _as_written]
Options = Annotated[
    StorageOptions,
    NoDecode,
    BeforeValidator(StorageOptions.parse),
    PlainSerializer(lambda options: dict(options.items)),
]


def _json_object(value: Any) -> Any:
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            raise ValueError('this is not JSON; write for example {"spark.executor.memory": "8g"}') from None
    if not isinstance(value, dict):
        raise ValueError('give a JSON object, for example {"spark.executor.memory": "8g"}')
    return {key: json.dumps(one) if isinstance(one, bool | int | float) else one for key, one in value.items()}


def _people(value: Any) -> Any:
    """Names and tokens; what is said of a wrong one holds no token."""
    wanted = 'give a JSON object of names and tokens, for example {"Ana": "a long secret"}'
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            raise ValueError(wanted) from None
    if not isinstance(value, dict):
        raise ValueError(wanted)
    tokens = [each.get_secret_value() if isinstance(each, SecretStr) else each for each in value.values()]
    for name, token in zip(value, tokens, strict=True):
        if not name.strip() or len(name) > 100:
            raise ValueError("a name has 1 to 100 characters")
        if not isinstance(token, str) or not token:
            raise ValueError(f"the token of {name!r} is no text; {wanted}")
    if len(set(tokens)) < len(tokens):
        raise ValueError("two people have the same token, so it would not say who decides")
    return {name.strip(): token for name, token in zip(value, tokens, strict=True)}


def _band_numbers(value: Any) -> Any:
    if isinstance(value, str):
        value = value.split(",") if value.strip() else None
    try:
        numbers = None if value is None else tuple(int(number) for number in value)
    except (TypeError, ValueError):
        numbers = ()
    if numbers is not None and (len(numbers) not in (1, 3) or not all(1 <= number <= 1000 for number in numbers)):
        raise ValueError("give one number or three, for red, green and blue, counted from 1, for example 4,1,2")
    return numbers


def _patterns(value: Any) -> Any:
    if isinstance(value, str):
        text = value.strip()
        value = _parsed(text) if text.startswith(("[", "{")) else None
        if value is None and not text.startswith(('["', "{")):  # a pattern may begin with [ too
            value = [one.strip() for one in text.split(",")]
    if isinstance(value, list | tuple) and all(isinstance(one, str) for one in value):
        return tuple(one for one in value if one.strip())
    raise ValueError('give patterns separated by commas, or as a JSON list, for example ["@eaDir", "*/rejected"]')


def _parsed(value: Any) -> Any:
    """What a text holds as JSON, None if that is none; anything else as it is."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except ValueError:
        return None


def _json_list(value: Any) -> Any:
    value = _parsed(value)
    if isinstance(value, list) and all(isinstance(one, str) and one.strip() for one in value):
        return value
    raise ValueError('give a JSON list of texts, for example ["a healthy leaf", "a leaf with rust"]')


def _standing_queries(value: Any) -> Any:
    value = _parsed(value)
    if isinstance(value, list):
        value = dict.fromkeys(value) if all(isinstance(one, str) for one in value) else None
    if isinstance(value, dict) and all(
        text.strip() and (bound is None or (isinstance(bound, int | float) and not isinstance(bound, bool)))
        for text, bound in value.items()
    ):
        return {text: None if bound is None else float(bound) for text, bound in value.items()}
    raise ValueError(
        'give a JSON object of texts and thresholds, for example {"rust on a leaf": 0.27, "weeds": null}, or a list of '
        "texts"
    )


TextList = Annotated[list[str], NoDecode, BeforeValidator(_json_list)]
StandingQueries = Annotated[dict[str, float | None], NoDecode, BeforeValidator(_standing_queries)]


def _limits(value: Any) -> Any:
    given = _parsed(value) if isinstance(value, str) else value
    if not isinstance(given, dict):
        raise ValueError('give a JSON object of kinds and numbers, for example {"blurry": 0.4, "dark": 0.25}')
    if given:
        from curation_assets.curate.problems import thresholds

        try:
            thresholds(given)
        except CurationError as error:
            raise ValueError(str(error)) from None
    return given


def _keeper_order(value: Any) -> Any:
    given = [part.strip() for part in value.split(",")] if isinstance(value, str) else list(value)
    from curation_assets.curate.duplicates.keepers import check_order

    try:
        return check_order([name for name in given if name])
    except CurationError as error:
        raise ValueError(str(error)) from None


def _annotation_sources(value: Any) -> Any:
    given = _parsed(value) if isinstance(value, str) else value
    if not isinstance(given, list | tuple):
        raise ValueError('give a JSON list, for example [{"from": "folders", "pattern": "{class}/*"}, "anna"]')
    if not given:
        return ()
    from curation_assets.annotations.sources import Source, make_source

    found = []
    for one in given:
        try:
            said = {"source": one} if isinstance(one, str) else one
            if not isinstance(said, Source | dict):
                raise CurationError("give an object, or the name of a source")
            source = said if isinstance(said, Source) else make_source(**said)
        except CurationError as error:
            raise ValueError(f"{one!r}: {error}") from None
        path = None if source.path is None else _local_path(source.path)
        found.append(source.model_copy(update={"path": path}))
    if doubled := sorted({s.name for s in found if [other.name for other in found].count(s.name) > 1}):
        raise ValueError(f'two sources are called {doubled[0]!r}; name them with "source"')
    return tuple(found)


AnnotationSources = Annotated[tuple[Any, ...], NoDecode, BeforeValidator(_annotation_sources)]
JsonObject = Annotated[dict[str, str], NoDecode, BeforeValidator(_json_object)]
Limits = Annotated[dict[str, float], NoDecode, BeforeValidator(_limits)]
People = Annotated[dict[str, SecretStr], NoDecode, BeforeValidator(_people)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]+$")]


class Settings(BaseSettings):
    """The project's configuration; ``docs/settings.md`` is made of the descriptions."""

    model_config = SettingsConfigDict(
        env_prefix="CURATION_",
        env_file=project_dir() / ".env",
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
        validate_default=True,
    )

    images_root: ImagesPlace = Field(
        Path("images"),
        description=(
            "tree of image folders: a folder, or `s3://bucket/prefix`, `gs://…`, `az://…`, `abfss://…`; of a Unity "
            "Catalog volume `/Volumes/catalog/schema/volume`, mounted or not; see [storage.md](storage.md)"
        ),
    )
    images_events: EventsPlace | None = Field(
        None,
        description=(
            "where notifications of the images' bucket come, by which the sensor looks at the folders they name in "
            "place of all: a folder or prefix of message files, or an SQS queue "
            "(`https://sqs.<region>.amazonaws.com/<account>/<name>`); see [storage.md](storage.md#notifications)"
        ),
    )
    storage_options: Options = Field(
        default_factory=StorageOptions,
        description=(
            "credentials and settings of object stores where the cloud's own environment doesn't give them: a JSON "
            'object, for example `{"aws_region": "eu-central-1"}`; its values are never shown; see '
            "[storage.md](storage.md)"
        ),
    )
    lake_root: Place = Field(
        Path("lake"),
        description="tables at `<LAKE_ROOT>/<catalog>/<schema>/<table>`: a folder, or an address as of the images",
    )
    catalog_name: Name = Field("autobricks", description="catalog, as in Unity Catalog")
    schema_name: Name = Field("agriculture", description="schema, as in Unity Catalog")
    directory_table: Name = Field("crop_images_directory", description="table of image files")
    embeddings_table: Name = Field("crop_images_directory_embeddings", description="table of vectors")
    model_name: Name = Field("clip_embedding", description="the model is registered as `catalog.schema.model`")
    model_source: str = Field(
        "openai/clip-vit-large-patch14",
        min_length=1,
        description="hub id, local folder in Hugging Face layout, or `demo`",
    )
    endpoint_name: Name = Field(
        "clip-embedding", description="Databricks serving endpoint of the asset `clip_endpoint`"
    )
    endpoint_workload_size: Literal["Small", "Medium", "Large"] = Field(
        "Small", description="how many requests at once the endpoint is made for"
    )
    endpoint_workload_type: Literal["CPU", "GPU_SMALL", "GPU_MEDIUM", "GPU_LARGE"] = Field(
        "CPU", description="the endpoint's machine"
    )
    endpoint_scale_to_zero: bool = Field(True, description="whether an idle endpoint stops, and starts slowly")
    endpoint_timeout_minutes: float = Field(60.0, gt=0, description="how long `clip_endpoint` waits for the endpoint")
    folder_depth: Literal["deepest"] | Annotated[int, Field(ge=1)] = Field(
        "deepest",
        description=(
            "`deepest`: every folder that holds images is a partition; `1`: each top-level folder with "
            "all below it; and so on. After a change, run once without `--folders`"
        ),
    )
    leave_out: Annotated[tuple[str, ...], NoDecode, BeforeValidator(_patterns)] = Field(
        LEFT_OUT,
        description=(
            "folders not looked into: patterns of names as in a shell, whatever the case, or of paths below the root "
            "where they have a `/`; separated by commas or as a JSON list (in quotes in `.env`, as `#` begins a "
            "comment there); empty leaves out none"
        ),
    )
    follow_links: bool = Field(
        False,
        description=(
            "`true`: links to folders out of the root are walked under the link's name, each folder once, and links to "
            "files out of the root are taken"
        ),
    )
    store_images: bool = Field(
        True,
        description=(
            "`false` leaves `image_base64` null and embeds from `file_path`; for files read from then on, "
            "`--rescan` for all"
        ),
    )
    engine: Literal["local", "spark"] = Field(
        "local",
        description="where images are read and embedded: `local`, this machine; `spark`, see [spark.md](spark.md)",
    )
    spark_master: str = Field(
        "local[*,4]",
        pattern=r"^(local(\[[^\]]+\])?|yarn|(spark|k8s)://.+)$",
        description="Spark's master; the 4 is how often a task is tried",
    )
    spark_conf: JsonObject = Field(default_factory=dict, description="more of Spark's configuration, as a JSON object")
    spark_gpus_per_task: float = Field(
        0,
        ge=0,
        description=("sets `spark.task.resource.gpu.amount`; a fraction shares a GPU between tasks, 0 asks for none"),
    )
    spark_scan_files: int = Field(
        10_000,
        ge=0,
        description="files to read or measure in a folder, or images to compare, from which on Spark does that too",
    )
    spark_read_by_name: bool = Field(
        False, description="`true`: Spark reads the directory table by its name in the catalog, not by its files"
    )
    device: str = Field(
        "auto",
        pattern=r"^(auto|cpu|cuda(:\d+)?)$",
        description=(
            "`cpu`, `cuda` (every visible GPU at once), `cuda:N` (that one); `auto` takes CUDA where there is one"
        ),
    )
    precision: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto", description="of the forward pass; `auto` takes bfloat16 where the device computes in it"
    )
    batch_size: Literal["auto"] | Annotated[int, Field(ge=1)] = Field(
        "auto",
        description=(
            "images per forward pass; `auto`: 8 a core on a CPU, 256 on CUDA; halved where memory is too small"
        ),
    )
    threads: Literal["auto"] | Annotated[int, Field(ge=1)] = Field(
        "auto",
        description=(
            "threads that read and decode, and on a CPU also encode; `auto`: one for every core this process may use"
        ),
    )
    max_pixels: int = Field(200_000_000, ge=1, description="larger images are rows with status `too_large`")
    max_file_bytes: int = Field(268_435_456, ge=1, description="larger files are rows with status `too_large`")
    bands: Annotated[tuple[int, ...] | None, NoDecode, BeforeValidator(_band_numbers)] = Field(
        None,
        description=(
            "bands that make the picture of a TIFF of four or more, from 1, as in `4,1,2`, or one of them; unset: "
            "those it calls red, green and blue, else the usual ones for their number"
        ),
    )
    decode_seconds: float = Field(
        60.0, gt=0, le=86_400, description="a picture whose decoding takes longer is a row with status `unreadable`"
    )
    bad_file_limit: float = Field(
        0.05, ge=0, le=1, description="share of bad files a folder may have before the check warns"
    )
    reviewed_precision: float = Field(
        0.8,
        ge=0,
        le=1,
        description=(
            "share of a kind of problem's images that has to have it, where that was measured, before the check warns"
        ),
    )
    serve_token: SecretStr | None = Field(
        None,
        min_length=1,
        description="that clients of `curation serve` have to send; needed to listen beyond this machine",
    )
    serve_max_body_bytes: int = Field(33_554_432, ge=1, description="bytes of a request to `curation serve`")
    serve_max_rows: int = Field(1024, ge=1, description="rows of a request to `curation serve`")
    serve_max_pixels: int = Field(50_000_000, ge=1, description="pixels of an image sent to `curation serve`")
    serve_max_requests: int = Field(128, ge=1, description="requests that `curation serve` works at at once")
    serve_max_queue: int = Field(2048, ge=1, description="rows that `curation serve` works at at once")
    serve_timeout_seconds: float = Field(60.0, gt=0, description="that a request to `curation serve` may take")
    index_root: Place | None = Field(
        None,
        description=(
            "where search indexes and the map lie, which can be made anew from the tables: a folder, or an address as "
            "of the images; unset: `<LAKE_ROOT>_index`"
        ),
    )
    mlflow_root: LocalPath | None = Field(
        None,
        description=(
            "folder of MLflow's SQLite file and artifacts, where `MLFLOW_TRACKING_URI` names no other place; unset: "
            "`mlflow` beside the lake, and of a lake in a store `mlflow` in the project"
        ),
    )
    artifacts_root: Place | None = Field(
        None,
        description=(
            "where MLflow puts the files of models and versions: a folder, `s3://…` (MLflow needs boto3 for it) or "
            "`gs://…` (google-cloud-storage); unset: `artifacts` beside its SQLite file, or what a tracking server says"
        ),
    )
    cache_root: LocalPath = Field(
        Path("~/.cache/curation_assets"),
        description="folder of this machine for copies of search indexes that lie in a store",
    )
    cache_bytes: int = Field(
        50_000_000_000, ge=0, description="of such copies: of more, those that were not used for longest are deleted"
    )
    search_exact_vectors: int = Field(
        200_000, ge=0, description="of more vectors than this an approximate index is made beside the exact search"
    )
    standing_queries: StandingQueries = Field(
        default_factory=dict,
        description=(
            "texts that `image_search_index` looks for in what is new, with the score from which on it "
            "records an observation: "
            '`{"rust on a leaf": 0.27, "weeds": null}`'
        ),
    )
    labels: TextList = Field(
        default_factory=list,
        description=(
            "texts that the asset `image_labels` chooses between, as a JSON list; none: there is no such asset"
        ),
    )
    quality_table: Name = Field(
        "crop_images_directory_quality", description="table of how sharp, bright and colourful each image is"
    )
    pairs_table: Name = Field(
        "crop_images_directory_pairs", description="table of contents that are the same photograph or scene"
    )
    compared_table: Name = Field(
        "crop_images_directory_compared", description="table of contents that were compared with all others"
    )
    groups_table: Name = Field(
        "crop_images_directory_groups", description="table of groups of the same bytes, photograph or scene"
    )
    near_agreement: float = Field(
        0.9,
        gt=0.5,
        le=1,
        description=(
            "of the pixels after alignment, from which on two are the same photograph; 0.03 less where both show the "
            "same frame; see [curation.md](curation.md)"
        ),
    )
    burst_agreement: float = Field(
        0.76,
        gt=0.5,
        le=1,
        description=(
            "the same from which on two are one scene, where the same camera took them within 60 s; where only their "
            "numbers are at most 3 apart, halfway to the next setting"
        ),
    )
    burst_agreement_alone: float = Field(
        0.88, gt=0.5, le=1, description="the same where neither time nor number says so; 1: never"
    )
    burst_likeness: float = Field(
        1,
        gt=0,
        le=1,
        description=(
            "cosine of the model's vectors from which on two with such a witness are one scene whatever their pixels "
            "say; 1: never, as what it means differs from model to model"
        ),
    )
    keeper_order: Annotated[tuple[str, ...], NoDecode, BeforeValidator(_keeper_order)] = Field(
        ("decided", "annotated", "pixels", "compression", "sharpness", "earliest", "path"),
        description=(
            "what decides which image of a group to keep, the first that differs: a person's word, more pixels, less "
            "compression, sharper, earlier, path; separated by commas"
        ),
    )
    annotations_table: Name = Field(
        "crop_images_directory_annotations", description="table of what sources say is on images"
    )
    annotations: AnnotationSources = Field(
        default=(),
        description=(
            "sources of annotations that are followed, in the order in which they count: a JSON list of objects, for "
            'example `[{"source": "anna", "from": "csv", "path": "labels.csv"}, {"from": "folders", "pattern": '
            '"{class}/*"}]`; a name alone gives a source that was imported by hand its place; see '
            "[annotations.md](annotations.md)"
        ),
    )
    decisions_table: Name = Field("crop_images_directory_decisions", description="table of what people said of images")
    samples_table: Name = Field(
        "crop_images_directory_samples", description="table of images that were drawn to measure a kind of problem"
    )
    cluster_names_table: Name = Field(
        "crop_images_directory_cluster_names", description="table of names that people gave clusters"
    )
    labels_table: Name = Field("crop_images_directory_labels", description="table of zero-shot labels")
    scores_table: Name = Field(
        "crop_images_directory_scores", description="table of outlier scores and clusters of each image"
    )
    predictions_table: Name = Field(
        "crop_images_directory_predictions",
        description="table of what classifiers fitted to the annotations say of each image",
    )
    label_issues_table: Name = Field(
        "crop_images_directory_label_issues", description="table of labels and boxes that something speaks against"
    )
    datasets_table: Name = Field("crop_images_directory_datasets", description="table of the versions of datasets")
    exports_table: Name = Field("crop_images_directory_exports", description="table of what was exported, and where to")
    recipes: LocalPath = Field(Path("recipes"), description="folder of the recipes of datasets")
    clusters: int | None = Field(
        None, ge=1, le=1000, description="how many clusters the images are put in; by default by the number of images"
    )
    problem_thresholds: Limits = Field(
        default_factory=dict,
        description=(
            "from which score on an image has a problem, where not by default: a JSON object of kinds and numbers, for "
            'example `{"blurry": 0.4}`; see [curation.md](curation.md)'
        ),
    )
    gallery_token: SecretStr | None = Field(
        None, min_length=1, description="that visitors of `curation gallery` give; needed to listen beyond this machine"
    )
    gallery_tokens: People = Field(
        default_factory=dict,
        description=(
            "tokens of people, each of which says who decides: a JSON object of names and tokens, for example "
            '`{"Ana": "a long secret"}`; besides `CURATION_GALLERY_TOKEN` or without'
        ),
    )
    gallery_dagster_url: str = Field(
        "", description="address of Dagster's UI, for links from an image to its partition"
    )
    gallery_max_upload_bytes: int = Field(33_554_432, ge=1, description="bytes of an image given to `curation gallery`")
    gallery_max_pixels: int = Field(50_000_000, ge=1, description="pixels of an image given to `curation gallery`")
    sensor_interval_seconds: int = Field(30, ge=1, description="pause between two looks of the sensors")
    full_look_seconds: float = Field(
        3600.0, ge=0, description="pause between two looks at all folders where `CURATION_IMAGES_EVENTS` is set"
    )
    settle_seconds: float = Field(10.0, ge=0, description="a folder untouched for this long counts as complete")
    settle_limit_seconds: float = Field(
        600.0, ge=0, description="a folder that is written to for longer than this is asked for all the same"
    )
    sensor_max_runs: int = Field(50, ge=1, description="runs that `new_images_sensor` may ask for in one tick")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """An empty variable counts as not set, but for the patterns: there it means none."""
        emptied: dict[str, Any] = {}
        for source in (EnvSettingsSource, DotEnvSettingsSource):  # the first that has it decides
            said = source(settings_cls, env_ignore_empty=False).env_vars.get("curation_leave_out")
            if said is not None:
                emptied = {} if said else {"leave_out": ()}
                break
        given = InitSettingsSource(settings_cls, emptied)
        return init_settings, given, env_settings, dotenv_settings, file_secret_settings

    @field_validator("model_source")
    @classmethod
    def _model_source(cls, value: str) -> str:
        """A folder is named relative to the project; anything that isn't one is `demo` or a hub id."""
        folder = project_dir() / _expanded(Path(value))
        return str(folder) if value != "demo" and folder.is_dir() else value

    @field_validator("burst_agreement")
    @classmethod
    def _burst_is_less(cls, value: float, earlier: ValidationInfo) -> float:
        near = earlier.data.get("near_agreement", 1)
        if value > near:
            raise ValueError(
                f"one scene can't ask for more than the same photograph: CURATION_NEAR_AGREEMENT is {near:g}"
            )
        return value

    @field_validator("burst_agreement_alone")
    @classmethod
    def _alone_is_more(cls, value: float, earlier: ValidationInfo) -> float:
        burst = earlier.data.get("burst_agreement", 0)
        if value < burst:
            raise ValueError(f"without a witness it can't be less than with one: CURATION_BURST_AGREEMENT is {burst:g}")
        return value

    def table_path(self, table: str) -> Path | StoreAddress:
        """Where a Delta table of this catalog and schema lies."""
        return self.lake_root / self.catalog_name / self.schema_name / table

    def full_name(self, name: str) -> str:
        """``catalog.schema.name``."""
        return f"{self.catalog_name}.{self.schema_name}.{name}"

    @property
    def decode_options(self) -> DecodeOptions:
        """How pictures are decoded."""
        from curation_assets.images.guard import DecodeOptions

        return DecodeOptions(self.max_pixels, self.bands, self.decode_seconds)

    @property
    def registered_model(self) -> str:
        """Three-level name of the model in the registry."""
        return self.full_name(self.model_name)

    @property
    def mlflow_dir(self) -> Path:
        """Where MLflow's SQLite file and artifacts lie unless MLflow's own variables say otherwise."""
        return self.mlflow_root or self._beside / "mlflow"

    @property
    def index_dir(self) -> Path:
        """Where search indexes of the embeddings table lie: beside the lake, as they can be made anew from it.

        Of indexes in a store, where this machine's copies lie.
        """
        return self._indexes / self.catalog_name / self.schema_name / self.embeddings_table

    @property
    def index_mirror(self) -> Mirror | None:
        """What keeps :attr:`index_dir` and the indexes in a store the same; None where they lie on a disk."""
        from curation_assets.stores.mirror import Mirror

        if (address := self._index_address) is None:
            return None
        below = address / self.catalog_name / self.schema_name / self.embeddings_table
        return Mirror(below, self.storage_options, self.index_dir, self.cache_bytes)

    @property
    def pictures_dir(self) -> Path:
        """Where the small pictures lie that are compared with each other: there too, and made anew like the indexes."""
        return self._indexes / self.catalog_name / self.schema_name / self.directory_table / "pictures"

    @property
    def annotations_note(self) -> Path:
        """Where it is noted at what the sources of ``ANNOTATIONS`` were read: there too, and made anew."""
        return self._indexes / self.catalog_name / self.schema_name / self.annotations_table / "sources.json"

    @property
    def label_issues_note(self) -> Path:
        """Where it is noted of which tables the label issues were made: there too, and made anew."""
        return self._indexes / self.catalog_name / self.schema_name / self.label_issues_table / "made_of.json"

    @property
    def _indexes(self) -> Path:
        if (address := self._index_address) is not None:
            return self.cache_root / hashlib.sha256(str(address).encode()).hexdigest()[:24]
        if isinstance(self.index_root, Path):
            return self.index_root
        return self._beside / f"{self.lake_root.name}_index"

    @property
    def _index_address(self) -> StoreAddress | None:
        place = self.index_root
        if place is None and isinstance(self.lake_root, StoreAddress):
            return self.lake_root.parent / f"{self.lake_root.name}_index"
        return place if isinstance(place, StoreAddress) else None

    @property
    def _beside(self) -> Path:
        """Folder for what belongs to the lake and lies on this machine; of a lake in a store, the project's own."""
        return self.lake_root.parent if isinstance(self.lake_root, Path) else project_dir()

    @property
    def walk_rules(self) -> WalkRules:
        """What of the tree of images is not walked into: patterns, links, and whatever this program writes."""
        from curation_assets.images.walk import WalkRules

        # The catalog too: a lake may be given the very folder that the images lie in.
        places = [self.lake_root, self.lake_root / self.catalog_name, self._indexes, self.mlflow_dir]
        places += [self._index_address] if self._index_address is not None else []
        places += [project_dir() / "demo_workspace"]
        if home := os.environ.get("DAGSTER_HOME"):
            places.append(Path(home))
        own = (os.path.realpath(_expanded(each)) if isinstance(each, Path) else str(each) for each in places)
        return WalkRules(self.leave_out, tuple(own), self.follow_links)

    @property
    def depth(self) -> int | None:
        """``FOLDER_DEPTH`` as the listing takes it: levels, None for the deepest folders."""
        return None if self.folder_depth == "deepest" else self.folder_depth

    @property
    def images_a_batch(self) -> int | None:
        """``BATCH_SIZE`` as engines take it: images per forward pass, None for what suits the device."""
        return None if self.batch_size == "auto" else self.batch_size

    @property
    def worker_threads(self) -> int:
        """Threads that read and decode; ``auto`` is one for every core this process may use."""
        if self.threads != "auto":
            return self.threads
        from joblib import cpu_count  # looks at affinity and the container's CPU limit too

        return int(cpu_count())


def source_key(model_source: str) -> str:
    """``MODEL_SOURCE`` written the same way whether or not the folder that it names is there at the moment."""
    path = _expanded(Path(model_source))
    return str(path.relative_to(project_dir()) if path.is_relative_to(project_dir()) else path)


_MAY_HOLD_KEYS = ("spark_conf", "storage_options", "serve_token", "gallery_token", "gallery_tokens")


def load_settings(**overrides: Any) -> Settings:
    """Read the settings; ``overrides`` go before environment and ``.env``.

    Raises:
        CurationError: naming the variable, what is allowed and, unless it may hold a key, its value.
    """
    try:
        return Settings(**overrides)
    except ValidationError as error:
        problems: dict[str, list[str]] = {}  # a setting of two types has a problem for each
        for problem in error.errors():
            name = f"CURATION_{str(problem['loc'][0]).upper()}"
            given = str(problem["input"])
            has_key = "://" in given and any(mark in given for mark in "@?")  # of an address: credentials, a signature
            if problem["loc"][0] not in _MAY_HOLD_KEYS and not has_key:
                name += f"={given!r}"
            problems.setdefault(name, []).append(problem["msg"].removeprefix("Value error, "))
        raise CurationError("; ".join(f"{name}: {', or '.join(why)}" for name, why in problems.items())) from None
