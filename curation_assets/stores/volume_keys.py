"""Files of a volume that isn't mounted, through Databricks' Files API: listed by directory, read and written whole."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, replace
from email.utils import parsedate_to_datetime
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from random import uniform
from threading import Lock
from typing import TYPE_CHECKING, TypeVar

import polars as pl

from curation_assets.errors import CurationError, first_line
from curation_assets.stores import keys
from curation_assets.stores.keys import KEYS_SCHEMA, Enter, KeyFacts, NoFolderError, NotListedError
from curation_assets.stores.volumes import VolumeAddress, unmounted
from curation_assets.workspace import workspace_config

if TYPE_CHECKING:
    from databricks.sdk.service.files import FilesAPI

T = TypeVar("T")
_Row = tuple[str, int, int, None]

_FRAME_ROWS = 10_000  # of many small directories together
_CONNECTIONS = 96  # reads and requests for pages at once, and some to spare
# The library itself tries again what is refused for the moment (429, 503) and lost connections, for so long.
_RETRY_SECONDS = 180
_PAUSES = (0.2, 1.0, 4.0)  # seconds before the same is done of what it doesn't: 500, 502, 504, a body that breaks off
_OPENING = Lock()
_WRITE = "WRITE VOLUME"


@dataclass(frozen=True)
class VolumeKeys:
    """Files of a volume below a folder. There are no tags: size and time tell a version."""

    address: VolumeAddress

    def everything(self, enter: Enter) -> Iterator[pl.DataFrame]:  # noqa: D102
        yield from self.below("", enter)

    def below(self, directory: str, enter: Enter) -> Iterator[pl.DataFrame]:  # noqa: D102
        found: list[_Row] = []
        ahead, pending = [directory], set[Future[tuple[list[_Row], list[str]]]]()
        with ThreadPoolExecutor(keys.AT_ONCE, "list") as pool:
            try:
                while ahead or pending:
                    while ahead and len(pending) < keys.AT_ONCE:
                        pending.add(pool.submit(self._entries, ahead.pop()))
                    done, pending = wait(pending, return_when=FIRST_COMPLETED)
                    for files, directories in (each.result() for each in done):
                        found += files
                        ahead += filter(enter, directories)
                    if len(found) >= _FRAME_ROWS:
                        yield _frame(found)
                        found = []
            finally:
                pool.shutdown(wait=False, cancel_futures=True)
        yield _frame(found)

    def right_in(self, directory: str) -> tuple[pl.DataFrame, list[str]]:  # noqa: D102
        files, directories = self._entries(directory)
        return _frame(files), sorted(directories)

    def holds(self, directory: str) -> bool:  # noqa: D102
        with self._listed():
            return self._is_there(directory)

    def get(self, name: str) -> tuple[bytes, KeyFacts]:  # noqa: D102
        with self._explained(name):
            return _again(lambda: self._downloaded(name))

    def head(self, name: str) -> KeyFacts:  # noqa: D102
        with self._explained(name):
            found = _again(lambda: self._files.get_metadata(self._path(name)))
            return _facts(found.content_length or 0, found.last_modified)

    def put(self, name: str, data: bytes | Path, *, is_new: bool = False) -> bool:  # noqa: D102
        from databricks.sdk.errors import NotFound, ResourceConflict

        with self._explained(name, _WRITE):
            try:
                try:
                    _again(lambda: self._upload(name, data, is_new=is_new))
                except NotFound:  # its directory was deleted after it was made
                    _make_directory.cache_clear()
                    _again(lambda: self._upload(name, data, is_new=is_new))
            except ResourceConflict:
                if not is_new:
                    raise
                return False
            return True

    def delete(self, name: str) -> None:  # noqa: D102
        with self._explained(name, _WRITE):
            _again(lambda: self._files.delete(self._path(name)))

    def holding(self, location: str) -> tuple[VolumeKeys, str] | None:  # noqa: D102
        if (below := self.address.below(location)) is not None:
            return self, below
        above, _, name = location.rpartition("/")
        address = unmounted(above)
        return None if address is None else (replace(self, address=address), name)

    def _entries(self, directory: str) -> tuple[list[_Row], list[str]]:
        """Files right in a directory and the directories in it; of one below the root that is gone, none."""
        from databricks.sdk.errors import NotFound

        with self._listed():
            try:
                return _again(lambda: self._listing_of(directory))
            except NotFound:
                if not directory:
                    raise
        return [], []

    def _is_there(self, directory: str) -> bool:
        from databricks.sdk.errors import NotFound

        try:
            _again(lambda: self._files.get_directory_metadata(self._path(directory)))
        except NotFound:
            return False
        return True

    def _listing_of(self, directory: str) -> tuple[list[_Row], list[str]]:
        files: list[_Row] = []
        directories: list[str] = []
        start = f"{directory}/" if directory else ""
        for entry in self._files.list_directory_contents(self._path(directory)):
            if entry.is_directory:
                directories.append(f"{start}{entry.name}")
            else:
                time_ns = (entry.last_modified or 0) * 1_000_000
                files.append((f"{start}{entry.name}", entry.file_size or 0, time_ns, None))
        return files, directories

    def _downloaded(self, name: str) -> tuple[bytes, KeyFacts]:
        answer = self._files.download(self._path(name))
        if answer.contents is None:
            raise _BrokenOffError("the answer has no body")
        with answer.contents as body:
            data = body.read()
        if answer.content_length is not None and len(data) != answer.content_length:
            raise _BrokenOffError(f"{len(data):,} of {answer.content_length:,} bytes came")
        return data, _facts(len(data), answer.last_modified)

    def _upload(self, name: str, data: bytes | Path, *, is_new: bool) -> None:
        directory = (self.address / name).parent
        if directory.prefix:
            _make_directory(os.getpid(), _told(), str(directory))
        with BytesIO(data) if isinstance(data, bytes) else data.open("rb") as contents:
            self._files.upload(self._path(name), contents, overwrite=not is_new)

    def _path(self, name: str) -> str:
        return str(self.address / name)

    @property
    def _files(self) -> FilesAPI:
        return _open_once(os.getpid(), _told())

    @contextmanager
    def _listed(self) -> Iterator[None]:
        from databricks.sdk.errors import NotFound

        try:
            yield
        except _of_library() as error:
            kind = NoFolderError if isinstance(error, NotFound) else NotListedError
            raise kind(_reason(error, self._secrets)) from None

    @contextmanager
    def _explained(self, name: str, right: str = "READ VOLUME") -> Iterator[None]:
        try:
            yield
        except _of_library() as error:
            raise self._failure(error, name, right) from None

    def _failure(self, error: Exception, name: str, right: str) -> OSError | CurationError:
        """What an error is about, after all attempts: a file alone, or whatever else might be asked for."""
        from databricks.sdk import errors

        said, volume = _reason(error, self._secrets, right), self.address.root
        if isinstance(error, errors.NotFound):
            return FileNotFoundError(errno.ENOENT, "there is no such file", self._path(name))
        if isinstance(error, errors.Unauthenticated | errors.PermissionDenied):
            return CurationError(f"{volume} is refused ({said}): what was done stays")
        if isinstance(error, errors.BadRequest | errors.ResourceConflict | errors.NotImplemented):
            return OSError(errno.EIO, f"the workspace refuses it ({said})", self._path(name))
        return CurationError(f"{volume} can't be reached ({said}): what was done stays; run it again")

    @property
    def _secrets(self) -> list[str]:
        """Values that no message may hold."""
        config = self._files._api._cfg
        values = (getattr(config, each.name) for each in config.attributes() if each.sensitive)
        return [str(value) for value in values if value]


def _told() -> frozenset[tuple[str, str]]:
    """What the environment says of the workspace."""
    return frozenset((name, value) for name, value in os.environ.items() if name.startswith("DATABRICKS_"))


class _BrokenOffError(Exception):
    """Fewer bytes came than were announced."""


def _open_once(process: int, told: frozenset[tuple[str, str]]) -> FilesAPI:
    with _OPENING:  # many threads ask at once, and opening it takes requests
        return _open(process, told)


@lru_cache(maxsize=10_000)
def _make_directory(process: int, told: frozenset[tuple[str, str]], path: str) -> None:
    """Make a directory, which may be there, and those above it."""
    _open_once(process, told).create_directory(path)


@lru_cache(maxsize=2)
def _open(_process: int, _told: frozenset[tuple[str, str]]) -> FilesAPI:
    """The client of a process, of what its environment says.

    Raises:
        CurationError: no workspace or no credentials are configured, or it doesn't answer.
    """
    from databricks.sdk.core import ApiClient
    from databricks.sdk.service.files import FilesAPI

    config = workspace_config(
        "databricks",
        retry_timeout_seconds=_RETRY_SECONDS,
        max_connection_pools=_CONNECTIONS,  # the library takes the one for the other
        max_connections_per_pool=_CONNECTIONS,
        custom_headers={"Accept-Encoding": "identity"},  # the announced length is that of the file
    )
    # Not ``WorkspaceClient().files``: before each file that asks for a signed address in the cloud, which is a request
    # more, and hangs where only the workspace can be reached (databricks-sdk-py #1148, #1153).
    return FilesAPI(ApiClient(config))  # type: ignore[no-untyped-call]


def _again(work: Callable[[], T]) -> T:
    """What some work gives, tried again where the library doesn't."""
    for pause in _PAUSES:
        try:
            return work()
        except _of_library() as error:
            if not _may_pass(error):
                raise
        time.sleep(pause * uniform(0.5, 1.5))
    return work()


