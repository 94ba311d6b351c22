"""The tables' columns, with the comments that stand in the Delta metadata and in Dagster's catalog."""

from __future__ import annotations

from dataclasses import dataclass, field

import pyarrow as pa

_UTC = pa.timestamp("us", tz="UTC")


@dataclass(frozen=True)
class Column:
    """A column's name, Arrow type and meaning.

    Attributes:
        came_later: tables of earlier versions lack it: they get it, and their rows read as null.
    """

    name: str
    type: pa.DataType
    comment: str
    came_later: bool = False

    @property
    def field(self) -> pa.Field:
        """The column as Arrow, with its comment."""
        return pa.field(self.name, self.type, metadata={"comment": self.comment})


@dataclass(frozen=True)
class TableSpec:
    """What a table looks like and how its Parquet files are written.

    Attributes:
        columns: all columns, the partition column among them. Users may add others to a table: those are kept.
        key: columns that name a row, once each.
        configuration: Delta table properties.
        dictionary: columns worth a dictionary; the others repeat too little.
        byte_stream_split: float leaf columns stored byte plane by byte plane (smaller under zstd).
        partition_column: whose values cut the table into partitions; None: it is one.
    """

    description: str
    columns: tuple[Column, ...]
    key: tuple[str, ...]
    configuration: dict[str, str] = field(default_factory=dict)
    dictionary: tuple[str, ...] = ()
    byte_stream_split: tuple[str, ...] = ()
    partition_column: str | None = "folder"

    @property
    def arrow_schema(self) -> pa.Schema:
        """Schema of a new table, comments included."""
        return pa.schema([column.field for column in self.columns])

    @property
    def file_schema(self) -> pa.Schema:
        """Schema of its Parquet files: the partition column stands in their path instead."""
        return pa.schema([pa.field(c.name, c.type) for c in self.columns if c.name != self.partition_column])


_FILE_PATH = Column("file_path", pa.string(), "full path of the image file")
_FILE_NAME = Column("file_name", pa.string(), "last part of the path")
_FOLDER = Column("folder", pa.string(), "image folder relative to the images root; '.' is the root; the partition")
_SIZE = Column("size_bytes", pa.int64(), "size of the file in bytes")
_CREATED = Column("created_at", _UTC, "when the file appeared or last changed its inode (ctime), UTC")
_RELATIVE = Column("relative_path", pa.string(), "path relative to the images root; the key")
_PIXELS_AS = Column(
    "pixels_as",
    pa.string(),
    "how the picture is made of the file where not as ever: profile (colours converted), scaled (16 bits), bands",
    came_later=True,
)
_MODEL = (
    Column("model_name", pa.string(), "registered model, catalog.schema.model"),
    Column("model_version", pa.string(), "version in the model registry"),
    Column("model_fingerprint", pa.string(), "of the model's weights, configuration, preprocessing and code"),
)
_MODEL_NAMES = tuple(column.name for column in _MODEL)
_SHA256 = Column("content_sha256", pa.string(), "SHA-256 of the file's bytes, hexadecimal")

