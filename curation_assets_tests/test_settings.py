from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import curation_assets
from curation_assets import settings_page
from curation_assets.defs.resources import CurationResource
from curation_assets.errors import CurationError
from curation_assets.settings import Settings, load_settings, project_dir, source_key

PACKAGE = Path(curation_assets.__file__).parent


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """A copy of the package as an installed wheel has it: no checkout around it."""
    site = tmp_path / "site"
    site.mkdir()
    for name in ("__init__.py", "errors.py", "settings.py"):
        (site / "curation_assets").mkdir(exist_ok=True)
        shutil.copy(PACKAGE / name, site / "curation_assets")
    shutil.copytree(PACKAGE / "stores", site / "curation_assets" / "stores")
    return site


def settings_in_process(site: Path, cwd: Path, expression: str, **env: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", f"from curation_assets.settings import load_settings; print({expression})"],
        cwd=cwd,
        env=os.environ | {"PYTHONPATH": str(site)} | env,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_the_defaults_are_those_of_the_readme() -> None:
    settings = Settings(_env_file=None)
    assert settings.images_root == project_dir() / "images"
    assert settings.table_path(settings.directory_table) == (
        project_dir() / "lake" / "autobricks" / "agriculture" / "crop_images_directory"
    )
    assert settings.table_path(settings.embeddings_table).name == "crop_images_directory_embeddings"
    assert settings.registered_model == "autobricks.agriculture.clip_embedding"
    assert settings.mlflow_dir == project_dir() / "mlflow"
    assert settings.model_source == "openai/clip-vit-large-patch14"
    assert (settings.folder_depth, settings.store_images, settings.engine) == ("deepest", True, "local")
    assert (settings.device, settings.precision, settings.batch_size) == ("auto", "auto", "auto")


def test_a_relative_path_starts_at_the_project_and_not_at_the_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CURATION_LAKE_ROOT", "../elsewhere/lake")
    settings = load_settings(images_root="photos")
    assert settings.images_root == project_dir() / "photos"
    assert settings.lake_root == project_dir().parent / "elsewhere" / "lake"
    assert load_settings(images_root=tmp_path / "x").images_root == tmp_path / "x"


def test_the_project_of_an_installed_package_is_the_working_directory(installed: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    assert settings_in_process(installed, home, "load_settings().images_root") == str(home / "images")
    (installed / "workspace.yaml").touch()  # now the same copy is a checkout
    assert settings_in_process(installed, home, "load_settings().images_root") == str(installed / "images")


def test_an_env_file_of_the_project_is_read_and_the_environment_goes_before_it(installed: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / ".env").write_text("CURATION_BATCH_SIZE=7\nCURATION_THREADS=3\nMLFLOW_TRACKING_URI=x\nOTHER=y\n")
    what = "(load_settings().batch_size, load_settings().threads, load_settings(threads=5).threads)"
    assert settings_in_process(installed, home, what, CURATION_BATCH_SIZE="9") == "(9, 3, 5)"
    assert settings_in_process(installed, home, what) == "(7, 3, 5)"


def test_a_tilde_is_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "model").mkdir()
    settings = load_settings(images_root="~/photos", model_source="~/model")
    assert settings.images_root == tmp_path / "photos"
    assert settings.model_source == str(tmp_path / "model")


@pytest.mark.parametrize(
    "value", ["models/mine", "./models/mine", "~/mine", "{home}/mine", "{home}/project/models/mine"]
)
def test_a_model_source_has_one_key_whether_its_folder_is_there_or_not(
    value: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr("curation_assets.settings.project_dir", lambda: tmp_path / "project")
    value = value.format(home=tmp_path)
    expected = "models/mine" if "models" in value else str(tmp_path / "mine")
    gone = load_settings(model_source=value).model_source
    folder = tmp_path / "project" / expected
    folder.mkdir(parents=True)
    there = load_settings(model_source=value).model_source
    assert there == str(folder)
    assert source_key(gone) == source_key(there) == expected


@pytest.mark.parametrize("value", ["demo", "openai/clip-vit-large-patch14"])
def test_the_key_of_a_model_source_that_is_no_folder_is_itself(value: str) -> None:
    assert source_key(load_settings(model_source=value).model_source) == value


def test_an_empty_variable_counts_as_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CURATION_BATCH_SIZE", "")
    assert load_settings().batch_size == "auto"


def test_no_patterns_is_an_answer_of_its_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert "lost+found" in load_settings().leave_out
    env_file = tmp_path / ".env"
    env_file.write_text("CURATION_LEAVE_OUT=\nCURATION_BATCH_SIZE=\n")
    monkeypatch.setitem(Settings.model_config, "env_file", env_file)
    assert load_settings().leave_out == ()
    monkeypatch.setenv("CURATION_LEAVE_OUT", "old, #recycle")
    assert load_settings().leave_out == ("old", "#recycle")
    env_file.write_text("CURATION_LEAVE_OUT=new")
    monkeypatch.setenv("CURATION_LEAVE_OUT", "")
    assert load_settings().leave_out == ()
    assert load_settings(leave_out=["x"]).leave_out == ("x",)


@pytest.mark.parametrize("text", ['["a, b", "*/c"]', "[ab]*,*/c", "old", "[]"])
def test_patterns_are_a_json_list_or_separated_by_commas(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = {"[ab]*,*/c": ("[ab]*", "*/c"), "old": ("old",), "[]": ()}
    monkeypatch.setenv("CURATION_LEAVE_OUT", text)
    assert load_settings().leave_out == expected.get(text, ("a, b", "*/c"))


@pytest.mark.parametrize("text", ["[1, 2]", '{"a": 1}', '["a", "b"', "{"])
def test_patterns_that_are_no_texts_are_refused(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CURATION_LEAVE_OUT", text)
    with pytest.raises(CurationError, match=r"CURATION_LEAVE_OUT.*JSON list"):
        load_settings()


def test_the_programs_own_folders_are_left_out_of_the_walk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "dagster"))
    settings = load_settings(images_root=tmp_path, lake_root=tmp_path / "a" / "lake", index_root=tmp_path / "index")
    own = set(settings.walk_rules.own)
    names = ("a/lake", "index", "a/mlflow", "dagster")
    assert {str(tmp_path / name) for name in names} <= own
    assert str(project_dir() / "demo_workspace") in own


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("folder_depth", "deepest", "deepest"),
        ("folder_depth", "2", 2),
        ("store_images", "false", False),
        ("store_images", "0", False),
        ("batch_size", "64", 64),
        ("threads", "1", 1),
        ("device", "cuda:3", "cuda:3"),
        ("precision", "bfloat16", "bfloat16"),
        ("bad_file_limit", "0", 0.0),
        ("catalog_name", "my-catalog_2", "my-catalog_2"),
    ],
)
def test_a_variable_is_understood(name: str, text: str, value: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"CURATION_{name.upper()}", text)
    assert getattr(load_settings(), name) == value


