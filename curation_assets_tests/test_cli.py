from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from PIL import Image

import curation_assets
from curation_assets import cli
from curation_assets.lake.schemas import DIRECTORY, EMBEDDINGS
from curation_assets.lake.table import LakeTable
from curation_assets_tests.conftest import copy_registry, jpeg
from curation_assets_tests.processes import run_script

pytestmark = pytest.mark.slow
CURATION = Path(sys.executable).with_name("curation")
ODD_NAME = "bro\nken [bold] 100%.jpg"
TABLES = Path("lake", "autobricks", "agriculture")
Curation = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the package as a wheel installs it: its project is the working directory, where a .env may lie."""
    site = tmp_path_factory.mktemp("site")
    package = Path(curation_assets.__file__).parent
    shutil.copytree(package, site / package.name, ignore=shutil.ignore_patterns("__pycache__"))
    return site


def environment(site: Path, **env: str) -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(site), "CURATION_MODEL_SOURCE": "demo"} | env


def make_home(home: Path, registered_model: Path) -> Path:
    """A working directory with images, and a registry that holds the demo model."""
    for folder, seed in (("a", 100), ("b/c", 200)):
        (home / "images" / folder).mkdir(parents=True)
        for index in range(2):
            (home / "images" / folder / f"photo {index}.jpg").write_bytes(jpeg(seed + index))
    copy_registry(registered_model, home / "mlflow")
    return home


@pytest.fixture
def home(tmp_path: Path, registered_model: Path) -> Path:
    return make_home(tmp_path, registered_model)


_COMMAND = """
from pathlib import Path
from curation_assets import settings
settings.project_dir = Path.cwd
settings.Settings.model_config["env_file"] = Path(".env")
from curation_assets.cli import main
main()
"""


def run_apart(home: Path, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Run the command in a directory, in a process that knows nothing of earlier ones."""
    given = os.environ | {"CURATION_MODEL_SOURCE": "demo"} | env
    return run_script(_COMMAND, *arguments, env=given, cwd=home)


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Curation:
    """Run the command in a directory, within this process, which has imported all that it needs."""

    def call(home: Path, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
        roots = {"CURATION_IMAGES_ROOT": str(home / "images"), "CURATION_LAKE_ROOT": str(home / "lake")}
        with monkeypatch.context() as given:
            given.chdir(home)
            for name, value in ({"CURATION_MODEL_SOURCE": "demo"} | roots | env).items():
                given.setenv(name, value)
            given.setattr("sys.argv", ["curation", *arguments])
            capfd.readouterr()
            with pytest.raises(SystemExit) as end:
                cli.main()
        said = capfd.readouterr()
        return subprocess.CompletedProcess(arguments, int(end.value.code or 0), said.out, said.err)

    return call


def run_in(home: Path, site: Path, *arguments: str | Path, **env: str) -> subprocess.CompletedProcess[str]:
    """Run the installed command."""
    command = [str(CURATION), *map(str, arguments)]
    return subprocess.run(command, cwd=home, env=environment(site, **env), capture_output=True, text=True, timeout=300)


@pytest.fixture(scope="module")
def finished(
    tmp_path_factory: pytest.TempPathFactory, registered_model: Path, site: Path
) -> tuple[Path, dict[str, Any]]:
    """A working directory after one ``curation run --json``, and what that said. Leave it as it is."""
    home = make_home(tmp_path_factory.mktemp("finished"), registered_model)
    (home / "images" / "a" / ODD_NAME).write_text("<html>")
    (home / "images" / "a" / "copy.jpg").write_bytes(jpeg(100))
    (home / "images" / "labels.csv").touch()
    done = run_in(home, site, "run", "--json")
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    return home, json.loads(done.stdout)


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory, registered_model: Path) -> Path:
    """A working directory for many commands: what one finds out of the registry, the next ones read in its notes."""
    return make_home(tmp_path_factory.mktemp("kept"), registered_model)


@pytest.fixture
def breakable(kept: Path, finished: tuple[Path, Any], registered_model: Path) -> Iterator[Path]:
    """That directory with the tables of a finished run; what a test breaks in it is mended afterwards."""
    shutil.copytree(finished[0] / TABLES, kept / TABLES)
    yield kept
    shutil.rmtree(kept / "lake")
    database, sound = kept / "mlflow" / "mlflow.db", registered_model / "mlflow.db"
    if database.read_bytes() != sound.read_bytes():
        shutil.copy(sound, database)


def table(home: Path, embeddings: bool = False) -> LakeTable:
    spec = EMBEDDINGS if embeddings else DIRECTORY
    return LakeTable(
        home / TABLES / ("crop_images_directory_embeddings" if embeddings else "crop_images_directory"), spec
    )