DIRECTORY = TableSpec(
    description="One row per image file: where it lies, what it is, and the file itself as base64",
    columns=(
        _FILE_PATH,
        _FILE_NAME,
        _FOLDER,
        _SIZE,
        _CREATED,
        Column(
            "image_base64",
            pa.string(),
            "the file's bytes as base64; null unless status is ok and images are stored",
        ),
        _RELATIVE,
        Column("modified_at", _UTC, "modification time of the file, UTC"),
        Column(
            "mtime_ns",
            pa.int64(),
            "modification time in nanoseconds since 1970, to recognise an unchanged file",
        ),
        _SHA256,
        Column("format", pa.string(), "image format by content: JPEG, MPO, PNG, WEBP, TIFF, BMP, GIF, AVIF, HEIF, JXL"),
        Column("width", pa.int32(), "pixels, of the image turned upright"),
        Column("height", pa.int32(), "pixels, of the image turned upright"),
        Column("mode", pa.string(), "pixel mode as stored, in Pillow's terms: RGB, L, CMYK, …"),
        Column("orientation", pa.int32(), "EXIF orientation 1-8; null where absent or invalid (taken as upright)"),
        Column("captured_at", _UTC, "EXIF capture time; a camera clock without an offset is taken as UTC"),
        Column("latitude", pa.float64(), "EXIF GPS latitude in degrees, north positive"),
        Column("longitude", pa.float64(), "EXIF GPS longitude in degrees, east positive"),
        Column("camera", pa.string(), "EXIF make and model"),
        Column("preview", pa.binary(), "upright JPEG, longest side at most 384 pixels"),
        Column("status", pa.string(), "ok, corrupt, unsupported, too_large or unreadable"),
        Column("error", pa.string(), "why status is not ok"),
        Column(
            "warning",
            pa.string(),
            "what is doubtful of an image that is ok: pixels partly invented, a colour profile not followed",
            came_later=True,
        ),
        Column(
            "reader_version",
            pa.int32(),
            "of the program's reading that made the row; rows of a format that is read otherwise now are read again",
            came_later=True,
        ),
        _PIXELS_AS,
        Column(
            "scan_sharpness",
            pa.float32(),
            "sharpness as the scan measured it while it had the bytes; the quality table holds what counts",
            came_later=True,
        ),
        Column(
            "scan_sharpness_version",
            pa.int32(),
            "of the measure in scan_sharpness; null where the scan measured none",
            came_later=True,
        ),
        Column(
            "etag",
            pa.string(),
            "by which an object store tells this version of the file, to recognise an unchanged one; null on disks",
            came_later=True,
        ),
    ),
    key=("relative_path",),
    dictionary=("format", "mode", "camera", "status", "error", "warning", "pixels_as"),
)

EMBEDDINGS = TableSpec(
    description="One row per image and model version: the image's unit-length CLIP embedding",
    columns=(
        _FILE_PATH,
        _RELATIVE,
        _FILE_NAME,
        _FOLDER,
        _SIZE,
        _CREATED,
        _SHA256,
        *_MODEL,
        Column("embeddings", pa.list_(pa.float32()), "unit-length vector; a dot product of two is their cosine"),
        Column("embedded_at", _UTC, "when the vector was computed, UTC"),
        _PIXELS_AS,
    ),
    key=("relative_path", "model_version"),
    configuration={"delta.enableChangeDataFeed": "true"},
    dictionary=(*_MODEL_NAMES, "pixels_as"),
    byte_stream_split=("embeddings.list.element",),
)

ZERO_SHOT_LABELS = TableSpec(
    description="One row per image: which of some texts its embedding is nearest to (zero-shot)",
    columns=(
        _RELATIVE,
        _FOLDER,
        _SHA256,
        Column("label", pa.string(), "the text of CURATION_LABELS with the largest cosine"),
        Column("score", pa.float32(), "that cosine"),
        Column("margin", pa.float32(), "how far it lies before the second best"),
        Column("choices", pa.string(), "the texts there were to choose from, a JSON list"),
        *_MODEL,
        Column("labelled_at", _UTC, "when the label was computed, UTC"),
    ),
    key=("relative_path",),
    dictionary=("label", "choices", *_MODEL_NAMES),
)

