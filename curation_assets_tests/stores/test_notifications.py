"""Messages as the clouds' own documentation shows them, and where they come from."""

from __future__ import annotations

import base64
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import boto3
import pytest

from curation_assets.errors import CurationError
from curation_assets.settings import load_settings
from curation_assets.stores.address import StoreAddress
from curation_assets.stores.notifications import (
    QueueAddress,
    delete_messages,
    named_keys,
    read_messages,
)
from curation_assets.stores.options import StorageOptions
from curation_assets_tests.stores.s3_server import S3, SECRET

NOTHING = StorageOptions()


def s3_record(bucket: str, key: str, event: str = "ObjectCreated:Put") -> dict[str, Any]:
    return {
        "eventVersion": "2.1",
        "eventSource": "aws:s3",
        "awsRegion": "us-west-2",
        "eventTime": "1970-01-01T00:00:00.000Z",
        "eventName": event,
        "userIdentity": {"principalId": "AIDAJDPLRKLG7UEXAMPLE"},
        "requestParameters": {"sourceIPAddress": "127.0.0.1"},
        "responseElements": {"x-amz-request-id": "C3D13FE58DE4C810"},
        "s3": {
            "s3SchemaVersion": "1.0",
            "configurationId": "testConfigRule",
            "bucket": {"name": bucket, "ownerIdentity": {"principalId": "A3"}, "arn": f"arn:aws:s3:::{bucket}"},
            "object": {"key": key, "size": 1024, "eTag": "d41d8cd98f00b204e9800998ecf8427e", "sequencer": "0055AED6"},
        },
    }


def s3_message(bucket: str, key: str, event: str = "ObjectCreated:Put") -> dict[str, Any]:
    return {"Records": [s3_record(bucket, key, event)]}


TEST_EVENT = {
    "Service": "Amazon S3",
    "Event": "s3:TestEvent",
    "Time": "2014-10-13T15:57:02.089Z",
    "Bucket": "b",
    "RequestId": "5582815E1AEA5ADF",
    "HostId": "8cLeGAmw098X5cv4Zkwcmo8vvZa3eH3eKxsPzbB9wrR+YstdA6Knx4Ip8EXAMPLE",
}
SNS = {
    "Type": "Notification",
    "MessageId": "22b80b92-fdea-4c2c-8f9d-bdfb0c7bf324",
    "TopicArn": "arn:aws:sns:us-west-2:123456789012:MyTopic",
    "Subject": "Amazon S3 Notification",
    "Message": json.dumps(s3_message("b", "photos/maize/a+b%2Bc.jpg")),
    "Timestamp": "2012-05-02T00:54:06.655Z",
}
EVENT_BRIDGE = {
    "version": "0",
    "id": "17793124-05d4-b198-2fde-7ededc63b103",
    "detail-type": "Object Deleted",
    "source": "aws.s3",
    "account": "111122223333",
    "time": "2021-11-12T00:00:00Z",
    "region": "ca-central-1",
    "resources": ["arn:aws:s3:::b"],
    "detail": {
        "version": "0",
        "bucket": {"name": "b"},
        "object": {"key": "photos/maize/a b+c.jpg", "sequencer": "617f08299329d189"},
        "reason": "DeleteObject",
        "deletion-type": "Permanently Deleted",
    },
}
GOOGLE_OBJECT = {
    "kind": "storage#object",
    "id": "b/photos/maize/a b+c.jpg/1582838399163154",
    "name": "photos/maize/a b+c.jpg",
    "bucket": "b",
    "contentType": "image/jpeg",
}
PULLED = {
    "attributes": {
        "notificationConfig": "projects/_/buckets/b/notificationConfigs/3",
        "eventType": "OBJECT_DELETE",
        "payloadFormat": "NONE",
        "bucketId": "b",
        "objectId": "photos/maize/a b+c.jpg",
        "objectGeneration": "1582838399163154",
    },
    "messageId": "2070443601311540",
}
PUSHED = {
    "message": {
        "data": base64.b64encode(json.dumps(GOOGLE_OBJECT).encode()).decode(),
        "messageId": "2070443601311540",
        "publishTime": "2021-02-26T19:13:55.749Z",
    },
    "subscription": "projects/myproject/subscriptions/mysubscription",
}
EVENT_GRID = {
    "topic": "/subscriptions/{id}/resourceGroups/Storage/providers/Microsoft.Storage/storageAccounts/my-account",
    "subject": "/blobServices/default/containers/b/blobs/photos/maize/a b+c.jpg",
    "eventType": "Microsoft.Storage.BlobCreated",
    "eventTime": "2017-06-26T18:41:00.9584103Z",
    "id": "831e1650-001e-001b-66ab-eeb76e069631",
    "data": {
        "api": "PutBlockList",
        "contentType": "image/jpeg",
        "blobType": "BlockBlob",
        "url": "https://my-account.blob.core.windows.net/b/photos/maize/a%20b+c.jpg",
    },
    "dataVersion": "",
    "metadataVersion": "1",
}
CLOUD_EVENT = {
    "specversion": "1.0",
    "source": EVENT_GRID["topic"],
    "type": "Microsoft.Storage.BlobDeleted",
    "id": "831e1650-001e-001b-66ab-eeb76e069631",
    "data": EVENT_GRID["data"],
}


