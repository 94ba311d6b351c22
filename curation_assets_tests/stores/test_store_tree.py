"""Photographs in an object store: what is listed and read is what a disk with the same files would give."""

from __future__ import annotations

import itertools
import pickle
from collections import Counter
from pathlib import Path
from typing import Any

import obstore
import pytest

from curation_assets.errors import CurationError
from curation_assets.images.listing import ListedFile, TreeListing
from curation_assets.images.source import ImageSource, LocalTree
from curation_assets.images.store_tree import StoreTree
from curation_assets.images.walk import WalkRules
from curation_assets.stores import keys as store_keys
from curation_assets.stores import object_keys
from curation_assets.stores.address import StoreAddress
from curation_assets.stores.object_keys import ObjectKeys
from curation_assets.stores.opening import open_store
from curation_assets.stores.options import StorageOptions
from curation_assets.stores.volume_keys import VolumeKeys
from curation_assets.stores.volumes import VolumeAddress
from curation_assets_tests.fake_databricks import Volume
from curation_assets_tests.stores.s3_server import S3, SECRET, Fault

KEYS = (
    *("1.jpg", "a/1.jpg", "a/2.JPG", "a/notes.txt", "a/.hidden.jpg", "a/b/1.png", "a/b/c/1.webp", "a!/1.jpg"),
    *("a b/ü%20.jpg", "a.b/1.jpg", "d/thumbnails/1.jpg", "d/.cache/1.jpg", "d/e/raw.CR2", "d/e/1.jpg.icloud"),
    *("deep/er/est/1.jpg", "deep/er/2.jpg", "z/\U0010ff90.jpg", "ä/1.jpg", "empty/readme"),
)
_NUMBER = itertools.count()


def in_memory(keys: dict[str, bytes], **how: Any) -> StoreTree:
    """A tree in a store of this process, below a prefix beside which lie others."""
    address = StoreAddress("memory", f"b{next(_NUMBER)}", prefix="photos/all")
    store = open_store(address.root, StorageOptions())
    for key, data in keys.items():
        obstore.put(store, address.key(key), data)
    obstore.put(store, "photos/all_others/1.jpg", b"x")
    return StoreTree(ObjectKeys(address, StorageOptions()), **how)


def on_s3(s3: S3, keys: dict[str, bytes], **how: Any) -> StoreTree:
    for key, data in keys.items():
        s3.put(f"photos/all/{key}", data)
    s3.put("photos/all_others/1.jpg", b"x")
    address = StoreAddress("s3", s3.bucket, prefix="photos/all")
    return StoreTree(ObjectKeys(address, StorageOptions.parse(s3.options)), **how)


def on_disk(root: Path, keys: dict[str, bytes], **how: Any) -> LocalTree:
    for key, data in keys.items():
        path = root / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return LocalTree(root, **how)


def in_volume(volume: Volume, keys: dict[str, bytes], **how: Any) -> StoreTree:
    for key, data in keys.items():
        volume.put(f"photos/all/{key}", data)
    volume.put("photos/all_others/1.jpg", b"x")
    return StoreTree(VolumeKeys(VolumeAddress.parse(f"{volume.root}/photos/all")), **how)


@pytest.fixture(params=["memory", "s3", "volume"])
def make(request: pytest.FixtureRequest) -> Any:
    """Makes a tree of some keys in each kind of store."""
    if request.param == "memory":
        return in_memory
    if request.param == "volume":
        volume = request.getfixturevalue("volume")
        return lambda keys, **how: in_volume(volume, keys, **how)
    server = request.getfixturevalue("s3")
    return lambda keys, **how: on_s3(server, keys, **how)


def told(tree: TreeListing) -> dict[str, Any]:
    return {name: listing.files.select("relative_path", "size_bytes").rows() for name, listing in tree.folders.items()}


def alike(store: ImageSource, disk: ImageSource, *arguments: Any, **how: Any) -> None:
    one, other = store.list_folders(*arguments, **how), disk.list_folders(*arguments, **how)
    assert told(one) == told(other)
    assert one.unlisted == other.unlisted == {}