QUALITY = TableSpec(
    description="One row per usable image: how sharp, bright, contrasty and colourful it is; scores, no verdicts",
    columns=(
        _RELATIVE,
        _FOLDER,
        _SHA256,
        Column("sharpness", pa.float32(), "0 to 1: how fine the sharpest parts are, for the picture's size"),
        Column("brightness", pa.float32(), "0 to 1: mean luma; of the preview, as all but sharpness"),
        Column("contrast", pa.float32(), "0 to 1: luma's 98th less its 2nd percentile"),
        Column("shadows", pa.float32(), "0 to 1: luma's 5th percentile"),
        Column("highlights", pa.float32(), "0 to 1: luma's 99th percentile"),
        Column(
            "exposure",
            pa.float32(),
            "0 to 2: root of the share of the subject that is burnt out, and the darkest channel's 1st percentile",
        ),
        Column("clipped", pa.float32(), "share of pixels, 0 to 1, that are as dark or as bright as can be"),
        Column("entropy", pa.float32(), "bits, 0 to 8, of the histogram of luma"),
        Column("colourfulness", pa.float32(), "Hasler and Suesstrunk's M3: 0 is grey, 100 very colourful"),
        Column("aspect_ratio", pa.float32(), "width by height, upright"),
        Column("width", pa.int32(), "pixels, upright, as in the directory table"),
        Column("height", pa.int32(), "pixels, upright, as in the directory table"),
        Column("camera", pa.string(), "EXIF make and model, as in the directory table"),
        _PIXELS_AS,
        Column("measures_version", pa.int32(), "of all the measures; a row of another version is measured again"),
        Column("measured_at", _UTC, "when, UTC"),
        Column("error", pa.string(), "why some measures are null"),
    ),
    key=("relative_path",),
    dictionary=("camera", "pixels_as", "error"),
)

PAIRS = TableSpec(
    description="One row per two contents that are one photograph (near) or one scene (burst), by their pixels",
    columns=(
        Column("first", pa.string(), "SHA-256 of a content"),
        Column("second", pa.string(), "SHA-256 of another; first < second"),
        Column("kind", pa.string(), "near: the same photograph; burst: the same scene, moments apart"),
        Column("similarity", pa.float32(), "agreement of the pixels after alignment, at most 1"),
        Column(
            "method",
            pa.string(),
            "what brought them together: hash (of windows), neighbours (of the model), witness (time or number), frame "
            "(one of thousands alike, compared with the first of them)",
        ),
        Column(
            "transform",
            pa.struct(
                [
                    pa.field("mirrored", pa.bool_()),
                    pa.field("rotation", pa.int32()),
                    pa.field("x", pa.float32()),
                    pa.field("y", pa.float32()),
                    pa.field("width", pa.float32()),
                    pa.field("height", pa.float32()),
                    pa.field("scale", pa.float32()),
                ]
            ),
            "the second, mirrored left to right or not, then turned clockwise by so many degrees, lies in the first at "
            "x, y with width, height (shares of the first, upright); a pixel of it is so many of the first",
        ),
        Column("witness", pa.string(), "of a burst: time, number or looks (alike enough without the others)"),
        Column("model_version", pa.string(), "whose neighbours brought them together; null where no model had a part"),
        Column("verification_version", pa.int32(), "of the comparison of pixels; pairs of another are compared again"),
        Column("thresholds", pa.string(), "that decided the kind; pairs of others are compared again"),
        Column("found_at", _UTC, "when, UTC"),
    ),
    key=("first", "second"),
    dictionary=("kind", "method", "witness", "model_version", "thresholds"),
    partition_column=None,
)

COMPARED = TableSpec(
    description="One row per content that was compared with all others: what is not here has no pairs yet",
    columns=(
        _SHA256,
        _PIXELS_AS,
        Column("represented_by", pa.string(), "of thousands alike, the content that stands for this one; null: itself"),
        Column("model_version", pa.string(), "whose neighbours it was compared with; null: none were there"),
        Column("model_fingerprint", pa.string(), "of that model"),
        Column("verification_version", pa.int32(), "of the comparison of pixels"),
        Column("thresholds", pa.string(), "that decided"),
        Column("compared_at", _UTC, "when, UTC"),
        Column("error", pa.string(), "why it could not be compared"),
    ),
    key=("content_sha256",),
    dictionary=("pixels_as", "model_version", "model_fingerprint", "thresholds", "error"),
    partition_column=None,
)

