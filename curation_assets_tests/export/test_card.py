"""The card says what is in a version, what is not and why, and what was measured; nothing in it is taken for markup."""

from __future__ import annotations

import polars as pl
import pytest

from curation_assets.export.card import Card, as_html, as_markdown, card_of

MANIFEST = {
    "content_id": "c" * 64,
    "recipe": {"description": "Leaves", "card": {"licence": "CC0-1.0", "sources": ["plot 7"], "limits": ["day alone"]}},
    "tables": {"directory": {"id": "x", "version": 3}},
    "model": {"name": "clip", "version": "2"},
    "leakage": {"pairs": 0, "compared_anew": 20},
    "gate": {"leaks": {"passed": True, "told": "0 pairs"}, "images": {"passed": False, "told": "4, at least 5"}},
    "overridden": {"images": "a first try"},
    "notes": ["numbers lie near"],
}


@pytest.fixture
def rows() -> pl.DataFrame:
    found = [
        ("a.jpg", True, None, None, "rust", "train"),
        ("b.jpg", True, None, None, "<b>rust|", "test"),
        ("c|.jpg", True, None, None, "rust", "test"),
        ("d.jpg", False, "near", "a.jpg", None, None),
        ("e.jpg", False, "near", None, None, None),
        ("f.jpg", False, "blurry", None, None, None),
    ]
    names = ["relative_path", "kept", "reason", "witness", "label", "split"]
    frame = pl.DataFrame(found, dict.fromkeys(names, pl.String) | {"kept": pl.Boolean}, orient="row")
    return frame.with_columns(content_sha256=pl.col("relative_path"))


@pytest.fixture
def card(rows: pl.DataFrame) -> Card:
    return card_of("leaves", 2, MANIFEST, rows)


def test_a_card_needs_the_manifest_and_the_rows_alone(card: Card) -> None:
    assert (card.title, card.text, card.sides) == ("leaves@2", "Leaves", ["train", "test", "images"])
    assert card.counts == [("<b>rust|", [0, 1, 1]), ("rust", [1, 1, 2]), ("all", [1, 2, 3])]
    assert card.left_out == [("near", 2, "d.jpg, for which a.jpg stands"), ("blurry", 1, "f.jpg")]
    facts = dict(card.facts)
    assert (facts["Licence"], facts["Source"], facts["Tables"]) == ("CC0-1.0", "plot 7", "directory at version 3")
    assert dict(card.measured)["Gate: images"] == "fails: 4, at least 5"
    assert list(card.limits) == [
        "day alone", "the condition images of the gate failed, and was let pass: a first try", "numbers lie near",
    ]  # fmt: skip
    assert len(card.examples) == 3


def test_texts_of_the_lake_are_no_markup(card: Card) -> None:
    text = as_markdown(card, ["boxes are not in it"], {"c|.jpg": "test/rust/c%7C.jpg"})
    assert r"| \<b\>rust\| | 0 | 1 | 1 |" in text
    assert r"[c\|.jpg](test/rust/c%257C.jpg)" in text
    assert "- boxes are not in it" in text
    page = as_html(card, {"a.jpg": b"\xff\xd8"})
    assert "<b>rust" not in page
    assert "&lt;b&gt;rust|" in page
    assert "data:image/jpeg;base64,/9g=" in page
    assert "default-src 'none'" in page


def test_what_people_say_now_goes_before_what_the_version_has(rows: pl.DataFrame) -> None:
    said = card_of("leaves", 2, MANIFEST, rows, {"licence": "MIT", "sources": [], "citation": "Doe 2026", "limits": []})
    assert dict(said.facts)["Licence"] == "MIT"
    assert dict(said.facts)["Citation"] == "Doe 2026"
    bare = card_of("leaves", 1, {}, rows.with_columns(split=pl.lit(None, pl.String)))
    assert bare.sides == ["images"]
    assert dict(bare.facts) == {"Licence": "not given"}
    assert "## Known limits" not in as_markdown(bare)
