"""What the API answers; these are the schemas of its documentation."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class Problem(BaseModel):
    """Why there is no answer."""

    error: str = Field(description="One sentence: what was wrong, and what to do next.")


class IndexFacts(BaseModel):
    """What answered."""

    model_config = ConfigDict(protected_namespaces=())

    model: str = Field(description="Registered model, `catalog.schema.model`.")
    model_version: str
    demonstration: bool = Field(description="Whether this is the embedded model, on which no decision should rest.")
    dimension: int
    embeddings_table_version: int
    directory_table_version: int
    kind: str = Field(description="`exact` or `approximate`.")
    images: int = Field(description="Image files in the index.")
    vectors: int = Field(description="Those of them that can be ranked.")
    built_at: datetime
    behind: str | None = Field(
        description="How far the tables have gone on since, in a sentence; null if they have not."
    )


class FoundImage(BaseModel):
    """An image that was found."""

    relative_path: str = Field(description="The key.")
    name: str = Field(description="File name as people read it: control characters and odd bytes written out.")
    path: str = Field(description="Relative path as people read it.")
    folder: str
    score: float | None = Field(description="Cosine of image and query; null without a query.")
    width: int | None
    height: int | None
    captured_at: datetime | None
    camera: str | None
    size_bytes: int | None
    status: str
    error: str | None
    content_sha256: str | None
    thumbnail: str | None = Field(description="Address of its preview; null where there is none.")
    page: str = Field(description="Address of its page.")
    copies: int = Field(0, description="How many other images have the same content.")
    near_copies: int = Field(0, description="How many other images show the same photograph, copies among them.")
    problems: list[str] = Field([], description="Kinds of problem that it has; none too where it isn't measured.")
    decided: str | None = Field(
        None, description="`keep`, `remove` or `unsure`, where a person said so of the picture."
    )
    tags: list[str] = Field([], description="That people gave its picture.")
    labels: dict[str, str] = Field({}, description="That count, by field; where the answer tells them.")
    split: str | None = Field(None, description="That the annotations put it on; where the answer tells it.")


class FoldedImages(BaseModel):
    """How many images others stand for."""

    copies: int = Field(description="Of the same bytes.")
    near_copies: int = Field(description="Of other bytes, which show the same photograph.")


class SearchAnswer(BaseModel):
    """A part of what a search finds, best first; without a query, images in the order of their paths."""

    total: int = Field(description="How many images the search could give.")
    images: list[FoundImage]
    index: IndexFacts
    query: list[dict[str, Any]] = Field(description="The parts of the query, with their weights.")
    filter: dict[str, Any] = Field(description="The conditions.")
    sort: str | None = Field(description="What a list is in the order of; null with a query.")
    distinct: bool = Field(description="Whether each photograph stands once.")
    folded: FoldedImages | None = Field(None, description="Of all that meets the conditions; null unless `distinct`.")
    notice: str | None = Field(None, description="What `distinct` can't do, in a sentence; null where it can.")
    described: str = Field(description="The query in a line, for people.")
    latest: str = Field("", description="Id of the latest decision that this knows of.")


class Embedding(BaseModel):
    """The vector of an image."""

    model_config = ConfigDict(protected_namespaces=())

    model: str
    model_version: str
    model_fingerprint: str
    dimension: int
    embeddings_table_version: int
    embedded_at: datetime


class GroupedImage(BaseModel):
    """An image of a group."""

    image: FoundImage
    is_keeper: bool = Field(description="Whether it is the one to keep.")
    similarity: float | None = Field(description="To the keeper, at most 1; null where they were not compared.")
    rule: str = Field(description="What decided between it and the keeper.")
    how: str | None = Field(description="What makes it another than the keeper, as people say it.")


class ImageGroup(BaseModel):
    """Images of the same bytes (exact), photograph (near) or scene (burst)."""

    kind: str
    group_id: str
    total: int = Field(description="How many images it has.")
    images: list[GroupedImage] = Field(
        description="Those of them that the index has: the keeper first, then by similarity; at most a hundred, the "
        "image itself among them."
    )


class Box(BaseModel):
    """A place in an image, in pixels of the upright picture."""

    label: str | None
    x: float = Field(description="Of its left side, from the left.")
    y: float = Field(description="Of its upper side, from the top.")
    width: float
    height: float


class Annotation(BaseModel):
    """What a source says of an image in one field."""

    field: str
    source: str | None = Field(description="`decided` where it is a person's decision.")
    values: list[str] | None = Field(description="Labels; null: it says nothing of them.")
    split: str | None
    boxes: list[Box] | None
    counts: bool = Field(description="Whether its labels are those that count; the order of sources says so.")


class Decision(BaseModel):
    """What a person said, or took back."""

    decision_id: str
    decided_at: datetime
    decided_by: str | None
    kind: str = Field(description="`keep`, `remove`, `keeper`, `relabel`, `same`, `different` or `unsure`.")
    relative_path: str | None
    content_sha256: str | None
    other_sha256: str | None
    field: str | None
    value: str | None
    reason: str | None
    undoes: str | None = Field(description="Id of the decision that it takes back.")
    sample: str | None = Field(None, description="Id of the sample that it was said of; null: of none.")


class ImageFacts(BaseModel):
    """All that the tables hold of an image, but its pixels."""

    image: FoundImage
    columns: dict[str, Any] = Field(
        description="The row of the directory table, with `warning` (what is doubtful of the image); and "
        "`zero_shot_label`, `zero_shot_score` and `zero_shot_margin`, null where this model's vector of the image has "
        "no label of `CURATION_LABELS`."
    )
    embedding: Embedding | None = Field(description="Null where it has no vector of this model.")
    copies: list[FoundImage] = Field(description="Other images of the same content; at most a hundred.")
    copies_total: int = Field(description="How many there are.")
    annotations: list[Annotation] = Field(
        [], description="What sources say of it, and what people decided of its labels; those that count first."
    )
    groups: list[ImageGroup] = Field([], description="Its groups, as far as images were compared.")
    decisions: list[Decision] = Field([], description="What people decided of it and counts, the earliest first.")
    compared: bool = Field(
        description="Whether it was compared with the others; false too where it is no usable image."
    )
    picture: str | None = Field(description="Address of a large upright JPEG.")
    original: str = Field(description="Address of the file itself.")
    dagster: str | None = Field(description="Its partition in Dagster; null without CURATION_GALLERY_DAGSTER_URL.")


class ExifTag(BaseModel):
    """A tag that the camera wrote."""

    group: str = Field(description="`Image`, `Photo`, `GPS` or `Interoperability`.")
    name: str
    value: str = Field(description="As people read it, shortened.")


class ExifTags(BaseModel):
    """Tags of an image."""

    tags: list[ExifTag]


class UploadReceipt(BaseModel):
    """An image that was given, for searches with `image=<id>`."""

    id: str
    name: str


class Label(BaseModel):
    """Which label suits an image best."""

    relative_path: str
    folder: str
    label: str
    score: float = Field(description="Cosine of image and label.")
    margin: float = Field(description="How far it lies before the second best.")


class LabelsAnswer(BaseModel):
    """Labels of a part of what a search finds."""

    labels: list[str]
    total: int
    images: list[Label]


class Tag(BaseModel):
    """A tag, and how much has it."""

    tag: str
    images: int


class TagsAnswer(BaseModel):
    """All tags, by name."""

    tags: list[Tag]


class FolderCounts(BaseModel):
    """A folder's images, without those of folders below it."""

    folder: str
    files: int
    ok: int
    bad: int
    embedded: int