GROUPS = TableSpec(
    description="One row per image in a group of the same bytes (exact), photograph (near) or scene (burst)",
    columns=(
        _RELATIVE,
        Column("kind", pa.string(), "exact, near or burst; an image may be in one group of each"),
        _SHA256,
        Column("group_id", pa.string(), "of the group; it stays while most of the group does"),
        Column("keeper", pa.string(), "relative path of the image to keep"),
        Column("is_keeper", pa.bool_(), "whether this is it"),
        Column("similarity", pa.float32(), "to the keeper, at most 1; null where they were not compared themselves"),
        Column("rule", pa.string(), "what decided between this image and the keeper, or for the keeper"),
        Column("first_seen_at", _UTC, "when the group was first seen, UTC"),
    ),
    key=("relative_path", "kind"),
    dictionary=("kind", "group_id", "keeper", "rule"),
    partition_column=None,
)

ANNOTATIONS = TableSpec(
    description="One row per image, field and source: what a source says is on the image, where, and in which split",
    columns=(
        _RELATIVE,
        _FOLDER,
        Column("field", pa.string(), "what it is about, for example class"),
        Column("source", pa.string(), "who says it; the order of sources says which counts where two disagree"),
        Column("values", pa.list_(pa.string()), "labels; empty: there is nothing of the kind, null: nothing is said"),
        Column("split", pa.string(), "train, val, test or another; null: nothing is said"),
        Column(
            "boxes",
            pa.list_(
                pa.struct(
                    [
                        pa.field("label", pa.string()),
                        pa.field("x", pa.float64()),
                        pa.field("y", pa.float64()),
                        pa.field("width", pa.float64()),
                        pa.field("height", pa.float64()),
                    ]
                )
            ),
            "upper left corner and size in pixels of the upright image; null: nothing is said of places",
        ),
        Column("kept_apart", pa.string(), "JSON: what the columns can't hold (masks, iscrowd, ids), for exports"),
        _SHA256,
        Column("annotated_at", _UTC, "when it came into the table or last became other, UTC"),
    ),
    key=("relative_path", "field", "source"),
    dictionary=("field", "source", "split", "values.list.element"),
)

SCORES = TableSpec(
    description="One row per image with a vector: how far from the others it lies, what it adds, and its cluster",
    columns=(
        _RELATIVE,
        _SHA256,
        *_MODEL,
        Column("outlier_score", pa.float32(), "0 to 2: cosine distance that holds 2 % of the lake; null if alone"),
        Column("uniqueness", pa.float32(), "0 to 2: cosine distance to the nearest other content; null if alone"),
        Column("cluster", pa.int32(), "number of its cluster; it stays with most of the members"),
        Column("cluster_name", pa.string(), "nearest text of CURATION_LABELS, else words of its folder names"),
        Column("cluster_distance", pa.float32(), "0 to 2: cosine distance to the centre of the cluster"),
        Column("is_medoid", pa.bool_(), "whether it is the image of its cluster that is nearest to the centre"),
        Column("came_later", pa.bool_(), "whether it joined the cluster after that was laid out"),
        Column("made_with", pa.string(), "of method and settings: other ones make the row anew"),
    ),
    key=("relative_path", "model_version"),
    dictionary=(*_MODEL_NAMES, "cluster_name", "made_with"),
    partition_column=None,
)

PREDICTIONS = TableSpec(
    description="One row per image with a vector and field: what a classifier fitted to the annotations says it shows",
    columns=(
        _RELATIVE,
        _SHA256,
        *_MODEL,
        Column("field", pa.string(), "of the annotations, for example class"),
        Column("predicted", pa.string(), "the likeliest class; of a labelled image as if it had no label"),
        Column("confidence", pa.float32(), "0 to 1: calibrated probability that it is right"),
        Column("label", pa.string(), "the one label that counts, which it was fitted with; null: the image has none"),
        Column("label_quality", pa.float32(), "0 to 1, low: the label is likely wrong; null without a label"),
        Column("suggested", pa.string(), "class the evidence speaks for instead of the label; null: the label stands"),
        Column("out_of_fold", pa.bool_(), "whether the classifier that said it was fitted without the image"),
        Column("made_with", pa.string(), "of method, settings and all it was fitted on: other ones make the row anew"),
    ),
    key=("relative_path", "model_version", "field"),
    dictionary=(
        *_MODEL_NAMES,
        "field",
        "predicted",
        "label",
        "suggested",
        "made_with",
    ),
    partition_column=None,
)

