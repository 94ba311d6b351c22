"""Fixtures that several test modules share; what is faked or generated is made here or in the test itself."""

from __future__ import annotations

import gc
import os
import random
import shutil
import sqlite3
import tempfile
import uuid
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from filelock import FileLock
from PIL import Image

from curation_assets.clip.encoders import Encoders
from curation_assets.clip.registry import Registry
from curation_assets.clip.versions import RegisteredModel
from curation_assets.pipeline import Pipeline
from curation_assets.settings import Settings, load_settings

if TYPE_CHECKING:
    from curation_assets.clip.encoder import Encoder
    from curation_assets_tests.fake_databricks import Volume
    from curation_assets_tests.stores.s3_server import S3

# Tests choose every setting themselves, whatever the shell or a .env file says.
for name in [n for n in os.environ if n.startswith(("CURATION_", "MLFLOW_"))]:
    del os.environ[name]
os.environ["HF_HUB_OFFLINE"] = "1"
# Tests are small and many, and several processes of them share the cores: threads of pools would wait in loops for more
# to do and take the cores from each other, which is a tenth of all processor time.
for each in ("OMP", "OPENBLAS", "RAYON"):
    os.environ[f"{each}_NUM_THREADS"] = "1"
os.environ |= {"POLARS_MAX_THREADS": "1", "TOKIO_WORKER_THREADS": "1"}
# Tests write and remove hundreds of thousands of small files, which costs a tenth less of the processor in memory.
_MEMORY = "/dev/shm"
if "TMPDIR" not in os.environ and os.path.isdir(_MEMORY):
    _of_memory = os.statvfs(_MEMORY)
    if _of_memory.f_bavail * _of_memory.f_frsize > 8 << 30 and not _of_memory.f_flag & os.ST_NOEXEC:
        os.environ["TMPDIR"] = _MEMORY
        tempfile.tempdir = None  # asked for anew
# A JVM that lives for a minute spends more on the compiler of long runs than that saves.
os.environ["JAVA_TOOL_OPTIONS"] = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"
# Hundreds of processes are started, each of which would compile the package anew.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
Settings.model_config["env_file"] = None


@pytest.hookimpl(wrapper=True, optionalhook=True)
def pytest_xdist_auto_num_workers() -> Generator[None, int, int]:
    """One process more than cores: now and then all of them wait for processes, servers and daemons."""
    return 1 + (yield)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Hand modules out whole, in the order of collection."""
    from curation_assets_tests.distribution import ModulesTogether

    config.option.loadscopereorder = False
    return ModulesTogether(config, log)


def _read_revisions_once() -> None:
    """Each instance of Dagster and registry of MLflow would compile and run all revisions of its databases anew."""
    from alembic import util

    load, revision_of = util.load_python_file, cache(util.load_python_file)
    of_kind = {True: revision_of, False: load}
    util.load_python_file = lambda folder, name: of_kind[Path(folder).name == "versions"](folder, name)


def _compile_statements_once() -> None:
    """And compile all statements for each of its databases anew."""
    from sqlalchemy import Engine
    from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite as Dialect
    from sqlalchemy.util import LRUCache

    compiled: LRUCache[Any, Any] = LRUCache(5000)
    begin = Engine.__init__

    def sharing(engine: Engine, *args: Any, **kwargs: Any) -> None:
        begin(engine, *args, **kwargs)
        if type(engine.dialect) is Dialect:
            engine._compiled_cache = compiled

    Engine.__init__ = sharing  # type: ignore[method-assign]
    # Statements are compiled for a dialect; those of all SQLite files are alike.
    Dialect.__eq__ = lambda one, other: type(one) is type(other)  # type: ignore[assignment,method-assign]
    Dialect.__hash__ = lambda one: hash(type(one))  # type: ignore[assignment,method-assign]


def _migrate_once() -> None:
    """And MLflow would run all its migrations for each new database: these are copies of one that it made in memory."""
    from alembic import command

    upgrade = command.upgrade

    @cache
    def migrated() -> bytes:
        from mlflow.store.db.utils import _get_alembic_config
        from mlflow.store.tracking.dbmodels.initial_models import Base
        from sqlalchemy import StaticPool, create_engine

        engine = create_engine("sqlite://", poolclass=StaticPool)
        Base.metadata.create_all(engine)
        with engine.begin() as connection:
            config = _get_alembic_config("sqlite://")
            config.attributes["connection"] = connection
            upgrade(config, "heads")
        return bytes(engine.raw_connection().driver_connection.serialize())

    def is_new(connection: Any) -> bool:
        from sqlalchemy import inspect

        first = {"experiments", "runs", "tags", "metrics", "params"}
        names = inspect(connection).get_table_names() if connection.dialect.name == "sqlite" else ()
        return set(names) == first and connection.exec_driver_sql("SELECT 1 FROM experiments").first() is None

    def copied(config: Any, revision: str, *args: Any, **kwargs: Any) -> None:
        connection = config.attributes.get("connection")
        if revision != "heads" or connection is None or not is_new(connection):
            return upgrade(config, revision, *args, **kwargs)
        with closing(sqlite3.connect(":memory:")) as made:
            made.deserialize(migrated())
            made.backup(connection.connection.driver_connection)
        return None

    command.upgrade = copied


_read_revisions_once()
_compile_statements_once()
_migrate_once()

gc.disable()  # while modules are imported: nearly all of what they make stays


def pytest_collection_finish() -> None:
    """Leave all of that out of the garbage collections to come, each of which would look through it."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 10, 10)  # most of what tests make is gone with them
    gc.enable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Of several processes' work, modules of slow tests begin first, so that none is left to run alone in the end."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        slow = {item.path for item in items if item.get_closest_marker("slow")}
        items.sort(key=lambda item: item.path not in slow)


