"""A registry's database that a kill or an update of MLflow left unfinished."""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest
from mlflow.store.db import utils
from mlflow.store.db.utils import create_sqlalchemy_engine
from mlflow.store.tracking.dbmodels.initial_models import Base as FirstTables

from curation_assets.clip.database import put_in_line
from curation_assets.clip.registry import Registry
from curation_assets.clip.source import resolve
from curation_assets_tests.processes import FORKED

OLDER = "451aebb31d03"  # a revision of MLflow 1, before it had a registry of models
NAME = "farm.images.clip"


def _made_up_to(database: Path, revision: str | None) -> None:
    """What MLflow has made when it is killed after this migration; None: before the first."""
    engine = create_sqlalchemy_engine(f"sqlite:///{database}")
    FirstTables.metadata.create_all(engine)
    if revision:
        from alembic import command

        config = utils._get_alembic_config(str(engine.url))
        with engine.begin() as connection:
            config.attributes["connection"] = connection
            command.upgrade(config, revision)
    engine.dispose()


@pytest.mark.parametrize("revision", [None, OLDER])
def test_a_database_that_a_kill_left_half_made_is_made_anew(revision: str | None, tmp_path: Path) -> None:
    _made_up_to(tmp_path / "mlflow.db", revision)
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as connection:  # and the next migration was half done
        connection.execute("CREATE TABLE evaluation_datasets (dataset_id VARCHAR(36))")
    registry = Registry(NAME, tmp_path, own=True)
    model, _ = registry.register(resolve("demo"))
    assert registry.champion() == model


def test_a_database_of_an_earlier_mlflow_is_migrated_with_what_is_in_it(tmp_path: Path) -> None:
    database = tmp_path / "mlflow.db"
    _made_up_to(database, OLDER)
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("INSERT INTO experiments VALUES (7, 'of old', '/artifacts', 'active')")
    put_in_line(database)
    with closing(sqlite3.connect(database)) as connection:
        names = [row[0] for row in connection.execute("SELECT name FROM experiments ORDER BY name")]
        revision = connection.execute("SELECT version_num FROM alembic_version").fetchone()[0]
    assert names == ["Default", "of old"]
    assert revision == utils._get_latest_schema_revision()
    assert [path.name for path in tmp_path.iterdir()] == ["mlflow.db"]


def test_a_kill_while_it_is_made_leaves_none_or_a_whole_one(tmp_path: Path) -> None:
    database = tmp_path / "mlflow.db"
    for size in (1, 200_000):
        process = FORKED.Process(target=put_in_line, args=(database,))
        process.start()
        while process.exitcode is None and _size(tmp_path / "mlflow.db.making") < size:
            time.sleep(0.005)
        assert process.exitcode is None, "it ended before it could be killed"
        process.kill()
        process.join()
        assert not database.exists()
    put_in_line(database)
    assert [path.name for path in tmp_path.iterdir()] == ["mlflow.db"]


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
