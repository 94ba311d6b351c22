"""What a file is, by its first bytes: a format that is read, one that is named and refused, or no image at all."""

from __future__ import annotations

import re

from curation_assets.images.errors import ImageError

# Formats as the directory table names them, and the bytes a file of each begins with ('.' is any byte).
_SIGNATURES = {
    "PNG": rb"\x89PNG",
    "GIF": rb"GIF8",
    "WEBP": rb"RIFF....WEBP",
    "TIFF": rb"II\*\0|MM\0\*|II\+\0|MM\0\+",
    "BMP": rb"BM",
    "JXL": rb"\xff\x0a|\0\0\0\x0cJXL \r\n\x87\n",
}
_KNOWN = {name: re.compile(pattern, re.DOTALL) for name, pattern in _SIGNATURES.items()}
# The rest of a file that was cut within those: two bytes of it are taken for enough.
_BEGINNINGS = (b"\x89PNG", b"GIF8", b"RIFF", b"II*\0", b"MM\0*", b"\0\0\0\x0cJXL \r\n\x87\n")
_BITMAP_HEADERS = {12, 16, 40, 52, 56, 64, 108, 124}  # bytes of a BMP's second header: text may begin with BM too

_AVIF = {b"avif", b"avis"}
_HEIF = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"mif2", b"msf1"}
_VIDEO = {b"isom", b"iso2", b"iso4", b"iso5", b"iso6", b"mp41", b"mp42", b"qt  ", b"M4V ", b"avc1", b"dash", b"3gp4"}

DEVELOP = "develop it to JPEG or TIFF with its maker's program, darktable or RawTherapee"
_FETCH = "its content was never fetched"
# What else lies in folders of photographs under an image's name: by pattern, what it is and what to do.
_NAMED: tuple[tuple[bytes, str], ...] = (
    (rb"version https://git-lfs\.github\.com/", f"a Git LFS pointer: {_FETCH}; run `git lfs pull`"),
    (rb"(\.\./|/)*(\.git)?/?annex/objects/", f"a git-annex pointer: {_FETCH}; run `git annex get`"),
    (rb"(\.\./)+[^\0]{1,1000}\Z", "the text of a symbolic link; check the files out where links are allowed"),
    (rb"(bplist00).{0,400}NSURL", f"an iCloud placeholder: {_FETCH}; download it first"),
    (rb"outs:\s*\n\s*- (md5|hash|etag)", f"a DVC pointer: {_FETCH}; run `dvc pull`"),
    (rb"\s*\{[^}]{0,400}\"(doc_id|resource_id)\"", f"a Google Drive shortcut: {_FETCH}; download it first"),
    (rb"....ftypcrx ", f"a Canon raw photograph (CR3); {DEVELOP}"),
    (rb"FUJIFILMCCD-RAW", f"a Fujifilm raw photograph (RAF); {DEVELOP}"),
    (rb"II\*\0....CR", f"a Canon raw photograph (CR2); {DEVELOP}"),
    (rb"IIRO|IIRS|MMOR", f"an Olympus raw photograph (ORF); {DEVELOP}"),
    (rb"IIU\0", f"a Panasonic raw photograph (RW2); {DEVELOP}"),
    (rb"FOVb", f"a Sigma raw photograph (X3F); {DEVELOP}"),
    (rb"\0MRM", f"a Minolta raw photograph (MRW); {DEVELOP}"),
    (rb"(\xef\xbb\xbf)?\s*(<\?xml.{0,300})?<svg", "a drawing (SVG), not a photograph"),
    (rb"8BPS", "a Photoshop file (PSD); export it to PNG, TIFF or JPEG"),
    *(
        (pattern, f"{name} images are not supported")
        for pattern, name in (
            (rb"\xff\x4f\xff\x51|\0\0\0\x0cjP  ", "JPEG2000"),
            (rb"II\xbc\x01", "JPEG XR"),
            (rb"P[1-7][ \t\r\n]", "PPM"),
            (rb"\0\0\x01\0[^\0]\0", "ICO"),
            (rb"icns", "ICNS"),
            (rb"DDS ", "DDS"),
            (rb"v/1\x01", "OpenEXR"),
            (rb"SIMPLE  =", "FITS"),
            (rb"%!PS|\xc5\xd0\xd3\xc6", "EPS"),
            (rb"#\?RADIANCE", "HDR"),
            (rb"qoif", "QOI"),
        )
    ),
)
# What is no picture at all.
_NO_IMAGES = (
    (rb"(\xef\xbb\xbf)?\s*(<!--.{0,200}-->\s*)?<(!doctype html|html)", "a web page"),
    (rb"%PDF", "a PDF"),
    (rb"PK\x03\x04|\x1f\x8b|7z\xbc\xaf|Rar!", "an archive"),
)
_OTHERS = [(re.compile(pattern, re.DOTALL | re.IGNORECASE), what) for pattern, what in _NAMED]
_OTHER_FILES = [(re.compile(pattern, re.DOTALL | re.IGNORECASE), what) for pattern, what in _NO_IMAGES]


def identify(data: bytes) -> str | None:
    """The format of a file that is read: one of ``decode.FORMATS`` but ``MPO``, which is a JPEG until its end is seen.

    Returns:
        None where the bytes are none that this module knows.

    Raises:
        ImageError: empty or cut within its first bytes (``corrupt``); something else, which is named (``unsupported``).
    """
    if not data:
        raise ImageError("corrupt", "the file is empty")
    if data.startswith(b"\xff\xd8"):  # nearly every file
        return "JPEG"
    head = data[:1024]
    for pattern, what in _OTHERS:
        if pattern.match(head):
            raise ImageError("unsupported", what)
    for pattern, what in _OTHER_FILES:
        if pattern.match(head):
            raise ImageError("unsupported", f"not an image: the file begins with {data[:16]!r}: {what}")
    for name, pattern in _KNOWN.items():
        if pattern.match(head) and (name != "BMP" or _is_bitmap(head)):
            return name
    if head[4:8] == b"ftyp":
        return _of_boxes(head)
    of_a_beginning = any(1 < len(data) < len(begin) and begin[: len(data)] == data for begin in _BEGINNINGS)
    if of_a_beginning or (head.startswith(b"RIFF") and len(data) < 12):
        raise ImageError("corrupt", f"the file ends after {len(data)} bytes, within its header")
    if len(data) > 1 and not data.strip(b"\0"):
        raise ImageError("unsupported", "not an image: every byte is zero, as where a copy or download did not finish")
    return None


def _is_bitmap(head: bytes) -> bool:
    return len(head) < 18 or int.from_bytes(head[14:18], "little") in _BITMAP_HEADERS


def _of_boxes(head: bytes) -> str | None:
    """Of a file in boxes (ISO 14496-12), whose first names what it can be read as: brands of four letters."""
    size = int.from_bytes(head[:4], "big")
    brands = [head[8:12], *(head[at : at + 4] for at in range(16, min(size, len(head)), 4))]
    for brand in brands:
        if brand in _AVIF:
            return "AVIF"
    for brand in brands:
        if brand in _HEIF:
            return "HEIF"
    if brands[0] in _VIDEO:
        raise ImageError("unsupported", "not an image: a video")
    if len(head) < max(12, min(size, 64)):
        raise ImageError("corrupt", f"the file ends after {len(head)} bytes, within its header")
    return None
