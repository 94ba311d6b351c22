"""Object stores that run on this machine."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest

from curation_assets_tests.stores.s3_server import S3, s3_server


@pytest.fixture(scope="session")
def s3_of_session() -> Iterator[S3]:
    with s3_server() as server:
        yield server


@pytest.fixture
def s3(s3_of_session: S3) -> S3:
    """An empty bucket on an S3 server."""
    server = s3_of_session
    server.bucket = f"bucket-{uuid.uuid4().hex[:12]}"
    server.client.create_bucket(Bucket=server.bucket)
    server.fail()
    return server
