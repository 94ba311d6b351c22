from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from curation_assets.errors import CurationError
from curation_assets.settings import load_settings
from curation_assets.stores.address import StoreAddress, is_address
from curation_assets.stores.errors import failure, reason
from curation_assets.stores.opening import open_store
from curation_assets.stores.options import StorageOptions
from curation_assets.stores.volumes import VolumeAddress, unmounted


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("s3://photos/2024/coffee/", "s3://photos/2024/coffee"),
        ("S3A://photos", "s3://photos"),
        ("gs://my_photos/a b/ü", "gs://my_photos/a b/ü"),
        ("az://container/a", "az://container/a"),
        ("abfss://container@lake/a", "abfss://container@lake.dfs.core.windows.net/a"),
        ("abfss://container@lake.dfs.core.windows.net/a", "abfss://container@lake.dfs.core.windows.net/a"),
    ],
)
def test_an_address_is_text_and_comes_back_from_it(text: str, said: str) -> None:
    address = StoreAddress.parse(text)
    assert str(address) == said
    assert StoreAddress.parse(said) == address
    assert is_address(text)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("s3://key:secret-word@photos/a", "CURATION_STORAGE_OPTIONS"),
        ("az://photos/a?sv=2024&sig=secret-word", "CURATION_STORAGE_OPTIONS"),
        ("s3://photos@secret-word/a", "CURATION_STORAGE_OPTIONS"),
        ("s3://", "bucket '' is no name"),
        ("az:///a", "container '' is no name"),
        ("s3://photos/a//b", "an empty part"),
        ("s3://photos/a/../b", "'..'"),
        ("ftp://photos/a", "not an address"),
    ],
)
def test_what_is_no_address_is_refused_in_a_line_without_secrets(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=r".") as refused:
        StoreAddress.parse(text)
    said = str(refused.value)
    assert why in said
    assert "secret-word" not in said
    assert "\n" not in said


@pytest.mark.parametrize("mark", ["", "dbfs:"])
def test_an_address_in_a_volume_is_the_path_that_a_mount_gives_it(mark: str) -> None:
    address = VolumeAddress.parse(f"{mark}/Volumes/farm/crops/photos/2024 ü/")
    assert str(address) == "/Volumes/farm/crops/photos/2024 ü"
    assert address.written == "dbfs:/Volumes/farm/crops/photos/2024 ü"
    assert VolumeAddress.parse(address.written) == pickle.loads(pickle.dumps(address)) == address
    assert str(address.root) == "/Volumes/farm/crops/photos"
    assert str(address / "a#b.jpg") == "/Volumes/farm/crops/photos/2024 ü/a#b.jpg"
    assert address.below("/Volumes/farm/crops/photos/2024 ü/a#b.jpg") == "a#b.jpg"
    assert unmounted(Path(str(address))) == address
    assert unmounted(Path("/mnt/farm/crops/photos")) is None


@pytest.mark.parametrize(
    "text", ["dbfs:/Volumes/farm/crops", "/Volumes/farm//photos", "dbfs:/Volumes/a/b/c/../d", "/a/b/c"]
)
def test_what_is_no_folder_in_a_volume_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"volume"):
        VolumeAddress.parse(text)


@pytest.mark.parametrize("setting", ["lake_root", "index_root", "artifacts_root"])
def test_images_alone_may_lie_in_a_volume_that_is_not_mounted(setting: str) -> None:
    with pytest.raises(CurationError, match=r"mount it and write /Volumes/…, or write the address") as told:
        load_settings(**{setting: "dbfs:/Volumes/farm/crops/photos"})
    assert "\n" not in str(told.value)
    assert getattr(load_settings(**{setting: "/Volumes/farm/crops/lake"}), setting) == Path("/Volumes/farm/crops/lake")