class FoldersAnswer(BaseModel):
    """Every folder that holds image files."""

    folders: list[FolderCounts]


class MapAnswer(BaseModel):
    """The map: a point for each image that has a vector."""

    id: str = Field(description="Changes when the points or their order do.")
    count: int
    xy: str = Field(description="base64 of little-endian float32: x and y of each point.")
    folder: str = Field(description="base64 of little-endian uint32: of each point, the place in `folders`.")
    folders: list[str]
    shown_folders: list[str] = Field(description="The same as people read them.")
    colours: list[str] = Field(description="Columns that points can be told apart by, with `/api/map/scores`.")
    index: IndexFacts


class MapScores(BaseModel):
    """Values of a column of all points of the map, the most frequent first; or steps of the outlier score."""

    labels: list[str]
    conditions: list[str | None] = Field(
        description="Of each, the condition in SQL that its images meet; null where that is too long for one."
    )
    counts: list[int]
    label: str = Field(description="base64 of uint8: of each point, the place in `labels`; 255 has none.")
    others: int = Field(description="How many values the last of `labels` stands for; 0 where each stands for one.")
    without: str = Field(description="What is said of points that have none.")
    without_condition: str = Field(description="Which their images meet.")


class MapLabels(BaseModel):
    """Labels of all points of the map."""

    labels: list[str]
    counts: list[int]
    label: str = Field(description="base64 of uint8: of each point, the place in `labels`; 255 has none.")