@pytest.mark.parametrize(
    "message",
    [
        s3_message("b", "photos/maize/a+b%2Bc.jpg", "ObjectRemoved:Delete"),
        SNS,
        EVENT_BRIDGE,
        GOOGLE_OBJECT,
        PULLED,
        {"message": PULLED, "subscription": "projects/myproject/subscriptions/mysubscription"},
        PUSHED,
        EVENT_GRID,
        CLOUD_EVENT,
    ],
)
def test_what_the_clouds_send_names_an_object(message: dict[str, Any]) -> None:
    text = json.dumps(message).encode()
    for root, key in (("s3://b/photos", "maize/a b+c.jpg"), ("az://b", "photos/maize/a b+c.jpg")):
        assert named_keys([text], StoreAddress.parse(root)) == ({key}, 0)
    for root in ("s3://b/photo", "s3://b/photos/maize/a", "s3://c/photos"):
        assert named_keys([text], StoreAddress.parse(root)) == (set(), 0)


def test_messages_come_alone_in_a_list_or_one_behind_the_other() -> None:
    messages = [s3_message("b", f"{number}/x.jpg") for number in range(3)]
    said = [json.dumps(each) for each in messages]
    two_records = {"Records": [s3_record("b", "3/x.jpg"), s3_record("b", "4/x.jpg")]}
    texts = ["\n".join(said), "".join(said), json.dumps(messages), "\ufeff" + json.dumps(two_records, indent=1)]
    assert [sorted(named_keys([text.encode()], StoreAddress.parse("s3://b"))[0]) for text in texts] == [
        *[["0/x.jpg", "1/x.jpg", "2/x.jpg"]] * 3,
        ["3/x.jpg", "4/x.jpg"],
    ]


def test_what_is_not_understood_is_counted_and_the_rest_is_taken() -> None:
    odd: list[Any] = [TEST_EVENT, {}, 1, None, "text", [[]], {"Records": [None, {"s3": 1}]}, {"Message": "{"}]
    odd += [{"data": "not base64"}, {"detail": {"bucket": {"name": 1}, "object": {"key": 2}}}]
    odd += [{"attributes": {"bucketId": "b", "objectId": "\ud800.jpg"}}, {"data": {"url": "https://[/b/x.jpg"}}]
    odd.append(json.loads('{"message":' * 900 + "1" + "}" * 900))
    good = s3_message("b", "maize/x.jpg")
    texts = [json.dumps([*odd, good]).encode(), b"\xff\xfe", b'{"half', b"", b"[" * 100_000]
    assert named_keys(texts, StoreAddress.parse("s3://b")) == ({"maize/x.jpg"}, len(odd) + 3)