def test_places_below_an_address_and_above() -> None:
    address = StoreAddress.parse("s3://photos/coffee")
    assert address.key("a/b.jpg") == "coffee/a/b.jpg"
    assert address.root.key("a/b.jpg") == "a/b.jpg"
    assert str(address / "a b") == "s3://photos/coffee/a b"
    assert address.below("s3://photos/coffee/a/b.jpg") == "a/b.jpg"
    assert address.below("s3://photos/coffee_2/b.jpg") is None
    assert (address.name, address.parent.name) == ("coffee", "photos")
    assert (address / "ü%20").as_uri() == "s3://photos/coffee/%C3%BC%2520"


def test_options_show_no_value_and_each_store_gets_its_own() -> None:
    options = StorageOptions.parse(
        '{"AWS_SECRET_ACCESS_KEY": "hush-hush", "azure_storage_sas_token": "tst", "timeout": "9s"}'
    )
    assert "hush-hush" not in repr(options) + str(options)
    assert options.of("s3") == {"aws_secret_access_key": "hush-hush", "timeout": "9s"}
    assert options.of("abfss") == {"azure_storage_sas_token": "tst", "timeout": "9s"}
    assert options.hidden("signed with hush-hush") == "signed with …"
    assert pickle.loads(pickle.dumps(options)) == options


@pytest.mark.parametrize("value", ["{", "[1]", '{"aws_secret_access_key": {"a": "hush-hush"}}', "hush-hush"])
def test_options_that_are_none_are_refused_without_being_repeated(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CURATION_STORAGE_OPTIONS", value)
    with pytest.raises(CurationError, match=r"^CURATION_STORAGE_OPTIONS: ") as refused:
        load_settings()
    assert "hush-hush" not in str(refused.value)


def test_an_option_that_no_store_knows_is_named_and_its_value_is_not() -> None:
    options = StorageOptions.parse({"aws_secret_access_kye": "hush-hush"})
    with pytest.raises(CurationError, match="aws_secret_access_kye") as refused:
        open_store(StoreAddress.parse("s3://photos"), options)
    assert "hush-hush" not in str(refused.value)


def test_settings_take_folders_and_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CURATION_IMAGES_ROOT", "s3://photos/coffee/")
    assert load_settings().images_root == StoreAddress.parse("s3://photos/coffee")
    monkeypatch.setenv("CURATION_IMAGES_ROOT", "memory://photos")
    with pytest.raises(CurationError, match="CURATION_IMAGES_ROOT='memory://photos'"):
        load_settings()
    monkeypatch.setenv("CURATION_IMAGES_ROOT", "https://photos.example/coffee")
    with pytest.raises(CurationError, match="looks like a URL"):
        load_settings()


class ObstoreError(Exception):
    pass


@pytest.mark.parametrize(
    ("said", "kind", "told"),
    [
        ("x in 3ms - Server returned non-2xx status code: 403 Forbidden: ", PermissionError, "403 Forbidden"),
        (
            "x - Server returned non-2xx status code: 403 Forbidden: <?xml?>\n<Error><Code>ExpiredToken</Code></Error>",
            CurationError,
            "403 Forbidden, ExpiredToken",
        ),
        (
            "x - Server returned non-2xx status code: 503 Service Unavailable: ",
            CurationError,
            "503 Service Unavailable",
        ),
        (
            "Error performing GET https://a.example/b?sig=hush in 3.1ms - HTTP error: error sending request",
            CurationError,
            "GET https://a.example/b - HTTP error",
        ),
    ],
)
def test_errors_are_of_an_object_or_of_the_whole_store(said: str, kind: type[Exception], told: str) -> None:
    address = StoreAddress.parse("s3://photos/a.jpg")
    found = failure(ObstoreError(said), address, StorageOptions())
    assert isinstance(found, kind)
    assert told in str(found)
    assert "hush" not in str(found) + reason(ObstoreError(said), StorageOptions())


def test_dagsters_resource_shows_the_address_and_no_credentials() -> None:
    from curation_assets.defs.resources import CurationResource

    options = {"aws_secret_access_key": "hush-hush"}
    settings = load_settings(images_root="s3://photos/coffee", storage_options=options)
    shown = CurationResource.of(settings).settings
    assert shown["images_root"] == "s3://photos/coffee"
    assert "hush-hush" not in str(shown)
    assert load_settings(**settings.model_dump()) == settings