def _may_pass(error: Exception) -> bool:
    from databricks.sdk import errors
    from databricks.sdk.errors.base import DatabricksError
    from requests import RequestException

    passing = errors.InternalError | errors.DeadlineExceeded | RequestException | _BrokenOffError
    return isinstance(error, passing) or type(error) is DatabricksError  # of a status without a class: 502


def _of_library() -> tuple[type[Exception], ...]:
    """What Databricks' library raises, and what is raised of its answers."""
    from databricks.sdk.errors.base import DatabricksError
    from requests import RequestException

    return DatabricksError, RequestException, TimeoutError, ValueError, _BrokenOffError


def _reason(error: Exception, secrets: Iterable[str], right: str = "READ VOLUME") -> str:
    """Why, for people: what the workspace says, and what it takes to be let in."""
    from databricks.sdk import errors

    if isinstance(error, TimeoutError) and isinstance(error.__cause__, Exception):  # tried again until then
        error = error.__cause__
    said = first_line(error).partition(". Config: ")[0].partition("This is likely a bug")[0].strip()[:300]
    code = getattr(error, "error_code", None)
    said = said if code is None or str(code) in said else f"{code}: {said}"
    for secret in secrets:
        said = said.replace(secret, "…")
    if isinstance(error, errors.Unauthenticated):
        return f"{said}; check or renew DATABRICKS_TOKEN or the profile"
    if isinstance(error, errors.PermissionDenied):
        return f"{said}; {right} on the volume, USE SCHEMA and USE CATALOG are needed"
    return f"there is no such folder: {said}" if isinstance(error, errors.NotFound) else said


def _facts(size_bytes: int, last_modified: str | None) -> KeyFacts:
    """Of an answer, whose time is of whole seconds."""
    seconds = 0.0 if last_modified is None else parsedate_to_datetime(last_modified).timestamp()
    return KeyFacts(size_bytes, round(seconds) * 10**9)


def _frame(rows: list[_Row]) -> pl.DataFrame:
    return pl.DataFrame(rows, KEYS_SCHEMA, orient="row")