def assert_one_line(done: subprocess.CompletedProcess[str], *fragments: str) -> None:
    assert done.returncode == 2, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1, done.stderr
    assert done.stderr.endswith(errors[0] + "\n"), done.stderr
    for fragment in fragments:
        assert fragment in errors[0]
    assert done.stdout == ""


def test_run_says_in_json_what_it_did(finished: tuple[Path, dict[str, Any]]) -> None:
    home, said = finished
    assert said["images_root"] == str(home / "images")
    assert said["tables"]["directory"] == str(table(home).path)
    assert said["total"] == {"files": 6, "ok": 5, "bad": 1, "embedded": 5, "stale": 0}
    assert [folder["folder"] for folder in said["folders"]] == ["a", "b/c"]
    assert said["scan"]["read"] == said["scan"]["new"] == 6
    assert said["embed"]["encoded"] == 4
    assert said["embed"]["copied"] == 1
    assert said["embed"]["device"]
    assert said["passed_over"] == {"not an image name": 1}
    assert [(bad["relative_path"], bad["status"]) for bad in said["bad"]] == [(f"a/{ODD_NAME}", "unsupported")]
    assert said["not_embedded"] == []
    assert said["model"]["demonstration"]
    assert (said["model"]["version"], said["model"]["dimension"]) == ("1", 128)


def test_what_json_says_is_what_the_tables_hold(finished: tuple[Path, dict[str, Any]]) -> None:
    home, said = finished
    rows = table(home).snapshot().read(["folder", "status"])
    assert len(rows) == said["total"]["files"]
    for folder in said["folders"]:
        assert len(rows.filter(pl.col("folder") == folder["folder"])) == folder["files"]
    assert table(home, embeddings=True).snapshot().rows() == said["total"]["embedded"]


def test_status_counts_and_names_bad_files_each_in_one_line(
    finished: tuple[Path, dict[str, Any]], here: Curation
) -> None:
    home, said = finished
    as_json = here(home, "status", "--json")
    assert as_json.returncode == 0
    assert json.loads(as_json.stdout) == {"folders": said["folders"], "total": said["total"]}
    plain = here(home, "status")
    assert plain.returncode == 0
    lines = plain.stdout.splitlines()
    assert lines[0].split() == ["folder", "files", "ok", "bad", "embedded", "stale"]
    assert [line.split() for line in lines[1:3]] == [["a", "4", "3", "1", "3", "0"], ["b/c", "2", "2", "0", "2", "0"]]
    assert lines[3].split() == ["2", "folders", "6", "5", "1", "5", "0"]
    assert lines[4].startswith(r"bad    a/bro\nken [bold] 100%.jpg  unsupported: ")
    assert len(lines) == 5


@pytest.mark.parametrize("form", ["key", "relative to the working directory", "absolute"])
def test_show_finds_an_image_by_key_or_path(form: str, finished: tuple[Path, dict[str, Any]], here: Curation) -> None:
    home, _ = finished
    key = "b/c/photo 1.jpg"
    file = {"key": key, "absolute": str(home / "images" / key)}.get(form, f"./images/b/../{key}")
    done = here(home, "show", file, "--json")
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["image"]["relative_path"] == key
    assert said["image"]["file_path"] == str(home / "images" / key)
    assert "image_base64" not in said["image"]
    (vector,) = said["embeddings"]
    assert (vector["model_version"], vector["dimension"], vector["current_content"]) == ("1", 128, True)


def test_show_is_readable_for_good_and_bad_files(finished: tuple[Path, dict[str, Any]], here: Curation) -> None:
    home, _ = finished
    good = here(home, "show", "a/photo 0.jpg")
    assert good.returncode == 0
    assert "embedded        autobricks.agriculture.clip_embedding version 1, 128 floats" in good.stdout
    bad = here(home, "show", f"a/{ODD_NAME}")
    assert bad.returncode == 0
    assert "status          unsupported" in bad.stdout
    assert r"bro\nken [bold] 100%.jpg" in bad.stdout
    assert "embedded" not in bad.stdout


def test_a_run_without_bad_files_ends_well_and_says_so_for_people(home: Path, here: Curation) -> None:
    first = here(home, "run", "--images", "images")
    assert first.returncode == 0, first.stderr
    assert "scan   4 files read (4 new, 0 changed), 0 gone" in first.stdout
    assert "for demonstration, not for decisions" in first.stdout
    assert "Traceback" not in first.stderr
    again = here(home, "run", "--images", "images", "--json")
    assert again.returncode == 0
    said = json.loads(again.stdout)
    assert (said["scan"]["read"], said["scan"]["commits"], said["embed"]["commits"]) == (0, 0, 0)


