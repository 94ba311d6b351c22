"""OpenAI's vocabulary cut into tokens by transformers, as the encoder does it, and by an independent implementation.

open_clip carries the vocabulary and a tokenizer in plain Python. It is fetched without its dependencies (torchvision
among them) into a folder of its own, and only its tokenizer's file is run.
"""

from __future__ import annotations

import gzip
import html
import importlib.util
import json
import random
import shutil
import subprocess
import sys
from typing import Any

import pytest

from curation_assets.clip.encoder import Encoder
from curation_assets.clip.source import DEMO_FOLDER
from curation_assets.clip.spec import MAX_TOKENS

PACKAGES = ["open_clip_torch==3.3.0", "ftfy==6.3.1"]
MERGES = 49152 - 256 - 2  # of the lines in OpenAI's file, those that its models use


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """open_clip's tokenizer module."""
    target = tmp_path_factory.mktemp("open_clip")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(target), *PACKAGES]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    if done.returncode:
        pytest.skip(f"{' and '.join(PACKAGES)} can't be had here: {done.stderr.strip().splitlines()[-1:]}")
    sys.path.insert(0, str(target))  # for ftfy, which the module imports
    try:
        spec = importlib.util.spec_from_file_location("open_clip_tokenizer", target / "open_clip" / "tokenizer.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(target))
    return module


@pytest.fixture(scope="module")
def encoder(theirs: Any, tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    """An encoder whose tokenizer has OpenAI's vocabulary, in the files that the hub's models have."""
    folder = tmp_path_factory.mktemp("vocabulary")
    marks = {"<start_of_text>": "<|startoftext|>", "<end_of_text>": "<|endoftext|>"}  # as the hub's files call them
    vocabulary = theirs.SimpleTokenizer().encoder
    assert marks.keys() <= vocabulary.keys()
    (folder / "vocab.json").write_text(json.dumps({marks.get(key, key): value for key, value in vocabulary.items()}))
    with gzip.open(theirs.default_bpe(), "rt", encoding="utf-8") as file:
        lines = file.read().split("\n")
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *lines[1 : MERGES + 1]]) + "\n")
    for name in ("config.json", "preprocessor_config.json", "tokenizer_config.json"):
        shutil.copy(DEMO_FOLDER / name, folder)
    return Encoder(folder, "cpu", "float32")


def ours(encoder: Encoder, texts: list[str]) -> list[list[int]]:
    rows = zip(*encoder._tokenizer.tokens(texts), strict=True)
    return [ids[mask.bool()].tolist() for ids, mask in rows]


def of_open_clip(theirs: Any, texts: list[str]) -> list[list[int]]:
    rows = theirs.SimpleTokenizer()(texts, context_length=MAX_TOKENS).tolist()
    end = theirs.SimpleTokenizer().eot_token_id
    return [row[: row.index(end) + 1] for row in rows]


def is_plain(theirs: Any, text: str) -> bool:
    """Whether OpenAI's cleaning, which transformers leaves out, would change nothing but white space."""
    return html.unescape(theirs.ftfy.fix_text(text)) == text


TEXTS = [
    "a photo of a maize leaf with common rust",
    "Northern leaf blight (Exserohilum turcicum), 3rd stage: 45% of the leaf!",
    "UPPER lower MiXeD",
    "it's, don't, we'll, I'd, they've, you're, I'm, farmers'",
    "IMG_0042.JPG 2024-07-31T12:00 3.5kg/ha $5 #1 @home a+b=c e-mail foo_bar",
    "  leading, \t tab,\nnew line  and    many spaces  ",
    "Reife Tomaten, fünf Stück – Größe groß; Äpfel über Öl",
    "Feuilles de caféier atteintes de rouille à l'été",
    "¿Qué plaga afecta al maíz? ¡Muchísimas!",
    "Лист кукурузы с ржавчиной",
    "玉米叶片上的锈病",
    "トウモロコシの葉のさび病",
    "옥수수 잎 녹병",
    "मक्के की पत्ती पर रतुआ रोग",
    "صدأ على ورقة الذرة",
    "ใบข้าวโพดเป็นโรคราสนิม",
    "Φύλλο καλαμποκιού ΜΕ ΣΚΟΥΡΙΆ",
    "🌽🍃 leaf 👩🏽‍🌾 farmer 🇰🇪 flag ❤️ heart",
    "½ cup ² m² x³ №5 ©®™ → ← ∑ € £ °C",
    "!!! ... ??? --- ((())) [[]] {} <> /\\ |~`^",
    "a" * 300,
    "rust " * 200,
    "1234567890" * 20,
    "antidisestablishmentarianism pneumonoultramicroscopicsilicovolcanoconiosis",
    "",
    " ",
    ".",
    "<start> <|startoftext> <|end|>",
]


def test_texts_of_many_languages_are_cut_into_the_same_tokens(theirs: Any, encoder: Encoder) -> None:
    plain = [text for text in TEXTS if is_plain(theirs, text)]
    assert len(plain) >= len(TEXTS) - 2
    for text, mine, other in zip(plain, ours(encoder, plain), of_open_clip(theirs, plain), strict=True):
        assert mine == other, text


def test_random_strings_are_cut_into_the_same_tokens(theirs: Any, encoder: Encoder) -> None:
    rng = random.Random(4)
    blocks = [(32, 126), (32, 126), (0xC0, 0x17F), (0x370, 0x3FF), (0x400, 0x4FF), (0x4E00, 0x9FFF), (0x1F300, 0x1F5FF)]
    texts = []
    for _ in range(3000):
        low, high = rng.choice(blocks)
        letters = [chr(rng.randint(low, high)) if rng.random() < 0.85 else rng.choice(" .,'-09") for _ in range(60)]
        texts.append("".join(letters[: rng.randint(1, 60)]))
    # Python writes a capital sigma at the end of a word small as ς, the tokenizer of transformers as σ everywhere.
    plain = [text for text in texts if is_plain(theirs, text) and "Σ" not in text]
    assert len(plain) > 2000
    different = [
        text
        for text, mine, other in zip(plain, ours(encoder, plain), of_open_clip(theirs, plain), strict=True)
        if mine != other
    ]
    assert different == []


def test_a_long_text_is_cut_at_the_same_token_and_ends_with_the_mark(theirs: Any, encoder: Encoder) -> None:
    (mine,), (other,) = ours(encoder, ["maize rust " * 100]), of_open_clip(theirs, ["maize rust " * 100])
    assert mine == other
    assert len(mine) == MAX_TOKENS
    assert mine[-1] == theirs.SimpleTokenizer().eot_token_id == 49407
