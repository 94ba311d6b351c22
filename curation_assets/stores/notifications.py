"""Messages of a bucket about its objects: what they name, and how new ones are read from files or from an SQS queue.

A message only says where to look: what is there, a listing says. Understood are, alone, in a JSON list, or one behind
the other as in JSON lines:

- Amazon S3's event notifications, whose keys are URL-encoded with ``+`` for a space, also within SNS's ``Message``
  (https://docs.aws.amazon.com/AmazonS3/latest/userguide/notification-content-structure.html), and EventBridge's, whose
  keys are plain (https://docs.aws.amazon.com/AmazonS3/latest/userguide/ev-events.html);
- Google's, by a message's attributes or by its payload, the object's own resource, also in the envelope of a push
  (https://cloud.google.com/storage/docs/pubsub-notifications, https://cloud.google.com/pubsub/docs/push);
- Azure's, in the schema of Event Grid and in that of CloudEvents
  (https://learn.microsoft.com/azure/event-grid/event-schema-blob-storage).
"""

from __future__ import annotations

import base64
import json
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import unquote, unquote_plus, urlsplit

from curation_assets.errors import CurationError
from curation_assets.stores.address import StoreAddress
from curation_assets.stores.errors import explained_store
from curation_assets.stores.opening import open_store
from curation_assets.stores.options import StorageOptions

_MOST_FILES, _MOST_MESSAGES = 500, 2000  # read at once; the rest the next time
_MOST_BYTES = 64 * 2**20  # of a file; a larger one holds no messages
_SECONDS = 10  # that reading may take, and that a store's refusals are waited for
_AT_ONCE = 16  # files
_HIDDEN_SECONDS = 120  # that a message which was read is given to nobody else; then it comes again
_QUEUE = re.compile(
    r"(?:sqs://(?P<short>[a-z0-9-]+)|https://(?P<host>(?:[\w-]+\.)?sqs(?:-fips)?\.(?P<region>[a-z0-9-]+)"
    r"\.(?:vpce\.)?amazonaws\.com(?:\.cn)?))/(?P<account>\d{12})/(?P<name>[\w-]{1,80}(?:\.fifo)?)"
)
_BLOB = re.compile(r"/blobServices/[^/]+/containers/([^/]+)/blobs/(.+)", re.DOTALL)
_OF_AZURE = ("url", "sourceUrl", "destinationUrl")


@dataclass(frozen=True)
class QueueAddress:
    """A queue of Amazon SQS.

    Attributes:
        path: account and name.
        host: of its address; "" where it is the region's usual one.
    """

    region: str
    path: str
    host: str = ""

    @classmethod
    def parse(cls, text: str) -> QueueAddress:
        """Read an address.

        Raises:
            ValueError: it is none, in one line.
        """
        if (said := _QUEUE.fullmatch(text.strip().rstrip("/"))) is None:
            raise ValueError(
                "no address of an SQS queue; write https://sqs.<region>.amazonaws.com/<account>/<name> or "
                "sqs://<region>/<account>/<name>. Other queues can't be read: have their messages written as files, "
                "and give the folder or prefix"
            )
        return cls(said["short"] or said["region"], f"{said['account']}/{said['name']}", said["host"] or "")

    @staticmethod
    def is_meant(text: str) -> bool:
        """Whether a text is to be one."""
        return text.partition("://")[0].lower() in ("sqs", "http", "https") and "://" in text

    @property
    def written(self) -> str:
        """As a setting says it."""
        return f"https://{self.host}/{self.path}" if self.host else f"sqs://{self.region}/{self.path}"

    def __str__(self) -> str:
        return self.written


@dataclass(frozen=True)
class Messages:
    """What was read.

    Attributes:
        texts: of files, each with one message or several, or of a queue's messages.
        last: name of the last file that was read, below its folder or prefix.
        receipts: by which the queue's messages are deleted.
    """

    texts: list[bytes] = field(default_factory=list)
    last: str | None = None
    receipts: list[str] = field(default_factory=list)