class DecisionAnswer(BaseModel):
    """What became of a decision."""

    token: str
    status: str = Field(description="`recorded`; `already`, when it was before; `conflict`: it is not written.")
    decision: Decision = Field(description="As it is written; or the other person's, which it is in conflict with.")


class DecisionsAnswer(BaseModel):
    """What became of decisions."""

    decisions: list[DecisionAnswer]
    latest: str = Field(description="Id of the latest decision of all, to send as `seen` from now on.")


class DecisionsSince(BaseModel):
    """Decisions, the earliest first."""

    decisions: list[Decision]
    latest: str


class ProblemFacts(BaseModel):
    """A kind of problem, and its line."""

    kind: str
    meaning: str
    advice: str
    scale: str = Field(description="What is compared with the threshold.")
    limit: str = Field(description="From which score on, for people.")
    is_low: bool = Field(description="Whether low scores are the bad ones.")
    is_counted: bool = Field(description="Whether the score counts what speaks for it.")
    threshold: float
    default: float


class ProblemKind(ProblemFacts):
    """A kind of problem."""

    images: int = Field(description="That have it, without those that are kept by a person's word.")
    kept: int = Field(description="That would have it, but for a person's word.")
    undecided: int = Field(description="That have it, and of which nobody said anything.")
    examples: list[FoundImage]


class ProblemsAnswer(BaseModel):
    """Every kind of problem, the most frequent first."""

    measured: int = Field(description="Images.")
    kinds: list[ProblemKind]
    latest: str = Field(description="Id of the latest decision that this knows of.")


class Histogram(BaseModel):
    """How scores are spread."""

    edges: list[float] = Field(description="Ascending, one more than bins.")
    counts: list[int] = Field(description="Images; of what lies beyond the edges too.")


class ProblemImage(BaseModel):
    """An image in the order of a kind of problem."""

    image: FoundImage
    score: float = Field(description="On the kind's scale.")
    at: float = Field(description="The threshold at which it begins to have the problem.")
    flagged: bool = Field(description="Whether it has it at the threshold that was asked for.")
    decided: str | None = Field(description="`keep`, `remove` or `unsure`, where a person said so.")


class ProblemAnswer(ProblemFacts):
    """Images by what tells of a kind of problem, the worst first."""

    total: int = Field(description="Images of this list.")
    flagged: int = Field(description="That have the problem at the threshold, whatever people said.")
    undecided: int = Field(description="Those of them of which nobody said anything.")
    decided: dict[str, int] = Field(description="Of those what people said, and of how many.")
    offset: int
    histogram: Histogram = Field(description="Of `at` of all images, whatever the folder.")
    images: list[ProblemImage]
    latest: str = Field(description="Id of the latest decision that this knows of.")


class SampleBand(BaseModel):
    """Images of neighbouring scores, and what was found among those that were drawn."""

    first: float = Field(description="Worst threshold at which one of it begins to have the problem.")
    last: float = Field(description="Threshold that names it and all worse ones.")
    flagged: bool = Field(description="Whether it lies on the bad side of the line.")
    images: int
    drawn: int
    looked_at: int
    right: int = Field(description="With the problem: removed.")
    wrong: int = Field(description="Without it: kept.")
    unsure: int = Field(description="Nobody could tell; they count as what is worse.")
    gone: int = Field(description="Gone before anybody looked; they count as what is worse.")
    most_wrong: float | None = Field(description="Share without the problem, at most; null before it is done.")
    most_right: float | None = Field(description="Share with the problem, at most; null before it is done.")


class SampleEdge(BaseModel):
    """A threshold at a band's edge."""

    threshold: float
    images: int = Field(description="That it names.")
    most_wrong: float = Field(description="Share of them without the problem, at most.")
    told: str = Field(description="What is known of them, in a sentence.")
    recipe: str = Field(description="What to write into a recipe, as a diff.")


class SampleFacts(BaseModel):
    """What was drawn to measure a kind of problem, and what it proves. All bounds hold at once."""

    sample: str
    kind: str
    created_at: datetime
    created_by: str
    threshold: float = Field(description="The line when it was drawn.")
    drawn: int
    looked_at: int
    bands: list[SampleBand] = Field(description="The worst first.")
    edges: list[SampleEdge] = Field(description="The worst first, as far as bands are done.")
    confidence: float = Field(description="One-sided.")
    judged_by_several: int = Field(description="Images that several people judged.")
    agreement: float | None = Field(description="How often two of them said the same; null where there are none.")