BAD = [
    ("folder_depth", "0"),
    ("folder_depth", "shallow"),
    ("store_images", "perhaps"),
    ("batch_size", "0"),
    ("batch_size", "many"),
    ("threads", "-1"),
    ("device", "gpu"),
    ("device", "cuda:"),
    ("precision", "float8"),
    ("engine", "ray"),
    ("max_pixels", "0"),
    ("max_pixels", "1e9x"),
    ("bands", "0"),
    ("bands", "1,2"),
    ("bands", "red,green,blue"),
    ("decode_seconds", "0"),
    ("decode_seconds", "inf"),
    ("bad_file_limit", "1.5"),
    ("catalog_name", "a.b"),
    ("catalog_name", "a/b"),
    ("model_name", "a b"),
    ("directory_table", "../x"),
    ("images_root", "ftp://host/images"),
    ("lake_root", "dbfs:/lake"),
    ("images_root", "~nobody-at-all/images"),
    ("model_source", "~nobody-at-all/model"),
    ("near_agreement", "0.5"),
    ("burst_agreement", "0.95"),
    ("burst_agreement_alone", "0.7"),
    ("keeper_order", "pixels,beauty"),
]


@pytest.mark.parametrize(("name", "value"), BAD)
def test_a_bad_value_is_one_line_that_names_variable_and_value(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"CURATION_{name.upper()}", value)
    with pytest.raises(CurationError) as caught:
        load_settings()
    message = str(caught.value)
    assert f"CURATION_{name.upper()}={value!r}: " in message
    assert "\n" not in message


