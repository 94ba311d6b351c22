"""Words for what the photographs show: many captions a class, one for evaluation, and broader queries.

A class is a scene that the renderer draws, a class of the real photographs that the embedded model is trained on, or
both.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import PurePosixPath

from curation_assets.demo.scenes import SCENES


@dataclass(frozen=True)
class _Words:
    """How a class is named.

    Attributes:
        evaluation: the one caption that stands for the class in zero-shot evaluation.
        nouns: short names, without an article.
        phrases: descriptions that can follow "a photo of".
    """

    evaluation: str
    nouns: tuple[str, ...]
    phrases: tuple[str, ...]


_TEMPLATES = (
    "{}",
    "a photo of {}",
    "a picture of {}",
    "a close-up of {}",
    "a field photograph of {}",
    "an image showing {}",
    "this is {}",
)

_LEAF_NAMES = {
    "coffee": ("coffee leaf", "leaf of a coffee plant"),
    "maize": ("maize leaf", "corn leaf"),
    "wheat": ("wheat leaf", "blade of wheat"),
    "tomato": ("tomato leaf", "tomato plant leaf"),
    "grape": ("grape leaf", "grapevine leaf", "vine leaf"),
    "bean": ("bean leaf", "leaf of a bean plant"),
    "banana": ("banana leaf", "leaf of a banana plant"),
    "cabbage": ("cabbage leaf", "leaf of a cabbage"),
}
# condition: (names of the condition, what is seen)
_CONDITIONS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "rust": (
        ("rust", "rust disease", "leaf rust"),
        ("orange rust pustules", "yellow and orange rust spots", "orange powder"),
    ),
    "leaf_miner": (
        ("leaf miner", "leaf miner damage", "miner"),
        ("leaf miner tunnels", "brown blotches of a leaf miner", "mines of an insect larva"),
    ),
    "phoma": (
        ("phoma", "phoma leaf spot", "phoma blight"),
        ("large black lesions", "dark dead edges", "black necrosis at the margin"),
    ),
    "cercospora": (
        ("cercospora", "cercospora leaf spot", "brown eye spot"),
        ("round brown spots with a pale centre", "ring spots", "brown spots with a yellow halo"),
    ),
    "blight": (
        ("blight", "leaf blight", "blight disease"),
        ("large brown dead patches", "brown blight lesions", "dead brown tissue"),
    ),
    "yellowing": (
        ("yellowing", "chlorosis", "nutrient deficiency"),
        ("yellow leaves and green veins", "yellow tissue between the veins", "yellow leaflets"),
    ),
    "powdery_mildew": (
        ("powdery mildew", "mildew", "powdery mildew disease"),
        ("white powdery patches", "white mildew", "a white powder of fungus"),
    ),
    "sigatoka": (
        ("sigatoka", "black sigatoka", "sigatoka disease"),
        ("dark streaks and yellow tissue", "black streaks along the veins", "brown and yellow streaks"),
    ),
    "caterpillar_holes": (
        ("caterpillar damage", "feeding damage", "insect holes"),
        ("holes eaten by caterpillars", "holes in the leaf", "many chewed holes"),
    ),
}

_OTHERS: dict[str, _Words] = {
    "apple": _Words(
        "a photo of an apple",
        ("apple", "apples", "red apple"),
        ("apples", "a ripe apple", "red apples", "a red or green apple", "apple fruit", "a fresh apple"),
    ),
    "banana": _Words(
        "a photo of a banana",
        ("banana", "bananas", "yellow banana"),
        ("bananas", "a ripe banana", "yellow bananas", "a bunch of bananas", "banana fruit", "a fresh yellow banana"),
    ),
    "orange": _Words(
        "a photo of an orange",
        ("orange", "oranges", "citrus fruit"),
        ("oranges", "a ripe orange", "ripe oranges", "an orange fruit", "orange citrus fruit", "a fresh orange"),
    ),
    "mixed_fruit": _Words(
        "a photo of apples, oranges and bananas together",
        ("mixed fruit", "assorted fruit", "fruit mix"),
        (
            "mixed fruit",
            "different kinds of fruit",
            "an apple, an orange and a banana",
            "bananas with apples and oranges",
            "several kinds of fruit together",
            "assorted apples, oranges and bananas",
        ),
    ),
    "tomato": _Words(
        "a photo of ripe tomatoes",
        ("tomato", "tomatoes", "red tomato"),
        (
            "tomatoes",
            "ripe red tomatoes",
            "a ripe tomato",
            "tomato fruit",
            "red tomatoes with green stalks",
            "harvested tomatoes",
        ),
    ),
    "grapes": _Words(
        "a photo of a bunch of grapes",
        ("grapes", "bunch of grapes", "grape cluster"),
        ("grapes", "a bunch of grapes", "ripe grapes", "a cluster of purple grapes", "wine grapes", "grape berries"),
    ),
    "apple_tree": _Words(
        "a photo of apples growing on a tree",
        ("apple tree", "apples on a tree", "apple orchard"),
        (
            "apples on a tree",
            "red apples among green leaves",
            "an apple tree with fruit",
            "apples hanging in an orchard",
            "apples between leaves",
            "an orchard of apples before harvest",
        ),
    ),
    "orange_tree": _Words(
        "a photo of oranges growing on a tree",
        ("orange tree", "oranges on a tree", "orange grove"),
        (
            "oranges on a tree",
            "oranges among green leaves",
            "an orange tree with fruit",
            "ripe oranges hanging in a grove",
            "citrus fruit between leaves",
            "an orange grove before harvest",
        ),
    ),
    "maize_rows": _Words(
        "a photo of maize growing in rows",
        ("maize field", "corn field", "rows of maize"),
        (
            "a maize field",
            "rows of maize plants",
            "a corn field with rows",
            "young maize in rows under the sky",
            "corn plants growing in rows",
            "a field of green maize",
        ),
    ),
    "wheat_field": _Words(
        "a photo of a ripe wheat field",
        ("wheat field", "ripe wheat", "golden wheat"),
        (
            "a wheat field",
            "golden wheat ready for harvest",
            "ripe ears of wheat in a field",
            "a field of yellow grain",
            "a golden cereal field under the sky",
            "ripe wheat",
        ),
    ),
    "rice_paddy": _Words(
        "a photo of a flooded rice paddy",
        ("rice paddy", "paddy field", "rice field"),
        (
            "a rice paddy",
            "rice seedlings standing in water",
            "a flooded rice field",
            "rows of young rice in water",
            "a paddy field with water",
            "transplanted rice in a flooded field",
        ),
    ),
    "row_weeds": _Words(
        "a photo of weeds between crop rows",
        ("weeds between rows", "weedy crop rows", "weeds in the crop"),
        (
            "weeds between crop rows",
            "crop rows with weeds on the soil between them",
            "weeds among the rows of a crop",
            "a weedy field seen from above",
            "rows of crop plants and weeds",
            "weeds that need hoeing between the rows",
        ),
    ),
    "soil_seedlings": _Words(
        "a photo of seedlings on bare soil",
        ("seedlings", "seedlings on soil", "emerging crop"),
        (
            "seedlings on bare soil",
            "small seedlings in brown soil",
            "a crop just emerging from the soil",
            "young plants with two leaves on bare earth",
            "bare soil with rows of seedlings",
            "germinating seedlings from above",
        ),
    ),
    "cauliflower_weeds": _Words(
        "a photo of a cauliflower plant among weeds",
        ("cauliflower", "cauliflower plant", "cauliflower and weeds"),
        (
            "a cauliflower plant among weeds",
            "a young cauliflower seen from above",
            "a cauliflower seedling on weedy soil",
            "cauliflower with weeds around it",
            "a crop plant surrounded by weeds",
            "a blue-green cauliflower plant in the field",
        ),
    ),
    "sunflower_field": _Words(
        "a photo of a field of sunflowers",
        ("sunflowers", "sunflower field", "sunflower"),
        (
            "sunflowers",
            "a sunflower field",
            "yellow sunflowers in bloom",
            "a field of yellow flowers",
            "blooming sunflowers under the sky",
            "sunflower heads",
        ),
    ),
    "rice_weeds": _Words(
        "a photo of weeds in a rice field",
        ("weeds in rice", "rice weeds", "grass weeds"),
        (
            "weeds in a rice field",
            "grassy weeds in wet mud",
            "bright green weeds on grey mud",
            "weeds growing in a muddy paddy",
            "weed grasses seen from above",
            "young weeds in rice",
        ),
    ),
}

_PEST_TEMPLATES = ("{} on rice", "{} on a rice leaf", "{}, a pest of rice")
# class: (folder of the real photographs, canonical name with article, other names, what is seen)
_PESTS: dict[str, tuple[str, str, tuple[str, ...], tuple[str, ...]]] = {
    "rice_armyworm": (
        "Armyworms",
        "an armyworm caterpillar",
        ("an armyworm", "an army worm larva"),
        ("a striped caterpillar eating leaves",),
    ),
    "rice_brown_planthopper": (
        "Brown_plant_leafhopper",
        "a brown planthopper",
        ("a brown leafhopper", "a planthopper"),
        ("a small brown insect on a rice stem", "a brown planthopper insect pest on a rice stem"),
    ),
    "rice_gall_midge": (
        "Gall_midge",
        "a gall midge",
        ("a rice gall midge", "a midge"),
        ("a thin fly with long legs on a rice plant",),
    ),
    "rice_grasshopper": (
        "Grasshopper",
        "a grasshopper",
        ("a locust", "a green grasshopper"),
        ("a jumping insect with long hind legs",),
    ),
    "rice_leaf_folder": (
        "Leaf_folder",
        "a leaf folder",
        ("a rice leaf folder moth", "a leaf roller"),
        ("a rice leaf folded by a larva", "a small brown moth with dark lines"),
    ),
    "rice_mealy_bug": (
        "Mealy_bug",
        "a mealybug",
        ("mealy bugs", "mealybugs"),
        ("white waxy insects on a stem", "white woolly bugs on a plant"),
    ),
    "rice_stem_borer": (
        "Paddy_stemborer",
        "a paddy stem borer",
        ("a yellow stem borer", "a stemborer moth"),
        ("a pale yellow moth on rice", "a larva that bores into rice stems"),
    ),
    "rice_case_worm": (
        "Rice_case_worm",
        "a rice caseworm",
        ("a case worm", "a caseworm moth"),
        ("a small white moth on rice", "a larva in a leaf case"),
    ),
    "rice_earhead_bug": (
        "Rice_earhead_bug",
        "a rice earhead bug",
        ("an ear head bug", "a rice bug"),
        ("a slender bug with long legs and antennae", "a bug sucking on rice grains"),
    ),
    "rice_horned_caterpillar": (
        "Rice_horned_caterpillar",
        "a rice horned caterpillar",
        ("a horned caterpillar", "a green horned caterpillar"),
        ("a green caterpillar with horns on its head",),
    ),
    "rice_skipper": (
        "Rice_skipper",
        "a rice skipper",
        ("a skipper butterfly", "a rice skipper larva"),
        ("a brown butterfly or its larva on rice",),
    ),
    "rice_spiny_beetle": (
        "Spiny_beetle",
        "a spiny beetle",
        ("a rice hispa", "a hispa beetle"),
        ("a small black beetle with spines", "a dark spiny beetle on a leaf"),
    ),
    "rice_thrips": (
        "Thrips",
        "rice thrips",
        ("thrips", "a thrips insect"),
        ("tiny slender insects on a leaf", "a leaf damaged by thrips"),
    ),
    "rice_white_backed_planthopper": (
        "White_backed_plant_hopper",
        "a white-backed planthopper",
        ("a white backed plant hopper", "a whitebacked planthopper"),
        ("a planthopper with a white back", "small pale hoppers on a rice stem"),
    ),
    "rice_whorl_maggot": (
        "Whorl_maggot",
        "a rice whorl maggot",
        ("a whorl maggot", "a whorl maggot fly"),
        ("a small grey fly on rice", "a maggot in a rice whorl"),
    ),
}


def _article(noun: str) -> str:
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def _leaf_words(species: str, condition: str) -> _Words:
    names = _LEAF_NAMES[species]
    if condition == "healthy":
        return _Words(
            f"a photo of a healthy {names[0]}",
            (*(f"healthy {name}" for name in names), f"green {names[0]}", f"healthy {species}"),
            (
                *(f"a healthy {name}" for name in names),
                f"a green {names[0]} without disease",
                f"a {names[0]} with no spots",
                f"a healthy green {names[0]}",
                f"a clean {names[0]}, no symptoms",
                f"a {names[0]}, healthy",
            ),
        )
    terms, signs = _CONDITIONS[condition]
    return _Words(
        f"a photo of a {names[0]} with {terms[0]}",
        (*(f"{species} {term}" for term in terms), f"{names[0]} {terms[0]}"),
        (
            *(f"a {name} with {term}" for name in names for term in terms),
            *(f"{sign} on a {names[0]}" for sign in signs),
            *(f"a {names[-1]} with {sign}" for sign in signs),
            f"a diseased {names[0]}, {terms[0]}",
            f"{terms[-1]} on {species}",
        ),
    )


def _pest_words(name: str) -> _Words:
    _, first, others, signs = _PESTS[name]
    everyone = (first, *others)
    nouns = tuple(phrase.removeprefix("an ").removeprefix("a ") for phrase in everyone)
    phrases = everyone + tuple(template.format(phrase) for phrase in everyone for template in _PEST_TEMPLATES) + signs
    return _Words(f"a photo of {first} on rice", nouns, phrases)


def _words() -> dict[str, _Words]:
    found = {name: _leaf_words(s.species, s.condition) for name, s in SCENES.items() if s.group == "leaf"}
    return found | _OTHERS | {name: _pest_words(name) for name in _PESTS}


_WORDS = _words()

CLASSES: tuple[str, ...] = tuple(_WORDS)
"""Every class: the renderer's scenes, then those of the real photographs that aren't drawn."""

EVALUATION_CAPTION: dict[str, str] = {name: words.evaluation for name, words in _WORDS.items()}
"""One caption a class, for zero-shot evaluation."""

_COFFEE = {
    "1_health": "coffee_healthy",
    "2_miner": "coffee_leaf_miner",
    "3_rust": "coffee_rust",
    "4_phoma": "coffee_phoma",
    "5_cercospora": "coffee_cercospora",
}
_RICE = {folder: name for name, (folder, *_) in _PESTS.items()} | dict.fromkeys(
    ("Weed_test", "Weed_train"), "rice_weeds"
)
_FRUIT = {"apple": "apple", "banana": "banana", "orange": "orange", "mixed": "mixed_fruit"}

REAL_CLASSES: tuple[str, ...] = tuple(
    dict.fromkeys((*_COFFEE.values(), *_RICE.values(), "cauliflower_weeds", *_FRUIT.values()))
)
"""The 26 classes of the real photographs."""


@cache
def captions(name: str) -> tuple[str, ...]:
    """Descriptions of a class in many phrasings, without doubles; at least a dozen.

    Args:
        name: one of ``CLASSES``.

    Raises:
        KeyError: there is no such class.
    """
    words = _WORDS[name]
    texts = [words.evaluation, *words.nouns]
    texts += [template.format(phrase) for phrase in words.phrases for template in _TEMPLATES]
    return tuple(dict.fromkeys(texts))


def real_class(relative_path: str) -> str | None:
    """Class of a real photograph by where it lies in its tree, as ``coffee/val/3_rust/12.jpg``; None for others."""
    parts = PurePosixPath(relative_path).parts
    if len(parts) < 3 or not parts[-1].lower().endswith((".jpg", ".jpeg", ".png")):
        return None
    match parts[0]:
        case "coffee":
            return _COFFEE.get(parts[2])
        case "rice":
            return _RICE.get(parts[1])
        case "cauliflower_weed":
            return "cauliflower_weeds"
        case "fruit":
            return _FRUIT.get(parts[-1].split("_")[0])
    return None


@cache
def queries() -> tuple[tuple[str, frozenset[str]], ...]:
    """Broader searches: a text and every class that answers it."""
    found = [(text, frozenset(classes)) for texts, classes in _broad() for text in texts]
    return tuple((text, classes) for text, classes in found if classes)


def _where(*, group: str = "", species: str = "", condition: str = "") -> set[str]:
    return {
        name
        for name, scene in SCENES.items()
        if group in ("", scene.group) and species in ("", scene.species) and condition in ("", scene.condition)
    }


def _broad() -> Iterable[tuple[tuple[str, ...], set[str]]]:
    leaves = _where(group="leaf")
    sick = leaves - _where(condition="healthy")
    for species, names in _LEAF_NAMES.items():
        of_species = _where(group="leaf", species=species)
        yield tuple(t for name in names for t in (name, _article(name), f"a photo of {_article(name)}")), of_species
        if len(of_species & sick) > 1:
            yield (f"a diseased {names[0]}", f"a sick {names[0]}", f"disease on {species}"), of_species & sick
    for condition, (terms, signs) in _CONDITIONS.items():
        yield (
            tuple(t for term in terms for t in (term, f"{term} on a leaf", f"a leaf with {term}")) + signs,
            _where(condition=condition),
        )
    yield (
        ("a healthy leaf", "a healthy green leaf", "healthy leaves", "a leaf without disease"),
        _where(condition="healthy"),
    )
    yield ("a diseased leaf", "leaf disease", "a sick plant", "disease symptoms on a leaf", "damaged leaf"), sick
    yield ("a leaf", "leaves", "a photo of a leaf", "a plant leaf"), leaves
    yield (
        ("a leaf with spots", "leaf spots", "spots on a leaf", "a spotted leaf"),
        {n for n in sick if SCENES[n].condition in ("rust", "cercospora", "leaf_miner", "phoma", "blight", "sigatoka")},
    )
    yield (
        ("brown spots on a leaf", "brown lesions", "dead brown patches"),
        {n for n in sick if SCENES[n].condition in ("cercospora", "leaf_miner", "phoma", "blight")},
    )
    yield ("yellow leaves", "a yellow leaf", "leaves turning yellow"), {"tomato_yellowing", "banana_sigatoka"}
    fruit = _where(group="fruit")
    yield ("fruit", "a fruit", "a photo of fruit", "ripe fruit", "fresh fruit"), fruit
    yield (
        ("fruit on a tree", "fruit hanging in an orchard", "an orchard", "a fruit tree"),
        {"apple_tree", "orange_tree"},
    )
    yield ("apples", "an apple", "red apples"), {"apple", "apple_tree"}
    yield ("oranges", "ripe oranges", "an orange", "citrus"), {"orange", "orange_tree"}
    yield ("red fruit",), {"apple", "tomato", "apple_tree"}
    fields = _where(group="field")
    yield ("a field", "a photo of a field", "farmland", "a crop in the field", "an agricultural field"), fields
    yield ("crop rows", "rows of plants", "plants in rows"), {"maize_rows", "row_weeds", "rice_paddy", "soil_seedlings"}
    yield (
        ("weeds", "weeds in the field", "a photo of weeds", "weeds among crops", "weedy plants"),
        {
            "rice_weeds",
            "row_weeds",
            "cauliflower_weeds",
        },
    )
    yield ("bare soil", "brown soil", "earth"), {"soil_seedlings"}
    yield (
        ("blue sky over a field", "a landscape", "a field under the sky"),
        {
            "maize_rows",
            "wheat_field",
            "rice_paddy",
            "sunflower_field",
        },
    )
    yield ("flowers", "yellow flowers"), {"sunflower_field"}
    yield ("cereals", "a cereal crop"), {"wheat_field", "wheat_healthy", "wheat_rust", "maize_rows", "rice_paddy"}
    yield from _insects()


def _insects() -> Iterable[tuple[tuple[str, ...], set[str]]]:
    yield (
        ("an insect", "an insect on rice", "a photo of an insect", "an insect pest", "pests of rice", "a bug"),
        set(_PESTS),
    )
    yield (
        ("a caterpillar", "a larva", "a caterpillar on rice", "a caterpillar eating a leaf"),
        {
            "rice_armyworm",
            "rice_horned_caterpillar",
            "rice_skipper",
            "rice_leaf_folder",
            "rice_case_worm",
            "rice_stem_borer",
        },
    )
    yield (
        ("a moth", "a moth on a leaf", "a moth or butterfly"),
        {
            "rice_leaf_folder",
            "rice_case_worm",
            "rice_stem_borer",
            "rice_skipper",
        },
    )
    yield ("a fly", "a small fly on a leaf"), {"rice_whorl_maggot", "rice_gall_midge"}
    yield (
        ("a planthopper", "hoppers on rice stems", "a leafhopper"),
        {
            "rice_brown_planthopper",
            "rice_white_backed_planthopper",
        },
    )
    yield ("a beetle", "a beetle on a leaf"), {"rice_spiny_beetle"}
    yield (
        ("sucking insects", "small sucking pests"),
        {
            "rice_thrips",
            "rice_mealy_bug",
            "rice_brown_planthopper",
            "rice_white_backed_planthopper",
            "rice_earhead_bug",
        },
    )
