"""Why one version leaves out an image that another keeps: questions, each asked of what no earlier one told of."""

from __future__ import annotations

from collections.abc import Callable

import polars as pl

from curation_assets.curate.overview import as_decided
from curation_assets.curate.problems import KINDS
from curation_assets.datasets import steps
from curation_assets.datasets.changes.causes import (
    AT,
    NOT_THERE,
    TAKEN_BACK,
    cause,
    changed_key,
    of_decision,
    recipe_cause,
    value_told,
)
from curation_assets.datasets.changes.labelling import labels_cause
from curation_assets.datasets.changes.moments import Moment
from curation_assets.decisions.kinds import DIFFERENT, DUPLICATE, KEEP, KEEPER, QUALITY, REMOVE, SAME, UNSURE
from curation_assets.decisions.record import read_decisions, read_rows

Asked = Callable[[pl.DataFrame], pl.DataFrame]
_DUPLICATES = ("exact", "near", "burst")
_LABELS = (steps.NO_LABEL, steps.SEVERAL_LABELS, steps.DROPPED_LABEL)
_ISSUES = ("mislabelled", "conflicting")


def left_and_kept(rows: pl.DataFrame, *, is_back: bool) -> pl.DataFrame:
    """What was told of images where they are left out, and their content where they are kept."""
    then, now = ("", "_after") if is_back else ("_after", "")  # which version leaves it out, which keeps it
    return rows.select(
        AT,
        "relative_path",
        reason=f"reason{then}",
        witness=f"witness{then}",
        similarity=f"similarity{then}",
        witness_kept=f"witness_kept{then}",
        witness_reason=f"witness_reason{then}",
        witness_witness=f"witness_witness{then}",
        content=f"content_sha256{then}",
        content_kept=f"content_sha256{now}",
    )