LABEL_ISSUES = TableSpec(
    description="One row per image, field and kind of fault: a label or box that something speaks against, and what",
    columns=(
        _RELATIVE,
        _SHA256,
        Column("field", pa.string(), "what the label is of, for example class"),
        Column(
            "kind",
            pa.string(),
            "mislabelled, conflicting, box_outside, box_doubled, box_tiny or box_unlabelled",
        ),
        Column("model_name", pa.string(), "registered model, catalog.schema.model; null where no model had a part"),
        Column("model_version", pa.string(), "version in the model registry; null where no model had a part"),
        Column("model_fingerprint", pa.string(), "of that model; null where no model had a part"),
        Column("given", pa.string(), "the label that counts, several as `miner, rust`; empty: that there is nothing"),
        Column("suggested", pa.string(), "the label that the evidence speaks for; null: it speaks for none"),
        Column("label_quality", pa.float32(), "0 to 1: low where the label is likely wrong; null where not measured"),
        Column("number", pa.int32(), "images and sources that say otherwise, or boxes at fault; null of mislabelled"),
        Column(
            "evidence", pa.list_(pa.string()), "relative paths of what speaks against it, nearest first, 20 at most"
        ),
        Column("reason", pa.string(), "why, in one sentence"),
        Column("made_with", pa.string(), "version of the method, and what the prediction was made with"),
        Column(
            "asked_again",
            pa.bool_(),
            "true: a person answered, which counts until they answer what by now is another question; else null",
            came_later=True,
        ),
    ),
    key=("relative_path", "field", "kind", "model_version"),
    dictionary=(
        "field",
        "kind",
        *_MODEL_NAMES,
        "given",
        "suggested",
        "made_with",
    ),
    partition_column=None,
)

DATASETS = TableSpec(
    description="One row per image, dataset and version: whether it is kept, or why not, its label and split",
    columns=(
        Column("dataset", pa.string(), "name of the recipe; the partition"),
        Column("version", pa.int32(), "1, 2, …"),
        _RELATIVE,
        _SHA256,
        Column("kept", pa.bool_(), "whether the image is in the dataset"),
        Column("reason", pa.string(), "why not: decided, a kind of problem, exact, near, burst, subset, buffer, …"),
        Column("witness", pa.string(), "path of the image that stands for it, or that it is too near to"),
        Column("similarity", pa.float32(), "of the two, at most 1, as far as they were compared"),
        Column("label", pa.string(), "its label, after the recipe's merging"),
        Column("split", pa.string(), "train, val, test, or a fold; null where it is left out, or there are none"),
        Column("file", pa.string(), "data file of the directory table that holds the image's bytes"),
        Column("published_at", _UTC, "when the version was published, UTC"),
        Column("content_id", pa.string(), "SHA-256 of what the version holds; equal for equal datasets"),
        Column("manifest", pa.string(), "JSON: what the version was made of: recipe, tables, model, parent, leakage"),
    ),
    key=("dataset", "version", "relative_path"),
    dictionary=("reason", "label", "split", "file", "content_id", "manifest"),
    partition_column="dataset",
)