@pytest.mark.parametrize("depth", [None, 1, 2])
def test_folders_are_those_of_a_disk(make: Any, depth: int | None, tmp_path: Path) -> None:
    keys = {key: key.encode() for key in KEYS}
    store, disk = make(keys, depth=depth), on_disk(tmp_path, keys, depth=depth)
    alike(store, disk)
    assert store.list_folders().passed_over == disk.list_folders().passed_over
    folders = [*disk.list_folders().folders, "absent", "a/absent", "d/thumbnails"]
    for folder in folders:
        alike(store, disk, [folder])
        assert told(TreeListing({"": store.list_folder(folder)}, Counter())) == told(
            TreeListing({"": disk.list_folder(folder)}, Counter())
        )
    alike(store, disk, folders)
    for names in (["a"], ["a", "a/b"], ["deep"], ["absent"], ["."], ["d"]):
        alike(store, disk, within=names)


def test_what_is_left_out_is_left_out(make: Any, tmp_path: Path) -> None:
    keys = {key: key.encode() for key in KEYS}
    rules = WalkRules(("er", "a/b"))
    alike(make(keys, rules=rules), on_disk(tmp_path, keys, rules=rules))
    store = make(keys, rules=rules)
    assert store.why_not_listed("deep/er/est") == "'deep/er': folder left out by CURATION_LEAVE_OUT"
    assert not store.stands("deep/er")
    assert store.stands("deep")


@pytest.mark.parametrize("at_once", [1, 2, 3, 16])
def test_a_divided_listing_has_every_key_once(s3: S3, at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_keys, "AT_ONCE", at_once)
    monkeypatch.setattr(object_keys, "_PAGE", 2)
    names = ("a", "a!", "a-", "a.b", "a0", "b", "b b", "é", "\U0001f33f")
    keys = {f"{name}/{number}.jpg": b"x" for name in names for number in range(3)} | {"1.jpg": b"x"}
    tree = on_s3(s3, keys).list_folders()
    found = [path for listing in tree.folders.values() for path in listing.files["relative_path"]]
    assert sorted(found) == sorted(keys)
    assert sorted(tree.folders) == sorted([*names, "."])


def test_an_unchanged_object_has_the_same_fingerprint_and_one_put_again_has_not(s3: S3) -> None:
    tree = on_s3(s3, {"a/1.jpg": b"one", "a/2.jpg": b"two"})
    before = tree.list_folder("a").fingerprint
    assert tree.list_folder("a").fingerprint == before
    s3.put("photos/all/a/1.jpg", b"eno")  # as many bytes, within the same second
    assert tree.list_folder("a").fingerprint != before


def test_an_object_is_read_with_one_request_and_told_of_if_it_is_another_by_now(s3: S3) -> None:
    tree = on_s3(s3, {"a/1.jpg": b"one"})
    (listed,) = map(ListedFile._make, tree.list_folder("a").files.iter_rows())
    s3.forget()
    assert tree.read_listed(listed).now is None
    assert s3.asked() == {("GET", "photos/all/a/1.jpg"): 1}
    s3.put("photos/all/a/1.jpg", b"eno")
    read = tree.read_listed(listed)
    assert read.data == b"eno"
    assert read.now is not None
    (again,) = map(ListedFile._make, tree.list_folder("a").files.iter_rows())
    assert (read.now.size_bytes, read.now.etag) == (3, again.etag)
    assert tree.read_listed(again).now is None


def test_reads_that_have_begun_are_those_of_their_files(s3: S3) -> None:
    keys = {f"a/{number}.jpg": bytes([number]) * 1000 for number in range(100)}
    tree = on_s3(s3, keys)
    files = [ListedFile._make(row) for row in tree.list_folder("a").files.iter_rows()]
    begun = tree.begun(files)
    assert {file.relative_path: begun.read_listed(file).data for file in files} == keys
    assert set(s3.of("GET").values()) == {1}


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_refusal_of_the_moment_is_tried_again(s3: S3, status: int) -> None:
    tree = on_s3(s3, {"a/1.jpg": b"one"})
    s3.fail(Fault(status=status, times=2))
    assert tree.read("a/1.jpg") == b"one"