REAL_PHOTOS = Path(__file__).resolve().parents[2] / "shared" / "data" / "crop_photos"


@pytest.fixture
def crop_photos() -> Path:
    """4,236 real photographs, which aren't part of the project."""
    if not REAL_PHOTOS.is_dir():
        pytest.skip("the real photographs are not here (../shared/data/crop_photos)")
    return REAL_PHOTOS


def jpeg(seed: int = 0, size: tuple[int, int] = (64, 48), **save: Any) -> bytes:
    """A small JPEG that differs from those of other seeds."""
    rng = random.Random(seed)
    image = Image.new("RGB", (8, 8))
    image.putdata([(rng.randrange(256), rng.randrange(256), rng.randrange(256)) for _ in range(64)])
    out = BytesIO()
    image.resize(size, Image.Resampling.BICUBIC).save(out, "JPEG", **save)
    return out.getvalue()


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """An empty images root."""
    root = tmp_path / "images"
    root.mkdir()
    return root


@pytest.fixture
def fill(images: Path) -> Callable[..., list[Path]]:
    """Write ``count`` distinct photographs into a folder of the images root."""

    def write(folder: str, count: int = 3, first: int = 0) -> list[Path]:
        (images / folder).mkdir(parents=True, exist_ok=True)
        paths = [images / folder / f"photo_{index:04}.jpg" for index in range(first, first + count)]
        for index, path in enumerate(paths, first):
            path.write_bytes(jpeg(hash_of(folder) + index))
        return paths

    return write


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Keys of the images that are read."""
    from curation_assets.images.source import LocalTree

    keys: list[str] = []
    really_read = LocalTree.read

    def read(tree: LocalTree, relative_path: str) -> bytes:
        keys.append(relative_path)
        return really_read(tree, relative_path)

    monkeypatch.setattr(LocalTree, "read", read)
    return keys


def hash_of(text: str) -> int:
    """A number for a text that is the same in every process."""
    return int.from_bytes(text.encode()[-6:], "big") * 1000


@pytest.fixture
def settings(tmp_path: Path, images: Path) -> Settings:
    """Settings with everything below ``tmp_path`` and the demo model."""
    return load_settings(images_root=images, lake_root=tmp_path / "lake", model_source="demo", settle_seconds=0)


@pytest.fixture
def pipeline(settings: Settings) -> Pipeline:
    """A pipeline whose registry is empty."""
    return Pipeline(settings)


@pytest.fixture(scope="session")
def registered_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An MLflow folder that holds the demo model, and notes of its files; made once for all processes of a run."""
    from mlflow.store.db import utils

    # Which revision of the database is the newest, MLflow finds out of sixty files, with each that it opens.
    utils._get_latest_schema_revision = cache(utils._get_latest_schema_revision)
    of_run = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        of_run = of_run.parent
    home, done = of_run / "registered", of_run / "registered" / "done"
    with FileLock(of_run / "registered.lock"):
        if not done.exists():
            made = Pipeline(load_settings(images_root=home, lake_root=home / "lake", model_source="demo"))
            made.registry.load_encoder(made.selection.choose().model, "cpu", "float32").embed_texts(["a leaf"])
            done.touch()
    own = tmp_path_factory.mktemp("registered_model") / "mlflow"
    copy_registry(home / "mlflow", own)
    (own / "artifacts").symlink_to(home / "mlflow" / "artifacts")
    return own