def read_messages(
    place: Path | StoreAddress | QueueAddress, options: StorageOptions, after: str | None, *, are_wanted: bool = True
) -> Messages:
    """Read messages that are new.

    Args:
        place: of files, which are read in the order of their names, or a queue.
        after: name of the file that was read last; None reads from the first one on.
        are_wanted: whether they are needed; else it is only told up to where there are files.

    Raises:
        CurationError, OSError: they can't be read.
    """
    if isinstance(place, QueueAddress):
        with _explained_queue(place, options):
            return _received(place, options)
    names = _local_names(place, after) if isinstance(place, Path) else _keys(place, options, after)
    found: list[tuple[str, int]] = []
    until = time.monotonic() + _SECONDS
    is_sorted = isinstance(place, Path) or place.scheme in ("s3", "gs")
    for some in names:
        found += some
        if (are_wanted and is_sorted and len(found) >= _MOST_FILES) or time.monotonic() > until:
            break
    found = sorted(found)[:_MOST_FILES] if are_wanted else sorted(found)
    last = found[-1][0] if found else after
    if not are_wanted:
        return Messages(last=last)
    read = _file_reader(place, options)
    with ThreadPoolExecutor(_AT_ONCE, "messages") as pool:
        texts = list(pool.map(lambda each: read(each[0]) if each[1] <= _MOST_BYTES else b"?", found))
    return Messages([text for text in texts if text is not None], last)


def delete_messages(place: QueueAddress, options: StorageOptions, receipts: list[str]) -> None:
    """Delete messages of a queue.

    Raises:
        CurationError: they can't be deleted, and come again.
    """
    with _explained_queue(place, options):
        client = _client(place, options)
        for start in range(0, len(receipts), 10):
            entries = [{"Id": str(n), "ReceiptHandle": each} for n, each in enumerate(receipts[start : start + 10])]
            failed = client.delete_message_batch(QueueUrl=_url(place, options), Entries=entries).get("Failed")
            if failed:
                raise CurationError(f"{place} doesn't delete messages: {failed[0].get('Message', failed[0]['Code'])}")


def named_keys(texts: Iterable[bytes], root: StoreAddress) -> tuple[set[str], int]:
    """What messages name.

    Returns:
        Keys of objects below an address, relative to it; and how many messages were not understood. Those of other
        buckets and prefixes are left aside.
    """
    keys: set[str] = set()
    odd = 0
    start = root.key("x")[:-1]
    for text in texts:
        for message in _messages(text):
            places = [] if message is None else list(_objects(message))
            odd += not places
            keys |= {
                key.removeprefix(start) for bucket, key in places if bucket == root.bucket and key.startswith(start)
            }
    return keys, odd


def _messages(text: bytes) -> Iterator[Any]:
    """The messages of a text; None for what is none."""
    decoder = json.JSONDecoder()
    try:
        rest = text.decode("utf-8-sig").strip()
        while rest:
            value, end = decoder.raw_decode(rest)
            yield from value if isinstance(value, list) else [value]
            rest = rest[end:].lstrip()
    except (ValueError, RecursionError):
        yield None


def _objects(message: Any) -> Iterator[tuple[str, str]]:
    """Bucket and key of each object that a message names."""
    with suppress(RecursionError):
        for bucket, key in _said(message):
            if isinstance(bucket, str) and isinstance(key, str) and key and not _is_broken(key):
                yield bucket, key


def _said(message: Any) -> Iterator[tuple[Any, Any]]:
    if not isinstance(message, dict):
        return
    for record in _list(message.get("Records")):
        of = _dict(_dict(record).get("s3"))
        key = _dict(of.get("object")).get("key")
        yield _dict(of.get("bucket")).get("name"), unquote_plus(key) if isinstance(key, str) else None
    if isinstance(wrapped := message.get("Message"), str):  # SNS
        for inner in _messages(wrapped.encode("utf-8", "replace")):
            yield from _said(inner)
    detail = _dict(message.get("detail"))  # EventBridge
    yield _dict(detail.get("bucket")).get("name"), _dict(detail.get("object")).get("key")
    attributes = _dict(message.get("attributes"))  # Pub/Sub
    yield attributes.get("bucketId"), attributes.get("objectId")
    yield from _said(message.get("message"))
    if message.get("kind") == "storage#object":
        yield message.get("bucket"), message.get("name")
    data = message.get("data")
    if isinstance(data, str) and not attributes:
        for inner in _messages(_from_base64(data)):
            yield from _said(inner)
    yield from _said(data)
    subject = message.get("subject")
    if isinstance(subject, str) and (blob := _BLOB.fullmatch(subject)):
        yield blob[1], blob[2]
    for name in _OF_AZURE:
        if isinstance(url := _dict(data).get(name), str):
            container, _, key = _path(url).lstrip("/").partition("/")
            yield container, unquote(key)


def _path(url: str) -> str:
    try:
        return urlsplit(url).path
    except ValueError:
        return ""