DECISIONS = TableSpec(
    description="One row per thing that a person said of an image, or of two; rows are only added, never changed",
    columns=(
        Column("decision_id", pa.string(), "the key; later ones sort after earlier ones"),
        Column("decided_at", _UTC, "when, UTC; of several decisions on one question the last one counts"),
        Column("decided_by", pa.string(), "who"),
        Column("kind", pa.string(), "keep, remove, keeper, relabel, same, different, unsure, tag or untag"),
        Column("relative_path", pa.string(), "of the image, relative to the images root, when it was decided"),
        Column("content_sha256", pa.string(), "SHA-256 of the image's bytes, hexadecimal: what was decided on"),
        Column("other_sha256", pa.string(), "the same of the other image; only of same and different"),
        Column(
            "field",
            pa.string(),
            "what it is about: quality or duplicate (keep, remove, unsure), or a field of labels (relabel, unsure)",
        ),
        Column("value", pa.string(), "the label that a relabel gives, or the tag"),
        Column("reason", pa.string(), "in the person's own words"),
        Column("shown", pa.string(), "JSON: scores and versions that the person saw"),
        Column("undoes", pa.string(), "decision_id of the row that this one takes back; null of a decision"),
    ),
    key=("decision_id",),
    dictionary=("decided_by", "kind", "field"),
    partition_column=None,
)

SAMPLES = TableSpec(
    description="One row per image that was drawn at random to measure a kind of problem; rows are only added",
    columns=(
        Column("sample_id", pa.string(), "of what was drawn together; later ones sort after earlier ones"),
        Column("kind", pa.string(), "of problem"),
        Column("created_at", _UTC, "when it was drawn, UTC"),
        Column("created_by", pa.string(), "who asked for it"),
        Column("threshold", pa.float64(), "the line between what has the problem and what hasn't, at that time"),
        Column("place", pa.int32(), "in the order in which they are to be looked at, from 0"),
        Column("band", pa.int32(), "0, 1, …, the worst first"),
        Column("first", pa.float64(), "worst threshold at which an image of the band begins to have the problem"),
        Column("last", pa.float64(), "threshold that names the band and all worse ones"),
        Column("flagged", pa.bool_(), "whether the band lies on the bad side of the line"),
        Column("images", pa.int64(), "in the band, of which some were drawn"),
        Column("relative_path", pa.string(), "of the image, when it was drawn"),
        _SHA256,
        Column("at", pa.float64(), "threshold at which it begins to have the problem"),
        Column("field", pa.string(), "of the label that is doubted; null of a picture", came_later=True),
        Column("given", pa.string(), "the label that counted then; null of a picture", came_later=True),
        Column(
            "other_sha256",
            pa.string(),
            "of the one image that the label conflicts with; null: of none",
            came_later=True,
        ),
    ),
    key=("sample_id", "place"),
    dictionary=("sample_id", "kind", "created_by"),
    partition_column=None,
)

CLUSTER_NAMES = TableSpec(
    description="One row per name that a person gave a cluster, or took back; rows are only added, never changed",
    columns=(
        Column("name_id", pa.string(), "the key; later ones sort after earlier ones"),
        Column("named_at", _UTC, "when, UTC; of several names of one cluster the last one counts"),
        Column("named_by", pa.string(), "who"),
        *_MODEL,
        Column("cluster", pa.int32(), "its number in the table of scores"),
        Column("name", pa.string(), "what it is called; null takes it back: the program's own name counts again"),
    ),
    key=("name_id",),
    dictionary=(*_MODEL_NAMES, "named_by"),
    partition_column=None,
)

EXPORTS = TableSpec(
    description="One row per export of a version, or per export and image of what a search found",
    columns=(
        Column("export_id", pa.string(), "SHA-256 of what was exported and where to, hexadecimal"),
        Column("content_sha256", pa.string(), "of an image that a search found; null: the images of the version"),
        Column("exported_at", _UTC, "when it was about to get its final name, UTC"),
        Column("dataset", pa.string(), "name of the recipe; null of a search"),
        Column("version", pa.int32(), "of the dataset; null of a search"),
        Column("content_id", pa.string(), "SHA-256 of what the version holds; null of a search"),
        Column("format", pa.string(), "as --to has it; images of a search"),
        Column("place", pa.string(), "folder or file that it was written to"),
        Column("images", pa.int64(), "in the export"),
    ),
    key=("export_id", "content_sha256", "exported_at"),
    dictionary=("export_id", "dataset", "content_id", "format", "place"),
    partition_column=None,
)