def copy_registry(registered_model: Path, target: Path) -> None:
    """The same registry beside another lake; its artifacts stay where they were first written."""
    target.mkdir(exist_ok=True)
    shutil.copy(registered_model / "mlflow.db", target)
    shutil.copytree(registered_model / "notes", target / "notes")


def mlflow_at(registry: Registry) -> Any:
    """MLflow, from now on at this registry: another test may have left it at its own."""
    return registry._connection.mlflow()


def downloaded(registry: Registry, model: RegisteredModel) -> Path:
    """Files of a version."""
    return Path(mlflow_at(registry).artifacts.download_artifacts(artifact_uri=model.uri))


def register(pipeline: Pipeline) -> tuple[RegisteredModel, bool]:
    """Register the model of ``MODEL_SOURCE``: the champion, and whether a version is new."""
    chosen = pipeline.selection.choose()
    return chosen.model, chosen.is_new


@dataclass(frozen=True)
class GivenEncoders(Encoders):
    """Encoders that a test has made itself."""

    registry: tuple[str, Path, bool] = ("", Path(), True)
    batch_size: int | None = 2
    given: Callable[[], Sequence[Encoder]] = tuple

    def load_all(self, model: RegisteredModel, gpus: Sequence[str] = ()) -> list[Encoder]:
        return list(self.given())


@pytest.fixture
def ready(pipeline: Pipeline, registered_model: Path) -> Pipeline:
    """A pipeline with the demo model registered as version 1."""
    copy_registry(registered_model, pipeline.settings.mlflow_dir)
    return pipeline


@pytest.fixture(scope="session")
def spark() -> Iterator[Any]:
    """A real Spark session of two task slots, each task tried three times; starting one takes seconds."""
    from curation_assets.spark.session import open_session

    session = open_session(load_settings(engine="spark", spark_master="local[2,3]"))
    yield session
    session.stop()


@pytest.fixture(scope="session")
def s3_of_session() -> Iterator[S3]:
    from curation_assets_tests.stores.s3_server import s3_server

    with s3_server() as server:
        yield server


@pytest.fixture
def s3(s3_of_session: S3) -> S3:
    """An empty bucket on an S3 server of this machine, whose requests can be counted and made to fail."""
    server = s3_of_session
    server.bucket = f"bucket-{uuid.uuid4().hex[:12]}"
    server.client.create_bucket(Bucket=server.bucket)
    server.fail()
    return server


@pytest.fixture
def volume(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[Volume]:
    """A volume that isn't mounted, of a workspace of this machine that the environment names."""
    from curation_assets_tests.fake_databricks import TOKEN, Volume, serving

    home = tmp_path_factory.mktemp("workspace")
    with serving(home) as workspace:
        monkeypatch.setenv("DATABRICKS_HOST", workspace.url)
        monkeypatch.setenv("DATABRICKS_TOKEN", TOKEN)
        monkeypatch.setenv("DATABRICKS_CONFIG_FILE", str(home / "no such file"))
        yield Volume(workspace)