@pytest.fixture(params=["folder", "bucket"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path | StoreAddress, Callable[..., None], Any]:
    """Where message files lie, and what writes one."""
    if request.param == "folder":

        def write(name: str, text: bytes) -> None:
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_bytes(text)

        return tmp_path, write, NOTHING
    s3: S3 = request.getfixturevalue("s3")
    address = StoreAddress.parse(f"s3://{s3.bucket}/events")
    return address, lambda name, text: s3.put(f"events/{name}", text), StorageOptions.parse(s3.options)


def test_files_are_read_once_in_the_order_of_their_names(place: Any) -> None:
    where, write, options = place
    for name in ("2026/b", "2026/a", "2025/z"):
        write(name, name.encode())
    first = read_messages(where, options, None)
    assert (first.texts, first.last) == ([b"2025/z", b"2026/a", b"2026/b"], "2026/b")
    assert read_messages(where, options, first.last).texts == []
    write("2026/aa", b"late")
    write("2026/c", b"new")
    second = read_messages(where, options, first.last)
    assert (second.texts, second.last) == ([b"new"], "2026/c")
    assert read_messages(where, options, None, are_wanted=False).last == "2026/c"
    assert read_messages(where, options, None, are_wanted=False).texts == []


def test_more_files_than_are_read_at_once_are_read_the_next_time(place: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("curation_assets.stores.notifications._MOST_FILES", 2)
    where, write, options = place
    for name in "abc":
        write(name, name.encode())
    first = read_messages(where, options, None)
    assert first.texts == [b"a", b"b"]
    assert read_messages(where, options, first.last).texts == [b"c"]


def test_a_folder_or_bucket_that_is_not_there_is_an_error(s3: S3, tmp_path: Path) -> None:
    with pytest.raises(OSError, match="gone"):
        read_messages(tmp_path / "gone", NOTHING, None)
    with pytest.raises(CurationError, match="isn't there") as told:
        read_messages(StoreAddress.parse("s3://no-such-bucket/x"), StorageOptions.parse(s3.options), None)
    assert SECRET not in str(told.value)


@pytest.fixture
def queue(s3: S3) -> tuple[QueueAddress, Callable[[Any], None]]:
    """A queue on the server of the bucket, and what sends to it."""
    known = {"aws_access_key_id": "a", "aws_secret_access_key": "b", "region_name": "us-east-1"}
    client = boto3.client("sqs", endpoint_url=s3.url, **known)
    url = client.create_queue(QueueName=f"of-{s3.bucket}")["QueueUrl"]
    address = QueueAddress.parse(f"https://sqs.us-east-1.amazonaws.com/123456789012/of-{s3.bucket}")
    return address, lambda message: client.send_message(QueueUrl=url, MessageBody=json.dumps(message))


def test_a_queue_is_read_and_its_messages_are_deleted_when_that_is_said(s3: S3, queue: Any) -> None:
    address, send = queue
    options = StorageOptions.parse(s3.options)
    for number in range(12):
        send(s3_message(s3.bucket, f"{number}/x.jpg"))
    found = read_messages(address, options, None)
    keys, odd = named_keys(found.texts, StoreAddress.parse(f"s3://{s3.bucket}"))
    assert (len(keys), odd, len(found.receipts), found.last) == (12, 0, 12, None)
    delete_messages(address, options, found.receipts)
    assert read_messages(address, options, None).texts == []


def test_a_queue_that_is_not_there_or_lacks_boto3_is_one_line(s3: S3, monkeypatch: pytest.MonkeyPatch) -> None:
    address = QueueAddress.parse("sqs://us-east-1/123456789012/gone")
    with pytest.raises(CurationError, match="sqs://us-east-1/123456789012/gone can't be read") as told:
        read_messages(address, StorageOptions.parse(s3.options), None)
    assert "\n" not in str(told.value)
    for name in [name for name in sys.modules if name.split(".")[0] in ("boto3", "botocore")]:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(CurationError, match=r"needs boto3.*curation_assets\[s3\]"):
        read_messages(QueueAddress.parse("sqs://us-east-1/123456789012/other"), NOTHING, None)


def test_the_setting_is_a_folder_a_prefix_or_a_queue(tmp_path: Path) -> None:
    for said, meant in (
        (str(tmp_path), tmp_path),
        ("gs://b/events", StoreAddress("gs", "b", "", "events")),
        ("sqs://eu-west-1/123456789012/q", QueueAddress("eu-west-1", "123456789012/q")),
        (
            "https://sqs.eu-west-1.amazonaws.com/123456789012/q.fifo",
            QueueAddress("eu-west-1", "123456789012/q.fifo", "sqs.eu-west-1.amazonaws.com"),
        ),
    ):
        settings = load_settings(images_events=said)
        assert settings.images_events == meant
        assert load_settings(images_events=settings.model_dump(mode="json")["images_events"]).images_events == meant
    for wrong in ("https://me.queue.core.windows.net/q", "sqs://eu-west-1/q", "http://x", "pubsub://x"):
        with pytest.raises(CurationError, match="CURATION_IMAGES_EVENTS") as told:
            load_settings(images_events=wrong)
        assert "\n" not in str(told.value)
    with pytest.raises(CurationError, match="CURATION_FULL_LOOK_SECONDS"):
        load_settings(full_look_seconds=-1)
