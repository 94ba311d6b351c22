"""The SQLite file of the default registry, made or migrated beside its place and put there whole.

MLflow makes its tables and migrates them one after another, outside of any transaction: ended in their midst by a kill
or a power cut, it leaves a file that no later process can open.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path

from curation_assets.files import sync

_SUFFIX = ".making"


def put_in_line(database: Path) -> None:
    """Have a database that MLflow opens as it is; what a killed process left is made anew, if nothing was in it.

    Call it under a lock: two processes would make one each.

    Args:
        database: the file, which need not be there.

    Raises:
        MlflowException, SQLAlchemyError, CommandError, sqlite3.Error, OSError: it can't be made or migrated; the file
            is as it was.
    """
    from mlflow.store.db.utils import _get_latest_schema_revision

    if database.exists() and _revision(database) == _get_latest_schema_revision():
        return
    staged = database.with_name(database.name + _SUFFIX)
    for left in database.parent.glob(f"{staged.name}*"):  # with the journals of a process that was killed
        left.unlink()
    if database.exists() and _holds_anything(database):
        with closing(sqlite3.connect(database)) as source, closing(sqlite3.connect(staged)) as target:
            source.backup(target)
    _let_mlflow_open(staged)
    sync(staged)
    os.replace(staged, database)
    sync(database.parent)


def _let_mlflow_open(database: Path) -> None:
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    uri = f"sqlite:///{database}"
    try:
        SqlAlchemyStore(uri, str(database.parent / "artifacts")).engine.dispose()
    finally:
        SqlAlchemyStore._engine_map.pop(uri, None)  # or the next database of that name would be this one's inode


def _revision(database: Path) -> str | None:
    """Of the schema; None where the first migration never ended."""
    with closing(sqlite3.connect(database)) as connection:
        if not _has_table(connection, "alembic_version"):
            return None
        row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
        return None if row is None else str(row[0])


def _holds_anything(database: Path) -> bool:
    """Whether MLflow ever finished opening it: the last thing it makes is the experiment ``Default``."""
    with closing(sqlite3.connect(database)) as connection:
        has_experiments = _has_table(connection, "experiments")
        return has_experiments and connection.execute("SELECT 1 FROM experiments").fetchone() is not None


def _has_table(connection: sqlite3.Connection, name: str) -> bool:
    question = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?"
    return connection.execute(question, (name,)).fetchone() is not None
