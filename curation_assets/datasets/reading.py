"""Recipes of files: every fault with its file, line and key, and the nearest word that would do."""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from curation_assets.curate.problems import KINDS
from curation_assets.datasets.recipe import WORDS, Recipe
from curation_assets.errors import CurationError, reason_of

SUFFIX = ".toml"
_SECTION = re.compile(r"^\s*\[+\s*([^\]]+?)\s*\]+\s*(?:#.*)?$")
_KEY = re.compile(r"""^\s*(?:"([^"]+)"|'([^']+)'|([A-Za-z0-9_-]+(?:\s*\.\s*[A-Za-z0-9_-]+)*))\s*=""")


def read_recipe(file: Path, what_if: Sequence[str] = ()) -> Recipe:
    """The recipe of a file.

    Args:
        what_if: ``key=value`` in place of what it says: ``leave_out.blurry=0.3``; values as TOML has them.

    Raises:
        CurationError: it can't be read, or something of it is wrong: all of it is named.
    """
    try:
        text = file.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise CurationError(f"{file}: this is no text in UTF-8") from None
    except OSError as error:
        raise CurationError(f"{file}: {reason_of(error)}") from None
    try:
        given = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise CurationError(f"{file}: this is not TOML: {error}") from None
    given.setdefault("name", file.name.removesuffix(SUFFIX))
    for each in what_if:
        _set(given, each)
    recipe = parse_recipe(given, str(file), "" if what_if else text)
    if recipe.name != file.name.removesuffix(SUFFIX):
        raise CurationError(
            f"{file}{_line(text, ('name',))}: name is {recipe.name!r}, but the file is called {file.name}: both have "
            "to be alike"
        )
    return recipe.lying_in(file.parent)


def parse_recipe(given: dict[str, Any], origin: str, text: str = "") -> Recipe:
    """A recipe of what a file holds.

    Args:
        origin: what a fault names.
        text: of the file, for the lines of faults.

    Raises:
        CurationError: naming all that is wrong.
    """
    try:
        return Recipe.model_validate(given)
    except ValidationError as error:
        faults = [_told(fault, text) for fault in error.errors()]
        raise CurationError("; ".join(f"{origin}{fault}" for fault in faults)) from None


def _set(given: dict[str, Any], assignment: str) -> None:
    """Put a value where a dotted key says."""
    key, equals, value = assignment.partition("=")
    parts = [part.strip() for part in key.split(".")]
    if not equals or not all(parts):
        raise CurationError(
            f"--what-if {assignment!r}: write KEY=VALUE, for example leave_out.blurry=0.3, or TABLE@VERSION"
        )
    try:
        parsed = tomllib.loads(f"x = {value.strip()}")["x"]
    except tomllib.TOMLDecodeError:
        parsed = value.strip()  # a word without its quotes
    table = given
    for part in parts[:-1]:
        inner = table.setdefault(part, {})
        if not isinstance(inner, dict):
            raise CurationError(f"--what-if {assignment!r}: {part} is no table")
        table = inner
    table[parts[-1]] = parsed


def recipe_files(folder: Path) -> list[Path]:
    """The files of a folder that are recipes by their name, sorted; none where there is no folder."""
    return sorted(file for file in folder.glob(f"*{SUFFIX}") if file.is_file()) if folder.is_dir() else []


def recipe_file(folder: Path, name: str) -> Path:
    """The file of a recipe, given by its name or as a path.

    Raises:
        CurationError: there is none; it names the nearest.
    """
    path = Path(name)
    if path.suffix == SUFFIX or path.parent != Path():
        if path.is_file():
            return path
        raise CurationError(f"there is no recipe {path}")
    file = folder / f"{name}{SUFFIX}"
    if file.is_file():
        return file
    names = [found.name.removesuffix(SUFFIX) for found in recipe_files(folder)]
    if not names:
        raise CurationError(f"there are no recipes in {folder}; `curation dataset init` writes one")
    raise CurationError(f"there is no recipe {name!r} in {folder}{nearest(name, names)}")


def card_now(folder: Path, name: str) -> dict[str, Any] | None:
    """What a recipe's ``[card]`` says now, as a licence may be cleared up later; None: there is no such recipe.

    Raises:
        CurationError: something of the recipe is wrong.
    """
    file = folder / f"{name}{SUFFIX}"
    return read_recipe(file).card.model_dump(mode="json") if file.is_file() else None


def _told(fault: ErrorDetails, text: str) -> str:
    """Line, key and what is wrong."""
    loc = tuple(str(part) for part in fault["loc"])
    key = ".".join(loc)
    message = fault["msg"].removeprefix("Value error, ")
    if fault["type"] == "extra_forbidden":
        message = f"there is no such key{nearest(loc[-1], _keys(loc[:-1]))}"
    elif fault["type"] == "literal_error":
        words = WORDS.get(key, ())
        message = f"{fault['input']!r} can't be used{nearest(str(fault['input']), words)}"
    elif fault["type"] == "missing":
        message = "it is missing"
    else:
        message = message[0].lower() + message[1:]
        given = fault["input"]
        if not isinstance(given, dict | BaseModel):
            message += f", not {given!r}"
    return f"{_line(text, loc)}: {f'{key}: ' if key else ''}{message}"


def _keys(place: tuple[str, ...]) -> Iterable[str]:
    """Keys that a table of a recipe may have."""
    model: Any = Recipe
    for part in place:
        field = model.model_fields.get(part)
        options = [field.annotation, *getattr(field.annotation, "__args__", ())] if field is not None else []
        model = next((one for one in options if isinstance(one, type) and issubclass(one, BaseModel)), None)
        if model is None:
            return ()
    names = [name for name in model.model_fields if name != "kinds"]
    return [*names, *KINDS] if place == ("leave_out",) else names


def nearest(word: str, words: Iterable[str]) -> str:
    """``; did you mean near?``, or which words there are."""
    words = [*words]
    near = difflib.get_close_matches(word, words, 1)
    if near:
        return f"; did you mean {near[0]}?"
    return f"; there are {', '.join(words)}" if words else ""


def _line(text: str, loc: tuple[str, ...]) -> str:
    """``:12``: the line where a key stands, or the table that it would stand in."""
    best, found = 0, ""
    section: tuple[str, ...] = ()
    for number, line in enumerate(text.splitlines(), 1):
        if (header := _SECTION.match(line)) is not None:
            section = tuple(part.strip(" \"'") for part in header[1].split("."))
            here = section
        elif (key := _KEY.match(line)) is not None:
            name = next(part for part in key.groups() if part)
            here = (*section, *(part.strip() for part in name.split(".")))
        else:
            continue
        if loc[: len(here)] == here and len(here) > best:
            best, found = len(here), f":{number}"
    return found