def test_settings_come_from_the_environment_the_env_file_and_the_options(home: Path) -> None:
    (home / ".env").write_text("CURATION_IMAGES_ROOT=from_env_file\n")
    assert_one_line(run_apart(home, "run"), str(home / "from_env_file"))
    given = {"CURATION_IMAGES_ROOT": "from_env"}
    assert_one_line(run_apart(home, "run", **given), str(home / "from_env"))
    assert_one_line(run_apart(home, "run", "--images", "given", **given), str(home / "given"))


WRONG_CALLS: dict[str, tuple[list[str], dict[str, str], list[str]]] = {
    "missing images folder": (["run", "--images", "nowhere"], {}, ["nowhere", "No such file", "--images"]),
    "empty images folder": (["run", "--images", "empty"], {}, ["no images under", "empty"]),
    "folder of clutter": (["run", "--images", "clutter"], {}, ["no images under", "1 other files passed over"]),
    "a file as images folder": (["run", "--images", "a_file"], {}, ["a_file", "Not a directory"]),
    "an unknown user's folder": (["run", "--images", "~nobody-at-all/x"], {}, ["~nobody-at-all"]),
    "a URL as images folder": (["run"], {"CURATION_IMAGES_ROOT": "ftp://host/x"}, ["CURATION_IMAGES_ROOT", "URL"]),
    "a file as lake": (["run", "--lake", "a_file"], {}, ["a_file", "CURATION_LAKE_ROOT"]),
    "a lake below a file": (["run", "--lake", "a_file/lake"], {}, ["a_file", "CURATION_LAKE_ROOT"]),
    "a lake that can't be written": (["run", "--lake", "/sys/lake"], {}, ["/sys/lake", "CURATION_LAKE_ROOT"]),
    "a bad setting": (["run"], {"CURATION_BATCH_SIZE": "0"}, ["CURATION_BATCH_SIZE='0'"]),
    "a bad setting in status": (["status"], {"CURATION_DEVICE": "gpu"}, ["CURATION_DEVICE='gpu'"]),
    "an unknown folder": (["run", "--folders", "a", "--folders", "zz/"], {}, ["no image folder 'zz'"]),
    "status without a table": (["status", "--json"], {}, ["there is no table", "curation run"]),
    "show without a table": (["show", "a/photo 0.jpg"], {}, ["there is no table"]),
}


@pytest.mark.parametrize(("arguments", "env", "fragments"), WRONG_CALLS.values(), ids=WRONG_CALLS)
def test_a_wrong_call_is_one_line_and_exit_code_2(
    arguments: list[str], env: dict[str, str], fragments: list[str], here: Curation, home: Path
) -> None:
    (home / "empty").mkdir()
    (home / "clutter").mkdir()
    (home / "clutter" / "notes.txt").touch()
    (home / "a_file").touch()
    assert_one_line(here(home, *arguments, **env), *fragments)
    assert not (home / "lake").exists() or not table(home).exists()


def test_a_wrong_option_is_explained_without_a_traceback(here: Curation, home: Path) -> None:
    for arguments in (["run", "--imagse", "x"], ["walk"], ["show"]):
        done = here(home, *arguments)
        assert done.returncode == 2
        assert "Usage" in done.stderr
        assert "Traceback" not in done.stderr


def test_show_of_an_unknown_file_is_one_line(finished: tuple[Path, dict[str, Any]], here: Curation) -> None:
    assert_one_line(here(finished[0], "show", "a/never\nseen.jpg"), "no row for", r"never\nseen.jpg", "images")


MODELS = {
    "hub not reachable": (
        {"CURATION_MODEL_SOURCE": "nobody-at-all/clip"},
        ["CURATION_MODEL_SOURCE=nobody-at-all/clip"],
    ),
    "no connection": (
        {
            "CURATION_MODEL_SOURCE": "nobody-at-all/clip",
            "HF_HUB_OFFLINE": "0",
            "HF_ENDPOINT": "http://127.0.0.1:9",
        },
        ["CURATION_MODEL_SOURCE=nobody-at-all/clip", "`demo`"],
    ),
    "a folder without a model": ({"CURATION_MODEL_SOURCE": "images"}, ["has no config.json"]),
    "registry not reachable": (
        {"MLFLOW_TRACKING_URI": "http://127.0.0.1:9", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"},
        ["http://127.0.0.1:9", "MLFLOW_TRACKING_URI"],
    ),
}


@pytest.mark.parametrize(("env", "fragments"), MODELS.values(), ids=MODELS)
def test_a_model_that_cannot_be_had_is_one_line_before_the_scan(
    env: dict[str, str], fragments: list[str], here: Curation, home: Path, site: Path
) -> None:
    # The hub's address is read once a process.
    done = run_in(home, site, "run", **env) if "HF_ENDPOINT" in env else here(home, "run", **env)
    assert_one_line(done, *fragments)
    assert table(home).snapshot().rows() == 0


def data_file(home: Path, embeddings: bool = False) -> Path:
    of_table = table(home, embeddings)
    return of_table.path / of_table.snapshot().files("a")[0].path


def log_file(home: Path, embeddings: bool = False) -> Path:
    return table(home, embeddings).path / "_delta_log" / "00000000000000000000.json"


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-200])