class LabelIssue(BaseModel):
    """A label that something speaks against."""

    image: FoundImage
    field: str
    issues: list[str] = Field(description="`mislabelled`, `conflicting`, or both.")
    given: str | None = Field(description="The label that counts, several as `miner, rust`; empty: nothing is on it.")
    suggested: str | None = Field(description="What the evidence speaks for; null: for none.")
    label_quality: float | None = Field(description="0 to 1: low where the label is likely wrong.")
    number: int | None = Field(description="Images that it conflicts with.")
    reason: str | None
    decided: str | None = Field(
        description="The label that a person gave, `unsure`, `kept`, or `different` (it conflicts with none); or null."
    )


class SamplesAnswer(BaseModel):
    """Samples of a kind of problem, the latest first."""

    samples: list[SampleFacts]
    images: list[ProblemImage] = Field(description="Of the one that was asked for, to look at next.")
    issues: list[LabelIssue] = Field(description="The same where labels are measured.")
    latest: str = Field(description="Id of the latest decision that this knows of.")


class DuplicateImage(GroupedImage):
    """An image of a group that people decide on."""

    labels: dict[str, str] = Field(description="Labels that count, by field.")


class DuplicateName(BaseModel):
    """What a decision on an image needs."""

    relative_path: str
    content_sha256: str


class DuplicateGroup(BaseModel):
    """A group that people decide on."""

    kind: str
    group_id: str
    total: int = Field(description="How many images it has.")
    keeper: str = Field(description="Path of the image to keep.")
    rule: str = Field(description="Why that one.")
    decided: str | None = Field(
        description="`keeper`: a person said which; `keep`: all are kept; `different`: its two are no duplicates."
    )
    images: list[DuplicateImage] = Field(
        description="The keeper first, then by similarity; of a burst in the order of time."
    )
    rest: list[DuplicateName] = Field(description="Those that are not described, where they were asked for.")


class DuplicateCounts(BaseModel):
    """How many groups of a kind there are."""

    kind: str
    meaning: str
    advice: str
    groups: int
    undecided: int = Field(description="Groups of which nobody said anything.")
    images: int
    spare: int = Field(description="Images that are not the keepers.")


class DuplicatesAnswer(BaseModel):
    """Groups of duplicates, the largest first."""

    kinds: list[DuplicateCounts] = Field(description="Of the folder that was asked for.")
    total: int = Field(description="Groups of this list.")
    undecided: int = Field(description="Those of them of which nobody said anything.")
    offset: int
    next: int | None = Field(description="The offset of what comes next; null where that is all.")
    groups: list[DuplicateGroup]
    latest: str = Field(description="Id of the latest decision that this knows of.")


class LabelClass(BaseModel):
    """A class of a field of labels."""

    name: str
    images: int


class LabelFieldClasses(BaseModel):
    """A field of labels, and what images are labelled there."""

    field: str
    classes: list[LabelClass] = Field(description="The most frequent first; at most two hundred.")


class LabelFields(BaseModel):
    """The fields of labels."""

    fields: list[LabelFieldClasses]


class LabelField(LabelFieldClasses):
    """A field of labels of which something is doubted."""

    issues: dict[str, int] = Field(description="How many are `mislabelled` and `conflicting`.")
    total: int = Field(description="Labels that something speaks against.")
    undecided: int = Field(description="Those of them of which nobody said anything.")


class LabelIssuesAnswer(BaseModel):
    """Labels that something speaks against, the likeliest first."""

    fields: list[LabelField] = Field(description="Of the folder that was asked for.")
    total: int = Field(description="Issues of this list.")
    undecided: int = Field(description="Those of them of which nobody said anything.")
    offset: int
    issues: list[LabelIssue]
    latest: str = Field(description="Id of the latest decision that this knows of.")


class LabelledImage(BaseModel):
    """An image and its label."""

    image: FoundImage
    label: str | None


class BesideAnswer(BaseModel):
    """What lies beside an image whose label is doubted."""

    given: list[FoundImage] = Field(description="The nearest with the label that it has.")
    suggested: list[FoundImage] = Field(description="The nearest with the one that is suggested.")
    evidence: list[LabelledImage] = Field(description="What it conflicts with.")


class Confusion(BaseModel):
    """What is taken for what."""

    field: str
    classes: list[str]
    matrix: list[list[int]] = Field(description="Images by their label (rows) and what they are said to be (columns).")
    labelled: int
    accuracy: float | None = Field(description="Share that is said to be what it is labelled.")


