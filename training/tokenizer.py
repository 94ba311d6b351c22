"""The model's own small byte-pair vocabulary, learned from the captions, in the files that ``CLIPTokenizer`` reads."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers

START, END = "<|startoftext|>", "<|endoftext|>"
# How CLIP cuts a text into words before it cuts words into pieces.
_WORDS = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"


def write_tokenizer(captions: Iterable[str], folder: Path, size: int) -> int:
    """Learn merges from captions and write ``vocab.json``, ``merges.txt`` and ``tokenizer_config.json``.

    Args:
        size: most entries of the vocabulary, marks included.

    Returns:
        Entries it has.
    """
    tokenizer = Tokenizer(models.BPE(end_of_word_suffix="</w>", unk_token=END))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_WORDS), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    # Every byte, alone and at the end of a word, so that any text has tokens.
    trainer = trainers.BpeTrainer(
        vocab_size=size, initial_alphabet=letters, end_of_word_suffix="</w>", show_progress=False, min_frequency=2
    )
    tokenizer.train_from_iterator(captions, trainer)
    learned = json.loads(tokenizer.to_str())["model"]["merges"]
    vocabulary = letters + [f"{letter}</w>" for letter in letters]
    known = set(vocabulary)
    merges = []
    for first, second in learned:
        if len(vocabulary) + 2 == size:
            break
        merges.append(f"{first} {second}")
        if first + second not in known:
            known.add(first + second)
            vocabulary.append(first + second)
    vocabulary += [START, END]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps({token: index for index, token in enumerate(vocabulary)}))
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges]) + "\n")
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "CLIPTokenizer", "model_max_length": 77}, indent=2) + "\n"
    )
    return len(vocabulary)