def _from_base64(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except ValueError:
        return b"?"


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _is_broken(text: str) -> bool:
    """Whether a text has half of a character, which no key has."""
    return any("\ud800" <= char <= "\udfff" for char in text)


def _local_names(folder: Path, after: str | None) -> Iterator[list[tuple[str, int]]]:
    found = []
    for place, directories, names in os.walk(folder, onerror=_raise):
        directories[:] = [each for each in directories if not each.startswith(".")]
        for name in names:
            path = Path(place, name)
            below = path.relative_to(folder).as_posix()
            if not name.startswith(".") and (after is None or below > after) and path.is_file():
                found.append((below, path.stat().st_size))
    yield sorted(found)


def _raise(error: OSError) -> None:
    raise error


def _keys(address: StoreAddress, options: StorageOptions, after: str | None) -> Iterator[list[tuple[str, int]]]:
    import obstore

    start = len(address.key("x")) - 1
    with explained_store(address, options):
        store = open_store(address.root, options, _SECONDS)
        offset = None if after is None else address.key(after)
        for page in obstore.list(store, address.prefix or None, offset=offset, chunk_size=1000):
            yield [(each["path"][start:], each["size"]) for each in page if each["path"][start:]]


def _file_reader(place: Path | StoreAddress, options: StorageOptions) -> Callable[[str], bytes | None]:
    """Reads a file; None of one that is gone by now."""
    import obstore

    def read(name: str) -> bytes | None:
        try:
            if isinstance(place, Path):
                return (place / name).read_bytes()
            with explained_store(place / name, options):
                store = open_store(place.root, options, _SECONDS)
                return obstore.get(store, place.key(name)).bytes().to_bytes()
        except FileNotFoundError:
            return None

    return read


def _received(queue: QueueAddress, options: StorageOptions) -> Messages:
    client, found = _client(queue, options), Messages()
    until = time.monotonic() + _SECONDS
    while len(found.texts) < _MOST_MESSAGES and time.monotonic() < until:
        answer = client.receive_message(
            QueueUrl=_url(queue, options),
            MaxNumberOfMessages=10,
            WaitTimeSeconds=1,  # with none, only some of the queue's servers are asked
            VisibilityTimeout=_HIDDEN_SECONDS,
        )
        if not (messages := answer.get("Messages")):
            break
        found.texts.extend(each["Body"].encode("utf-8", "replace") for each in messages)
        found.receipts.extend(each["ReceiptHandle"] for each in messages)
    return found


@lru_cache(maxsize=4)
def _client(queue: QueueAddress, options: StorageOptions) -> Any:
    try:
        import boto3
        from botocore.config import Config
    except ImportError:
        raise CurationError(f"{queue} needs boto3, which isn't installed: pip install 'curation_assets[s3]'") from None
    given = options.of("s3")
    keys = {
        "aws_access_key_id": given.get("aws_access_key_id"),
        "aws_secret_access_key": given.get("aws_secret_access_key"),
        "aws_session_token": given.get("aws_session_token", given.get("aws_token")),
    }
    config = Config(connect_timeout=5, read_timeout=10, retries={"mode": "standard", "total_max_attempts": 3})
    return boto3.Session().client(
        "sqs", region_name=queue.region, endpoint_url=_endpoint(queue, options), config=config, **keys
    )


def _endpoint(queue: QueueAddress, options: StorageOptions) -> str | None:
    """Of who speaks Amazon's protocols elsewhere; one of S3's own is none of SQS."""
    given = dict(options.of("s3"))
    said = given.get("aws_endpoint_url", given.get("aws_endpoint"))
    if said is not None and ".amazonaws.com" not in said:
        return said
    return f"https://{queue.host}" if queue.host else None


def _url(queue: QueueAddress, options: StorageOptions) -> str:
    usual = "amazonaws.com.cn" if queue.region.startswith("cn-") else "amazonaws.com"
    return f"{_endpoint(queue, options) or f'https://sqs.{queue.region}.{usual}'}/{queue.path}"


@contextmanager
def _explained_queue(queue: QueueAddress, options: StorageOptions) -> Iterator[None]:
    try:
        from botocore.exceptions import BotoCoreError, ClientError
    except ImportError:
        BotoCoreError = ClientError = CurationError  # noqa: N806
    try:
        yield
    except CurationError:
        raise
    except (BotoCoreError, ClientError, ValueError) as error:
        raise CurationError(f"{queue} can't be read: {options.hidden(' '.join(str(error).split()))}") from None