BREAKAGES: dict[str, tuple[Callable[[Path], Any], str]] = {
    "garbage in the log": (lambda h: log_file(h).write_text("garbage"), "crop_images_directory "),
    "a gap in the log": (lambda h: log_file(h).unlink(), "crop_images_directory "),
    "garbage in the embeddings log": (lambda h: log_file(h, True).write_text("garbage"), "_embeddings "),
    "a broken registry": (lambda h: (h / "mlflow" / "mlflow.db").write_bytes(b"garbage" * 999), "mlflow.db "),
}


@pytest.mark.parametrize("breakage", BREAKAGES)
def test_a_broken_table_is_one_line_of_status_that_names_it(breakage: str, breakable: Path, here: Curation) -> None:
    break_it, fragment = BREAKAGES[breakage]
    break_it(breakable)
    # MLflow keeps a database open for the rest of a process.
    done = run_apart(breakable, "status") if breakage == "a broken registry" else here(breakable, "status")
    assert_one_line(done, fragment)


@pytest.mark.parametrize("breakage", ["garbage in the log", "a broken registry"])
def test_a_broken_table_is_one_line_of_a_run_that_names_it(breakage: str, breakable: Path, here: Curation) -> None:
    break_it, fragment = BREAKAGES[breakage]
    break_it(breakable)
    call = ["run", "--prune"]  # the lake is of another tree
    done = run_apart(breakable, *call) if breakage == "a broken registry" else here(breakable, *call)
    assert_one_line(done, fragment)


@pytest.mark.parametrize("embeddings", [False, True], ids=["images", "embeddings"])
@pytest.mark.parametrize("spoil", [Path.unlink, cut, lambda path: path.write_bytes(b"")], ids=["gone", "cut", "empty"])
def test_a_broken_data_file_is_named_by_status_and_costs_its_own_rows(
    spoil: Callable[[Path], Any], embeddings: bool, breakable: Path, here: Curation
) -> None:
    path = data_file(breakable, embeddings)
    spoil(path)
    done = here(breakable, "status")
    assert (done.returncode, done.stderr) == (1, "")
    assert f"{path.parent.parent.name}/{path.parent.name}/{path.name}" in done.stdout
    assert "`curation repair`" in done.stdout
    (said,) = json.loads(here(breakable, "status", "--json").stdout)["broken"]
    assert (said["folder"], path.name in said["file"]) == ("a", True)


def test_an_interrupted_run_says_that_it_can_go_on(home: Path, site: Path) -> None:
    large = BytesIO()
    Image.linear_gradient("L").resize((6000, 4000)).save(large, "JPEG")
    for index in range(60):
        (home / "images" / "a" / f"large {index}.jpg").write_bytes(large.getvalue() + bytes([index]))
    process = subprocess.Popen(
        [str(CURATION), "run", "--folders", "a"],
        cwd=home,
        env=environment(site),
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )
    assert process.stderr is not None
    assert process.stderr.readline() == "scan: folder 1 of 1\n"
    process.send_signal(signal.SIGINT)
    said = process.stderr.read()
    assert process.wait(timeout=30) == 130
    assert said == "stopped; what was committed stays, run the command again to go on\n"
    assert table(home).snapshot().rows() in (0, 62)


def test_help_and_version_are_quick_and_import_no_heavy_library(site: Path, tmp_path: Path) -> None:
    script = (
        "import sys; sys.argv = ['curation', '--help']; from curation_assets.cli import main\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code\n"
        "print(sorted({'torch', 'mlflow', 'transformers', 'dagster', 'deltalake'} & sys.modules.keys()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, env=environment(site), capture_output=True, text=True, timeout=60
    )
    assert done.stdout.splitlines()[-1] == "[]", done.stderr
    assert "status" in done.stdout
    version = run_in(tmp_path, site, "--version")
    assert version.stdout.strip() == curation_assets.__version__