def test_no_agreement_asks_for_less_than_the_one_that_it_is_stronger_than(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CURATION_NEAR_AGREEMENT", "0.7")
    with pytest.raises(CurationError, match=r"CURATION_BURST_AGREEMENT='0.76': .* CURATION_NEAR_AGREEMENT is 0.7"):
        load_settings()
    monkeypatch.setenv("CURATION_BURST_AGREEMENT", "0.7")
    assert load_settings().burst_agreement == 0.7


def test_several_bad_values_are_all_named() -> None:
    with pytest.raises(CurationError) as caught:
        load_settings(batch_size=0, precision="double")
    assert "CURATION_BATCH_SIZE='0'" in str(caught.value)
    assert "CURATION_PRECISION='double'" in str(caught.value)


def test_a_setting_of_two_types_is_named_once_with_both_ways_out() -> None:
    with pytest.raises(CurationError) as caught:
        load_settings(folder_depth=0)
    assert str(caught.value).count("CURATION_FOLDER_DEPTH") == 1
    assert "deepest" in str(caught.value)
    assert "greater than or equal to 1" in str(caught.value)


def test_a_local_model_folder_is_named_relative_to_the_project_and_a_hub_id_is_left_alone(
    installed: Path, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    (home / "models" / "clip").mkdir(parents=True)
    what = "load_settings().model_source"
    assert settings_in_process(installed, home, what, CURATION_MODEL_SOURCE="models/clip") == str(home / "models/clip")
    assert settings_in_process(installed, home, what, CURATION_MODEL_SOURCE="openai/clip") == "openai/clip"
    (home / "demo").mkdir()
    assert settings_in_process(installed, home, what, CURATION_MODEL_SOURCE="demo") == "demo"


def test_settings_cannot_be_changed_by_accident() -> None:
    settings = load_settings()
    with pytest.raises(ValueError, match="frozen"):
        settings.device = "cpu"  # type: ignore[misc]


def test_the_page_of_settings_is_what_their_descriptions_say() -> None:
    page = Path(__file__).parents[1] / "docs" / "settings.md"
    assert page.read_text() == settings_page.markdown(), "`make docs` writes it anew"


def test_the_page_names_every_setting_once() -> None:
    page = settings_page.markdown()
    assert {f"| `CURATION_{name.upper()}` |" for name in Settings.model_fields} == {
        line[: line.index("|", 1) + 1] for line in page.splitlines() if line.startswith("| `CURATION_")
    }


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ("SECRET", "JSON object of names and tokens"),
        ('["SECRET"]', "JSON object of names and tokens"),
        ('{"Ana": ["SECRET"]}', "the token of 'Ana' is no text"),
        ('{"Ana": ""}', "the token of 'Ana' is no text"),
        ('{" ": "SECRET"}', "a name has 1 to 100 characters"),
        ('{"Ana": "SECRET", "Bo": "SECRET"}', "two people have the same token"),
    ],
)
def test_wrong_tokens_of_people_are_told_without_them(value: str, why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CURATION_GALLERY_TOKENS", value)
    with pytest.raises(CurationError, match=f"^CURATION_GALLERY_TOKENS: .*{why}") as raised:
        load_settings()
    assert "SECRET" not in str(raised.value)


def test_tokens_of_people_are_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CURATION_GALLERY_TOKENS", '{" Ana ": "SECRET"}')
    settings = load_settings()
    assert {name: token.get_secret_value() for name, token in settings.gallery_tokens.items()} == {"Ana": "SECRET"}
    assert "SECRET" not in repr(settings)
    assert "SECRET" not in repr(CurationResource.of(settings).settings)


@pytest.mark.parametrize("value", ['{"fs.key": "SECRET",', '["SECRET"]', '{"fs.key": ["SECRET"]}', "fs.key=SECRET"])
def test_a_malformed_setting_that_may_hold_keys_is_not_printed(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CURATION_SPARK_CONF", value)
    with pytest.raises(CurationError, match=r"^CURATION_SPARK_CONF: ") as raised:
        load_settings()
    assert "SECRET" not in str(raised.value)
