"""Recipes: what a dataset is made of, as a TOML file says it."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    StrictBool,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from curation_assets.curate.duplicates.keepers import CRITERIA, ORDER
from curation_assets.curate.problems import KINDS
from curation_assets.datasets.splits.sides import Sides

FILES = (".csv", ".parquet")  # of images on sides

NAME = re.compile(r"[A-Za-z0-9_]{1,100}")
DIVERSE, REPRESENTATIVE = "diverse", "representative"  # strategies that go by the model's vectors
Strategy = Literal["all", "random", "balanced", "diverse", "representative"]
LabelIssues = Literal["never", "confirmed", "suspected"]
ANNOTATIONS = "annotations"  # or a file gives sides
SIDES = ("train", "val", "test")
CLEANEST = ("test", "val", "train")  # of two that can't both be kept, the other's images are left out


def _several(value: Any) -> Any:
    return (value,) if isinstance(value, str) else value


Texts = Annotated[tuple[str, ...], BeforeValidator(_several)]


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Images(_Table):
    """Which images are looked at.

    Attributes:
        folders: these with all below them; none: all.
        tags: those that people tagged with one of these; none: all.
        where: a condition in SQL, as searches have it.
    """

    folders: Texts = ()
    tags: Texts = ()
    where: str | None = None


class Labels(_Table):
    """Which label an image has.

    Attributes:
        field: of what counts of the annotations.
        path: or a pattern of paths with ``{class}``.
        zero_shot: or the label of ``CURATION_LABELS`` that suits it best.
        predictions: confidence from which on a prediction of the field stands in for a label; None: none does.
        merge: new name → labels that become it.
        drop: labels whose images are left out.
        unlabelled, several: what becomes of images without a label, and of those with several.
    """

    field: str | None = None
    path: str | None = None
    zero_shot: StrictBool = False
    predictions: float | None = Field(None, ge=0, le=1)
    merge: dict[str, Texts] = {}
    drop: Texts = ()
    unlabelled: Literal["leave_out", "keep"] = "leave_out"
    several: Literal["leave_out", "keep"] = "leave_out"

    @model_validator(mode="after")
    def _one_origin(self) -> Labels:
        if (self.field is not None) + (self.path is not None) + self.zero_shot != 1:
            raise ValueError("give one of field, path and zero_shot")
        if self.predictions is not None and self.field is None:
            raise ValueError("predictions are of a field: give one")
        if self.path is not None and "{class}" not in self.path:
            raise ValueError("path names the label as {class}, for example coffee/*/{class}/*")
        merged = [label for labels in self.merge.values() for label in labels]
        if twice := sorted({label for label in merged if merged.count(label) > 1}):
            raise ValueError(f"merge: {', '.join(twice)} can become one label only")
        return self


class LeaveOut(BaseModel):
    """What is left out.

    Attributes:
        exact, near, burst: of images of the same bytes, photograph or scene all but one.
        mislabelled, conflicting: label issues.
        kinds: kind of problem → threshold; None: that of the settings.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    exact: StrictBool = True
    near: StrictBool = True
    burst: StrictBool = False
    mislabelled: LabelIssues = "confirmed"
    conflicting: LabelIssues = "suspected"
    kinds: dict[str, float | None] = {}

    @model_validator(mode="before")
    @classmethod
    def _kinds_apart(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        own = {name: given for name, given in value.items() if name in cls.model_fields and name != "kinds"}
        kinds: dict[str, float | None] = {}
        for name, given in value.items():
            if name in own or name not in KINDS:
                own[name] = given  # no key of a recipe: told as such
            elif isinstance(given, bool):
                kinds |= {name: None} if given else {}
            elif isinstance(given, int | float) and math.isfinite(given) and given > 0:
                kinds[name] = float(given)
            else:
                raise ValueError(f"{name}: true, false or a threshold above 0")
        return own | {"kinds": kinds}


class Keep(_Table):
    """Which image of a group stays.

    Attributes:
        order: criteria, the first decides first.
    """

    order: Texts = ORDER

    @field_validator("order")
    @classmethod
    def _known(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        from curation_assets.curate.duplicates.keepers import check_order
        from curation_assets.errors import CurationError

        try:
            return check_order(value)
        except CurationError as error:
            raise ValueError(str(error)) from None


class Subset(_Table):
    """How many images are kept.

    Attributes:
        size: of all; None: all.
        strategy: ``random``; ``balanced``: equally many of each class, as far as there are; ``diverse``: none is far
            from one that is chosen; ``representative``: they are near to one that is chosen, on average.
        per_class_at_least: of each class so many, if there are.
        seed: of chance.
    """

    size: int | None = Field(None, ge=1)
    strategy: Strategy = "all"
    per_class_at_least: int = Field(0, ge=0)
    seed: int = Field(0, ge=0, lt=2**32)

    @model_validator(mode="after")
    def _sized(self) -> Subset:
        if (self.size is None) != (self.strategy == "all"):
            raise ValueError("size goes with strategy random, balanced, diverse or representative")
        return self

    @property
    def is_by_vectors(self) -> bool:
        """Whether it is chosen by the model's vectors."""
        return self.strategy in (DIVERSE, REPRESENTATIVE)


class Together(_Table):
    """What lies on one side.

    Attributes:
        duplicates: images of the same bytes, photograph or scene.
        path: patterns of paths; what is equal in their named parts is together.
        column: the same of columns, as conditions have them.
    """

    duplicates: StrictBool = True
    path: Texts = ()
    column: Texts = ()


class Apart(_Table):
    """What lies no nearer to another side than this, where it stands in an order.

    Attributes:
        numbering: of file names.
        time_s: seconds, of one camera.
        place_m: metres.
    """

    numbering: float | None = Field(None, ge=1, le=1000)
    time_s: float | None = Field(None, gt=0, le=1e7)
    place_m: float | None = Field(None, gt=0, le=1e6)


class Split(_Table):
    """Sides.

    Attributes:
        train, val, test: shares, 0 to 1; together 1.
        folds: or so many sides of the same size.
        groups: or each of what images share is a side, as a farm or a season, to be left out in turn
            (leave-one-group-out): a pattern of paths, or a column or SQL of columns.
        stratify: whether every class gets its share of each side; the name of the label will do.
        given: ``annotations``: images that these put on a side lie there; or a CSV or Parquet file that names images,
            relative to the recipe's.
    """

    train: float = Field(0.0, ge=0, le=1)
    val: float = Field(0.0, ge=0, le=1)
    test: float = Field(0.0, ge=0, le=1)
    folds: int | None = Field(None, ge=2, le=50)
    groups: str | None = Field(None, min_length=1)
    stratify: StrictBool | str = True
    seed: int = Field(0, ge=0, lt=2**32)
    given: str | None = None
    together: Together = Together()
    apart: Apart = Apart()

    @field_validator("given")
    @classmethod
    def _can_be_given(cls, value: str | None) -> str | None:
        if value is None or value == ANNOTATIONS:
            return value
        if not value.lower().endswith(FILES):
            raise PydanticCustomError("literal_error", "this can't be used")  # told with the nearest word
        if Path(value).is_absolute():
            raise ValueError("a path relative to the recipe's file is wanted")
        return value

    @property
    def given_file(self) -> str | None:
        """The file of images on sides, relative to the recipe's."""
        return self.given if self.given != ANNOTATIONS else None

    @model_validator(mode="after")
    def _whole(self) -> Split:
        total = self.train + self.val + self.test
        if (self.folds is not None) + (self.groups is not None) + bool(total) > 1:
            raise ValueError("give one of shares or folds or groups")
        if self.groups is not None:
            if not self.groups_are_of_paths and re.search(r"\*\*|/\*", self.groups):
                raise ValueError("groups of paths are named in braces, for example coffee/{farm}/**")
            if self.given is not None:
                raise ValueError("given puts images on sides by their name; with groups each lies in its own")
            if "stratify" in self.model_fields_set and self.stratify is not False:
                raise ValueError("groups are sides as they are, nothing is stratified: leave stratify out")
            return self
        if self.folds is None and not math.isclose(total, 1.0, abs_tol=1e-6):
            raise ValueError(f"train, val and test are {total:g} together, not 1")
        if self.folds is None and max(self.train, self.val, self.test) == 1:
            raise ValueError("all on one side is no split: leave [split] out")
        return self

    @property
    def groups_are_of_paths(self) -> bool:
        """Whether ``groups`` is a pattern of paths; a column has no braces in its name."""
        return self.groups is not None and "{" in self.groups

    @property
    def sides(self) -> Sides:
        """Their names, shares, and whom others give way to; not of groups, which only a lake tells."""
        if self.folds is not None:
            names = [f"fold_{number + 1}" for number in range(self.folds)]
            return Sides(names, [1 / self.folds] * self.folds, list(range(self.folds)))
        shares = {name: getattr(self, name) for name in SIDES}
        names = [name for name in SIDES if shares[name] > 0]
        return Sides(names, [shares[name] for name in names], [names.index(n) for n in CLEANEST if n in names])


class Gate(_Table):
    """What has to hold before a version is published.

    Attributes:
        leaks: pairs of images of the same bytes, photograph or scene on two sides, at most.
        copies: pairs of the same bytes alone, at most.
        images: at least.
        images_per_class: at least, of each.
        share_flagged: of kept images with a problem, at most.
        undecided_label_issues: kept images with one, at most.
        missing: kept images whose file is gone or another by its size, at most.
        drift: of what is kept from the last version, at most: 0.5 where none can be seen, 1 where they have nothing in
            common.
    """

    leaks: int | None = Field(0, ge=0)
    copies: int | None = Field(0, ge=0)
    images: int = Field(1, ge=1)
    images_per_class: int | None = Field(None, ge=0)
    share_flagged: float | None = Field(None, ge=0, le=1)
    undecided_label_issues: int | None = Field(None, ge=0)
    missing: int | None = Field(None, ge=0)
    drift: float | None = Field(None, ge=0.5, le=1)


class Card(_Table):
    """What people say of the data, for the card that stands with every version and export.

    Attributes:
        licence: under which it may be used, as its name, an SPDX identifier or an address.
        sources: where the images come from.
        citation: how to cite it.
        limits: what it should not be used for, or doesn't hold.
    """

    licence: str | None = None
    sources: Texts = ()
    citation: str | None = None
    limits: Texts = ()


class Recipe(_Table):
    """A recipe."""

    name: str
    description: str = ""
    automatic: StrictBool = False
    images: Images = Images()
    labels: Labels | None = None
    leave_out: LeaveOut = LeaveOut()
    keep: Keep = Keep()
    subset: Subset = Subset()
    split: Split | None = None
    gate: Gate = Gate()
    card: Card = Card()
    _folder: Path = PrivateAttr(Path())

    @property
    def folder(self) -> Path:
        """Where it lies: files that it names are relative to that. It is no part of what it says."""
        return self._folder

    def lying_in(self, folder: Path) -> Recipe:
        """The same recipe, of a folder."""
        found = self.model_copy()
        found._folder = folder
        return found

    @field_validator("name")
    @classmethod
    def _can_be_named(cls, value: str) -> str:
        if not NAME.fullmatch(value):
            raise ValueError("letters, digits and _ only, at most 100")
        return value

    @model_validator(mode="after")
    def _fits(self) -> Recipe:
        stratify = self.split.stratify if self.split is not None else True
        field = self.labels.field if self.labels is not None else None
        if isinstance(stratify, str) and (self.labels is None or stratify not in (field, "class")):
            raise ValueError(
                f"split.stratify: {stratify!r} is not the label; write true, false or {field or 'class'!r}"
            )
        if self.labels is None and (self.subset.strategy == "balanced" or self.subset.per_class_at_least):
            raise ValueError("subset: classes need [labels]")
        if self.labels is None and self.gate.images_per_class is not None:
            raise ValueError("gate.images_per_class: classes need [labels]")
        return self

    @property
    def needs_label_issues(self) -> bool:
        """Whether label issues decide anything."""
        out = self.leave_out
        suspected = self.labels is not None and "suspected" in (out.mislabelled, out.conflicting)
        return suspected or self.gate.undecided_label_issues is not None


# Words that a value may be, by the key they are given for: what a fault names the nearest of.
WORDS: dict[str, tuple[str, ...]] = {
    "subset.strategy": get_args(Strategy),
    "leave_out.mislabelled": get_args(LabelIssues),
    "leave_out.conflicting": get_args(LabelIssues),
    "labels.unlabelled": ("leave_out", "keep"),
    "labels.several": ("leave_out", "keep"),
    "split.given": (ANNOTATIONS, f"a file that ends in {' or '.join(FILES)}"),
    "keep.order": tuple(CRITERIA),
}