class Leaving:
    """Questions to images that one version leaves out and another keeps.

    Args:
        left, kept: what the one and the other were made of.
        is_back: whether what leaves them out is the earlier.
    """

    def __init__(self, left: Moment, kept: Moment, *, is_back: bool) -> None:
        self._left, self._kept, self._is_back = left, kept, is_back
        self._one, self._other = (left, kept) if is_back else (kept, left)

    @property
    def questions(self) -> list[Asked]:
        """In their order: the first that knows counts."""
        return [
            self._directory,
            self._choice,
            self._bytes,
            self._decided,
            self._labels,
            self._issue_words,
            self._problems,
            self._examined,
            self._duplicates,
            self._subset,
            self._split,
        ]

    def _directory(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Files that come and go, or can't be used."""
        rows = rows.filter(pl.col("reason").is_null())
        if not len(rows):
            return cause(rows, "")
        columns = ["relative_path", "content_sha256", "status", "error"]
        paths, contents = (rows[name].unique().implode() for name in ("relative_path", "content_kept"))
        where = pl.col("relative_path").is_in(paths) | pl.col("content_sha256").is_in(contents)
        there = self._left.tables.directory.latest().read(columns, where=where).drop("_file")
        its = rows.join(there.drop("content_sha256"), on="relative_path", how="left")
        bad = its.filter(pl.col("status").is_not_null() & (pl.col("status") != "ok"))
        was = "was " if self._is_back else ""
        error = pl.when(pl.col("error").is_not_null()).then(pl.lit(": ") + pl.col("error")).otherwise(pl.lit(""))
        told = [cause(bad, pl.lit(f"directory: {was}") + pl.col("status") + error, table="directory")]
        gone = its.filter(pl.col("status").is_null())
        same = there.join(gone.select(content_sha256="content_kept"), on="content_sha256", how="semi")
        before = pl.col("relative_path").is_in(same["relative_path"].implode())
        still = self._kept.tables.directory.latest().read(["relative_path"], where=before)
        elsewhere = same.join(still, on="relative_path", how="anti").sort("relative_path")
        elsewhere = elsewhere.unique("content_sha256", keep="first").select("content_sha256", _place="relative_path")
        renamed = gone.join(elsewhere, left_on="content_kept", right_on="content_sha256")
        word = "from" if self._is_back else "to"
        told.append(cause(renamed, pl.lit(f"directory: renamed {word} ") + pl.col("_place"), table="directory"))
        since = self._left.tables.directory.newest_version()
        what = f"directory: new since its version {since}" if self._is_back else "directory: file is gone"
        told.append(cause(gone, what, table="directory"))
        return pl.concat(told)

    def _choice(self, rows: pl.DataFrame) -> pl.DataFrame:
        """What ``[images]`` chooses."""
        rows = rows.filter(pl.col("reason").is_null())
        if (key := changed_key(self._one, self._other, "images")) is not None:
            return recipe_cause(rows, key, self._one, self._other)
        if self._left.recipe.get("images.where") is None:
            return cause(rows.clear(), "")
        word = "it meets it now" if self._is_back else "it does not meet it any more"
        return cause(rows, f"recipe images.where: {word}", recipe_key="images.where")

    def _bytes(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Other bytes than before, so all that is told of them is new."""
        rows = rows.filter(pl.col("content") != pl.col("content_kept"))
        told = pl.lit("directory: its file has other bytes")
        return cause(rows, told if self._is_back else told + pl.lit("; ") + pl.col("reason"), table="directory")

    def _decided(self, rows: pl.DataFrame) -> pl.DataFrame:
        """A person's word."""
        rows = rows.filter(pl.col("reason").is_in([steps.DECIDED, steps.UNSURE]))
        if not len(rows):
            return cause(rows, "")
        said = read_decisions(self._left.tables.decisions).rows
        field = self._left.recipe.get("labels.field")
        of_picture = (pl.col("kind") == REMOVE) & (pl.col("field") == QUALITY)
        of_label = (pl.col("kind") == UNSURE) & pl.col("field").eq(pl.lit(field, pl.String))
        of_path = (pl.col("kind") == REMOVE) & (pl.col("field") == DUPLICATE)
        by_content = rows.join(
            said.filter(of_picture | of_label).drop("relative_path"), left_on="content", right_on="content_sha256"
        )
        by_content = by_content.filter((pl.col("kind") == UNSURE) == (pl.col("reason") == steps.UNSURE))
        by_path = rows.filter(pl.col("reason") == steps.DECIDED).join(
            said.filter(of_path), left_on=["relative_path", "content"], right_on=["relative_path", "content_sha256"]
        )
        against = pl.concat([_with_words(by_content), _with_words(by_path)]).unique(AT, keep="first")
        if not self._is_back:
            return of_decision(against)
        if (key := changed_key(self._one, self._other, *(f"leave_out.{kind}" for kind in _ISSUES))) is not None:
            unsure = rows.filter(pl.col("reason") == steps.UNSURE)
            return recipe_cause(unsure, key, self._one, self._other)
        return self._no_more(against)

    def _no_more(self, against: pl.DataFrame) -> pl.DataFrame:
        """What came in place of decisions: a later word on the same question, or their being taken back.

        Else they were not made yet.
        """
        every = read_rows(self._kept.tables.decisions)
        undoing = every.filter(pl.col("undoes").is_not_null()).drop("decision_id").rename({"undoes": "decision_id"})
        back = against.select(AT, "decision_id").join(undoing, on="decision_id")
        later = read_decisions(self._kept.tables.decisions).rows
        asked = against.select(AT, "content", _path="relative_path", _of="field")
        others = asked.join(later, left_on="content", right_on="content_sha256")
        its = pl.col("relative_path") == pl.col("_path")
        others = others.filter(
            ((pl.col("_of") != DUPLICATE) & (pl.col("field") == pl.col("_of")))
            | ((pl.col("_of") == DUPLICATE) & its & (pl.col("field").eq(DUPLICATE) | pl.col("kind").eq(KEEPER)))
        )
        return pl.concat([of_decision(others), of_decision(back, TAKEN_BACK), of_decision(against, NOT_THERE)])

    def _labels(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Labels that came, went, or are several."""
        return labels_cause(rows.filter(pl.col("reason").is_in(_LABELS)), self._one, self._other)

    def _issue_words(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Which label issues are left out."""
        return pl.concat(self._of_key(rows.filter(pl.col("reason") == kind), f"leave_out.{kind}") for kind in _ISSUES)

    def _problems(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Scores, and the thresholds that they were judged by."""
        rows = rows.filter(pl.col("reason").is_in(list(KINDS)))
        if not len(rows):
            return cause(rows, "")
        left = as_decided(self._left.judged(self._left.thresholds))
        now = self._kept.judged(self._kept.thresholds)
        told = [cause(rows.clear(), "")]
        for (name,), some in rows.group_by("reason", maintain_order=True):
            kind = KINDS[str(name)]
            score, of_image = f"{kind.name}_score", ["relative_path", "content_sha256"]
            mine = ["relative_path", "content"]
            measured = left.select(*of_image, _score=score, _limit=_limit(kind.name))
            some = some.join(measured, left_on=mine, right_on=of_image, how="left")
            some = some.join(now.select(*of_image, _was=score), left_on=mine, right_on=of_image, how="left")
            told.append(self._kept_all_the_same(some))
            key = f"leave_out.{kind.name}"
            its = pl.concat_str(pl.lit(f" (its {kind.scale} "), _number("_score"), pl.lit(")"))
            limits = [moment.thresholds.get(kind.name) for moment in (self._one, self._other)]
            if changed_key(self._one, self._other, key) is not None:
                same = some.filter(pl.col("_was").is_null() | ((pl.col("_was") - pl.col("_score")).abs() < 1e-9))
                told.append(
                    recipe_cause(same, key, self._one, self._other, its).with_columns(threshold=pl.lit(limits[1]))
                )
            elif limits[0] != limits[1]:
                said = (
                    pl.lit(f"settings: threshold of {kind.name} {value_told(limits[0])} → {value_told(limits[1])}")
                    + its
                )
                told.append(cause(some, said, threshold=pl.lit(limits[1], pl.Float64)))
            table = kind.told_by if kind.told_by != "splits" else "groups"
            sign = "at least" if kind.is_counted else "below" if kind.is_low else "above"
            if self._is_back:
                change = pl.concat_str(pl.lit(f", {kind.scale} "), _number("_was"), pl.lit(", was "), _number("_score"))
                change = pl.when(pl.col("_was").is_not_null()).then(change).otherwise(pl.lit(""))
                said = pl.lit(f"{table}: {kind.name} no more") + change
            else:
                said = pl.concat_str(
                    pl.lit(f"{table}: {kind.name}, {kind.scale} "), _number("_score"), pl.lit(f" {sign} "),
                    _number("_limit"),
                )  # fmt: skip
            told.append(cause(some, said, table=table, threshold=pl.col("_limit")))
        return pl.concat(told)

    def _kept_all_the_same(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Pictures that a person said are good enough, or did until then."""
        said = read_decisions(self._kept.tables.decisions).rows
        said = said.filter((pl.col("kind") == KEEP) & (pl.col("field") == QUALITY)).drop("relative_path")
        found = _with_words(rows.join(said, left_on="content", right_on="content_sha256"))
        if self._is_back:
            return of_decision(found)
        every = read_rows(self._left.tables.decisions)
        undone = every.filter(pl.col("undoes").is_not_null()).drop("decision_id").rename({"undoes": "decision_id"})
        there = read_decisions(self._left.tables.decisions).rows
        back = of_decision(found.select(AT, "decision_id").join(undone, on="decision_id"), TAKEN_BACK)
        return pl.concat([back, of_decision(found.join(there, on="decision_id", how="anti"), NOT_THERE)])

    def _examined(self, rows: pl.DataFrame) -> pl.DataFrame:
        """What was never compared."""
        rows = rows.filter(pl.col("reason") == steps.NOT_EXAMINED)
        return cause(rows, "pairs: compared since" if self._is_back else "pairs: not compared yet", table="pairs")

    def _duplicates(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Who stands for whom."""
        rows = rows.filter(pl.col("reason").is_in(_DUPLICATES))
        if not len(rows):
            return cause(rows, "")
        told = [self._of_key(rows.filter(pl.col("reason") == kind), f"leave_out.{kind}") for kind in _DUPLICATES]
        told.append(self._kept_for_others(rows))
        told.append(self._of_key(rows.filter(pl.col("witness_reason").is_in(_DUPLICATES)), "keep.order"))
        by = pl.col("witness")
        if self._is_back:
            went = rows.filter(~pl.col("witness_kept").fill_null(value=False))
            why = pl.coalesce(pl.lit(" (") + pl.col("witness_reason") + pl.lit(")"), pl.lit(""))
            is_its = pl.col("witness_witness") == pl.col("relative_path")
            told.append(
                cause(went.filter(is_its), pl.lit("groups: it stands for ") + by + pl.lit(" now"), table="groups")
            )
            told.append(cause(went, pl.lit("groups: its keeper ") + by + pl.lit(" went") + why, table="groups"))
            told.append(cause(rows, pl.col("reason") + pl.lit(" no more: ") + by + pl.lit(" (pairs)"), table="pairs"))
            return pl.concat(told)
        is_like = pl.col("similarity").is_not_null() & (pl.col("reason") != "exact")
        alike = pl.when(is_like).then(pl.lit(" ") + _number("similarity"))
        is_new = pl.when(pl.col("witness_kept").is_null()).then(pl.lit(", which came")).otherwise(pl.lit(""))
        told.append(
            cause(
                rows,
                pl.concat_str("reason", pl.lit(" "), by, alike.otherwise(pl.lit("")), pl.lit(" (pairs)"), is_new),
                table="pairs",
            )
        )
        return pl.concat(told)

    def _of_key(self, rows: pl.DataFrame, *beginnings: str) -> pl.DataFrame:
        """That a key of the recipe is another; no rows where none is."""
        key = changed_key(self._one, self._other, *beginnings)
        return cause(rows.clear(), "") if key is None else recipe_cause(rows, key, self._one, self._other)

    def _kept_for_others(self, rows: pl.DataFrame) -> pl.DataFrame:
        """What people said of pairs, or of whom to keep, in one version and not in the other."""
        one, other = (read_decisions(moment.tables.decisions).rows for moment in (self._one, self._other))
        contents = self._other.tables.directory.latest()
        paths = pl.col("relative_path").is_in(rows["witness"].drop_nulls().unique().implode())
        its = contents.read(["relative_path", "content_sha256"], where=paths).drop("_file")
        both = rows.join(its.rename({"content_sha256": "_by"}), left_on="witness", right_on="relative_path")
        both = both.with_columns(
            first=pl.min_horizontal("content_kept", "_by"), second=pl.max_horizontal("content_kept", "_by")
        )
        ends = ["relative_path", "witness"] if self._is_back else ["witness", "relative_path"]  # who stands, who stood
        told = []
        for said, others, stands, of_them in ((other, one, ends[0], ""), (one, other, ends[1], NOT_THERE)):
            only = said.join(others, on="decision_id", how="anti")
            of_two = only.filter(pl.col("kind").is_in([SAME, DIFFERENT])).with_columns(
                first=pl.min_horizontal("content_sha256", "other_sha256"),
                second=pl.max_horizontal("content_sha256", "other_sha256"),
            )
            told.append(of_decision(both.select(AT, "first", "second").join(of_two, on=["first", "second"]), of_them))
            keepers = only.filter(pl.col("kind") == KEEPER)
            of_keeper = rows.select(AT, stands).join(keepers, left_on=stands, right_on="relative_path")
            told.append(of_decision(of_keeper, of_them))
        return pl.concat(told)

    def _subset(self, rows: pl.DataFrame) -> pl.DataFrame:
        """What chance drew, or what others stand for."""
        rows = rows.filter(pl.col("reason") == steps.SUBSET)
        if (key := changed_key(self._one, self._other, "subset")) is not None:
            return recipe_cause(rows, key, self._one, self._other)
        return cause(rows, "subset: there is room for it" if self._is_back else "subset: others have its place")

    def _split(self, rows: pl.DataFrame) -> pl.DataFrame:
        """What lies too near to another side."""
        is_buffer = pl.col("reason") == steps.BUFFER
        rows = rows.filter(is_buffer | pl.col("reason").str.starts_with("joins "))
        if (key := changed_key(self._one, self._other, "split")) is not None:
            return recipe_cause(rows, key, self._one, self._other)
        if self._is_back:
            return cause(rows, pl.lit("split: no ") + pl.col("reason") + pl.lit(" any more"))
        by = pl.coalesce(pl.lit(" ") + pl.col("witness"), pl.lit(""))
        near = pl.lit("split: too near to another side (buffer)") + by
        return cause(rows, pl.when(is_buffer).then(near).otherwise(pl.lit("split: ") + pl.col("reason") + by))


def _with_words(rows: pl.DataFrame) -> pl.DataFrame:
    """Rows with a decision joined to them: its own reason in place of the version's."""
    words = ["decision_id", "decided_at", "decided_by", "kind", "field", "value"]
    return rows.select(AT, "relative_path", "content", *words, reason="reason_right")


def _limit(kind: str) -> pl.Expr:
    """The threshold as it moved with the group, out of score and severity."""
    score, severity = pl.col(f"{kind}_score"), pl.col(f"{kind}_severity")
    return score / (2 - severity) if KINDS[kind].is_low else score / severity


def _number(column: str) -> pl.Expr:
    text = pl.col(column).round_sig_figs(3).cast(pl.Float64).round(6).cast(pl.String).str.strip_suffix(".0")
    return pl.coalesce(text, pl.lit("unknown"))