def test_a_body_that_breaks_off_is_gone_on_with(s3: S3) -> None:
    data = bytes(range(256)) * 4000
    tree = on_s3(s3, {"a/1.jpg": data})
    s3.fail(Fault(cut=300_000, times=2))
    assert tree.read("a/1.jpg") == data


def test_an_object_that_may_not_be_read_is_its_own_fault_and_a_token_that_expired_everybodys(s3: S3) -> None:
    tree = on_s3(s3, {"a/1.jpg": b"one"})
    s3.fail(Fault(key="[.]jpg$", status=403))
    with pytest.raises(PermissionError, match="403 Forbidden"):
        tree.read("a/1.jpg")
    s3.fail(Fault(status=401))
    with pytest.raises(CurationError, match=f"s3://{s3.bucket} can't be read from"):
        tree.read("a/1.jpg")


def test_a_root_with_nothing_below_it_is_no_empty_tree(make: Any) -> None:
    with pytest.raises(CurationError, match=r"there is (nothing below it|no such folder)"):
        make({}).list_folders()
    with pytest.raises(CurationError, match="there is nothing below it"):
        make({}).list_folder("a")


def test_a_bucket_that_is_not_there_is_one_line(s3: S3) -> None:
    tree = StoreTree(ObjectKeys(StoreAddress("s3", "no-such-bucket"), StorageOptions.parse(s3.options)))
    with pytest.raises(
        CurationError, match=r"^images root s3://no-such-bucket cannot be listed: 404 Not Found, NoSuch"
    ):
        tree.list_folders()


def test_a_key_that_no_path_can_stand_for_costs_its_own_directory(s3: S3) -> None:
    tree = on_s3(s3, {"a/1.jpg": b"x", "b/1.jpg": b"x", "b//2.jpg": b"x", "b/c/3.jpg": b"x", "d/./4.jpg": b"x"})
    listed = tree.list_folders()
    assert list(listed.folders) == ["a"]
    assert set(listed.unlisted) == {"b", "d"}
    assert "('photos/all/b//')" in listed.unlisted["b"]


def test_marks_of_directories_are_no_files(s3: S3) -> None:
    tree = on_s3(s3, {"": b"", "a/": b"", "a/1.jpg": b"x", "b/": b""})
    listed = tree.list_folders()
    assert told(listed) == {"a": [("a/1.jpg", 1)]}
    assert not listed.passed_over


def test_places_that_tables_tell_are_read_also_of_another_root(s3: S3, tmp_path: Path) -> None:
    tree = on_s3(s3, {"a/1.jpg": b"one"})
    s3.put("elsewhere/2.jpg", b"two")
    (tmp_path / "3.jpg").write_bytes(b"three")
    for location, data in (
        (f"s3://{s3.bucket}/photos/all/a/1.jpg", b"one"),
        (f"s3://{s3.bucket}/elsewhere/2.jpg", b"two"),
        (str(tmp_path / "3.jpg"), b"three"),
    ):
        assert tree.begun_at(location)() == data
        assert tree.size_at(location) == len(data)
    with pytest.raises(OSError, match="scan the folder again"):
        LocalTree(tmp_path).begun_at(f"s3://{s3.bucket}/elsewhere/2.jpg")()


def test_a_file_is_deleted_and_one_that_is_gone_is_no_error(make: Any) -> None:
    tree = make({"a/1.jpg": b"one", "a/2.jpg": b"two"})
    assert tree.is_there("a/1.jpg")
    tree.delete("a/1.jpg")
    tree.delete("a/1.jpg")
    assert not tree.is_there("a/1.jpg")
    assert list(tree.list_folder("a").files["relative_path"]) == ["a/2.jpg"]


def test_it_can_be_sent_to_another_process_and_shows_no_secret(s3: S3) -> None:
    tree = on_s3(s3, {"a/1.jpg": b"one"})
    assert pickle.loads(pickle.dumps(tree)).read("a/1.jpg") == b"one"
    assert SECRET not in repr(tree)
