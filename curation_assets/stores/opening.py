"""How stores are opened: one client a bucket and process, whose requests are tried again with growing pauses."""

from __future__ import annotations

import os
from datetime import timedelta
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from curation_assets.errors import CurationError
from curation_assets.stores.address import StoreAddress
from curation_assets.stores.options import StorageOptions

if TYPE_CHECKING:
    from obstore.store import ObjectStore, RetryConfig, S3CredentialProvider

# A request is tried again on 429, 5xx, a reset and a timeout: ten times, for at most three minutes.
_RETRIES: RetryConfig = {
    "max_retries": 10,
    "backoff": {"init_backoff": timedelta(milliseconds=100), "max_backoff": timedelta(seconds=10), "base": 2},
}
# A whole request may take long, as a photograph may be of many megabytes; silence may not.
_PATIENCE = {"timeout": "10m", "read_timeout": "30s", "connect_timeout": "10s"}
_CLIENT = (
    *("allow_http", "allow_invalid_certificates", "connect_timeout", "http1_only", "http2_only", "pool_idle_timeout"),
    *("pool_max_idle_per_host", "proxy_ca_certificate", "proxy_excludes", "proxy_url", "randomize_addresses"),
    *("read_timeout", "root_certificate", "timeout", "user_agent"),
)


@lru_cache(maxsize=64)
def open_store(bucket: StoreAddress, options: StorageOptions, seconds: int = 180) -> ObjectStore:
    """The client of a bucket, whose keys are those of the whole bucket.

    Args:
        bucket: ``StoreAddress.root``.
        options: those that the address's scheme knows are used.
        seconds: after which a request isn't tried again.

    Raises:
        CurationError: the options are none of such a store's; the message holds no value.
    """
    from obstore.exceptions import BaseError
    from obstore.store import AzureStore, GCSStore, MemoryStore, S3Store

    if bucket.scheme == "memory":
        return MemoryStore()
    config, client = _parted(options.of(bucket.scheme))
    retries: RetryConfig = {**_RETRIES, "retry_timeout": timedelta(seconds=seconds)}
    given: dict[str, Any] = {"config": config, "client_options": client, "retry_config": retries}
    try:
        if bucket.scheme == "s3":
            if (profile := _profile(config)) is not None:
                given["credential_provider"] = profile
            return S3Store(bucket.bucket, **given)
        if bucket.scheme == "gs":
            return GCSStore(bucket.bucket, **given)
        if bucket.host:
            config.setdefault("azure_storage_account_name", bucket.host.partition(".")[0])
        return AzureStore(bucket.bucket, **given)
    except (BaseError, ValueError) as error:
        said = options.hidden(str(error).partition("\n")[0])
        raise CurationError(f"{bucket} can't be opened with CURATION_STORAGE_OPTIONS: {said}") from None


def _profile(config: dict[str, str]) -> S3CredentialProvider | None:
    """Credentials out of AWS's own files, where nothing else gives any: obstore doesn't read them, boto3 does.

    Raises:
        CurationError: a profile was asked for that can't be had.
    """
    if os.environ.get("AWS_ACCESS_KEY_ID") or any(
        "access_key_id" in name or "skip_signature" in name for name in config
    ):
        return None
    name = os.environ.get("AWS_PROFILE")
    files = [os.environ.get("AWS_SHARED_CREDENTIALS_FILE", "~/.aws/credentials"), "~/.aws/config"]
    if name is None and not any(Path(file).expanduser().is_file() for file in files):
        return None
    try:
        import boto3
        from botocore.exceptions import BotoCoreError
        from obstore.auth.boto3 import Boto3CredentialProvider
    except ImportError:
        if name is None:
            return None
        raise CurationError(
            f"AWS_PROFILE={name} needs boto3, which isn't installed: pip install 'curation_assets[s3]'"
        ) from None
    try:
        return Boto3CredentialProvider(boto3.Session())
    except (BotoCoreError, ValueError) as error:
        if name is None:  # files that hold settings alone
            return None
        raise CurationError(f"AWS_PROFILE={name} gives no credentials: {error}") from None


def _parted(options: dict[str, str]) -> tuple[dict[str, str], dict[str, Any]]:
    """What says which store, and what says how its server is talked to."""
    config: dict[str, str] = {}
    client: dict[str, Any] = dict(_PATIENCE)
    for name, value in options.items():
        plain = name.removeprefix("aws_").removeprefix("google_").removeprefix("azure_")
        if plain in _CLIENT:
            client[plain] = value
        else:
            config[name] = value
    return config, client