class NamedImage(BaseModel):
    """An image that a version names."""

    relative_path: str
    name: str = Field(description="File name as people read it.")
    path: str = Field(description="Relative path as people read it.")
    image: FoundImage | None = Field(description="Null where it is gone, or has other bytes by now.")
    why: str | None = Field(description="Why there is none.")


class DatasetVersion(BaseModel):
    """A version of a dataset in short."""

    version: int
    published_at: datetime
    images: int = Field(description="That it keeps.")
    left_out: int
    has_sides: bool
    gate: str | None = Field(description="`holds`, or `let pass` where a person let a condition fail; null: not known.")
    withdrawn: str | None = Field(description="Why it was taken back; null: it was not.")


class DatasetFacts(BaseModel):
    """A recipe, a dataset, or both."""

    name: str
    description: str
    has_recipe: bool
    fault: str | None = Field(description="What is wrong with the recipe.")
    automatic: bool = Field(description="Whether Dagster builds it by itself.")
    versions: int = Field(description="Without those that were taken back.")
    latest: DatasetVersion | None = Field(description="Null where there is none.")


class DatasetsAnswer(BaseModel):
    """Every recipe and every dataset, by name."""

    datasets: list[DatasetFacts]
    recipes: str = Field(description="Folder of the recipes.")
    options: str = Field(description="What commands have to be told besides to find this lake, as a shell reads it.")


class DatasetAnswer(BaseModel):
    """A recipe and its versions."""

    dataset: DatasetFacts
    versions: list[DatasetVersion] = Field(description="The newest first; also those that were taken back.")
    file: str | None = Field(description="Of the recipe; null where there is none.")
    recipe: str | None = Field(description="Its text.")
    changed: list[str] = Field(description="Keys of it that say something else than when the latest version was built.")
    options: str = Field(description="What commands have to be told besides to find this lake, as a shell reads it.")


class ClassCounts(BaseModel):
    """Images of a class that a version keeps."""

    label: str | None = Field(description="Null: they have none.")
    images: list[int] = Field(description="On each of the sides.")
    total: int


class LeftOut(BaseModel):
    """Images that a version leaves out for the same reason."""

    reason: str
    images: int
    witnesses: int = Field(description="For how many of them another stands.")


class GateValue(BaseModel):
    """A condition of a gate."""

    name: str
    passed: bool
    told: str = Field(description="By what.")
    let_pass: str | None = Field(description="Why it was let pass, though it failed.")


class SubsetMeasure(BaseModel):
    """How well a subset stands for what it was chosen of, in cosine distances to the nearest in it."""

    strategy: str
    among: int = Field(description="Images that it was chosen of.")
    chosen: int
    largest: float
    largest_at_random: float = Field(description="Of a subset drawn by chance.")
    mean: float
    mean_at_random: float
    last: dict[str, int] = Field({}, description="Why images came last, and how many.")
    last_chosen: int = Field(0, description="Of those that are in it all the same.")


class Fact(BaseModel):
    """Something that is told of a version."""

    name: str
    text: str


class FilesAnswer(BaseModel):
    """What a version would be as files of a format."""

    images: int
    bytes: int = Field(description="As they were scanned.")
    notes: list[str] = Field(description="What is lost, and what a person should know of it.")


class VersionAnswer(BaseModel):
    """What is in a version, what is not, and what it was made of."""

    dataset: str
    version: DatasetVersion
    description: str
    content_id: str
    sides: list[str] = Field(description="Empty: it has none.")
    classes: list[ClassCounts] = Field(description="By name; at most two hundred.")
    more_classes: int = Field(description="That are not told.")
    totals: list[int] = Field(description="Images on each of the sides.")
    left_out: list[LeftOut] = Field(description="The most frequent first.")
    gate: list[GateValue]
    subset: SubsetMeasure | None
    leaks: int | None = Field(description="Pairs across sides when it was built; null where it has none.")
    facts: list[Fact] = Field(description="Licence and origin, tables, model and code.")
    notes: list[str] = Field(description="What a person should know.")


class VersionImage(NamedImage):
    """An image of a version."""

    label: str | None
    split: str | None
    reason: str | None = Field(description="Why it is left out; null: it is kept.")
    witness: NamedImage | None = Field(description="What stands for it, or what it is too near to.")
    similarity: float | None = Field(description="Of the two, as far as they were compared.")
    method: str | None = Field(
        description="How that was found: `bytes`, `cosine` of the model, or as the table of pairs has it."
    )
    how: str | None = Field(description="What was done to the witness to get it.")


class VersionImagesAnswer(BaseModel):
    """Images of a version, by path."""

    total: int
    offset: int
    images: list[VersionImage]


class ChangeCounts(BaseModel):
    """Changes of a kind and reason."""

    change: str = Field(
        description="`came`, `went`, `moved` to another side, `relabelled` or `replaced` by other bytes."
    )
    by: str = Field(description="A key of the recipe, or a table.")
    images: int


class ChangedImage(NamedImage):
    """An image that is otherwise in a version."""

    change: str
    before: str | None = Field(description="Side, label, or why it was left out.")
    after: str | None
    by: str
    reason: str = Field(description="Why, in a few words.")


class DiffAnswer(BaseModel):
    """What is otherwise in a version than in another one."""

    counts: list[ChangeCounts]
    total: int = Field(description="Changes of this list.")
    offset: int
    images: list[ChangedImage]


class SplitImages(BaseModel):
    """A side."""

    name: str
    images: int
    give_way: int = Field(description="Those of them that should give way.")


class LeakCounts(BaseModel):
    """Pairs across two sides."""

    kind: str
    one: str
    other: str = Field(description="Whose images give way.")
    pairs: int


class EvidenceImage(NamedImage):
    """An image to look at beside another one."""

    told: str = Field(description="What it is to that one.")


class EvidenceAnswer(BaseModel):
    """What speaks for a problem of an image."""

    said: str = Field(description="In a sentence; empty where the score says it all.")
    boxes: list[Box] = Field(description="Of an image whose boxes are at fault, all of them.")
    beside: list[EvidenceImage]


class LeakNeighbour(NamedImage):
    """An image on another side."""

    split: str
    kind: str
    similarity: float | None = Field(description="Null where the two were not compared themselves.")
    method: str | None = Field(description="How that was found: `bytes`, or as the table of pairs has it.")
    how: str | None = Field(description="What was done to it to get the other.")


class LeakImage(NamedImage):
    """An image that should give way."""

    split: str
    label: str | None
    others: int = Field(description="In how many pairs it is.")
    beside: list[LeakNeighbour] = Field(description="The gravest and likest first.")


class VersionName(BaseModel):
    """A version with sides."""

    dataset: str
    version: int


class LeakageAnswer(BaseModel):
    """Images on two sides."""

    dataset: str | None = Field(description="Null: the splits are the annotations'.")
    version: int | None
    versions: list[VersionName] = Field(description="Of which leakage can be asked.")
    why_not: str | None = Field(description="Why nothing is told; null where it is.")
    splits: list[SplitImages] = Field(description="The cleanest first; of a pair the later one's image gives way.")
    without_split: int = Field(description="Usable images of which no split is known.")
    waiting: int = Field(description="Images that are not compared yet: their leaks aren't seen.")
    not_examined: int = Field(description="Images of which only equal bytes are seen.")
    pairs: int = Field(description="In all.")
    counts: list[LeakCounts]
    built: int | None = Field(description="Pairs when the version was built.")
    total: int = Field(description="Images of this list.")
    offset: int
    images: list[LeakImage] = Field(description="Those in most pairs first.")


class ClusterName(BaseModel):
    """What a cluster is called."""

    cluster: int = Field(description="Its number, which lasts.")
    name: str
    own_name: str = Field(description="What the program calls it.")
    named_by: str | None = Field(description="Who gave the name; null where it is the program's own.")
    named_at: datetime | None
    is_new: bool = Field(description="Whether that was written just now.")


class Cluster(BaseModel):
    """Images that look alike to the model."""

    cluster: int = Field(description="Its number, which lasts.")
    name: str
    own_name: str = Field(description="What the program calls it.")
    named_by: str | None = Field(description="Who gave the name; null where it is the program's own.")
    named_at: datetime | None
    images: int
    share: float = Field(description="Of the images that are in a cluster.")
    spread: float = Field(description="Mean cosine distance to the centre.")
    near: list[FoundImage] = Field(description="Images near the centre, the nearest first.")
    far: list[FoundImage] = Field(description="Other images, the farthest first.")


class ClustersAnswer(BaseModel):
    """Clusters, the largest first."""

    images: int = Field(description="In a cluster, of the folder that was asked for.")
    without: int = Field(description="Images with a vector that are in no cluster yet, in all folders.")
    total: int = Field(description="Clusters of this list.")
    offset: int
    clusters: list[Cluster]
    may_decide: bool = Field(description="Whether who asks may name them.")
