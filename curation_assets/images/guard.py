"""Work on one picture that can be ended: here where its header says that it is quick, else in a process of its own.

A decoder is C code that no thread can be called back from; a process can be killed. Those are kept for the next
picture, so that starting them costs nothing that counts.
"""

from __future__ import annotations

import atexit
import os
import pickle
import select
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Concatenate, TypeVar

from curation_assets.images.decode import BIG_PIXELS, Picture, open_image
from curation_assets.images.errors import ImageError
from curation_assets.images.kinds import identify

_T = TypeVar("_T")
# Pixels gone over that take a second or two at most, of the formats whose headers tell all that decoding costs.
_QUICK = dict.fromkeys(("PNG", "WEBP", "BMP", "GIF", "TIFF"), BIG_PIXELS) | {"JPEG": 150_000_000}
_QUICK_BYTES = 64 * 2**20
_LOOK_SECONDS = 0.25  # between two looks at whether the work is still wanted
_OWN_MEMORY = 2 * 2**30  # address space of the interpreter, its libraries and a large file
_BYTES_A_PIXEL = 12
_MAIN = "from curation_assets.images.decoder_process import main; main()"
_large = threading.Lock()


@dataclass(frozen=True)
class DecodeOptions:
    """How pictures are decoded.

    Attributes:
        max_pixels: larger ones are ``too_large``.
        bands: of a raster of four or more: those that make the picture, from 1; None chooses.
        seconds: decoding that takes longer is ended, and the file ``unreadable``.
    """

    max_pixels: int = 200_000_000
    bands: tuple[int, ...] | None = None
    seconds: float = 60.0


DEFAULT_OPTIONS = DecodeOptions()


def with_picture(
    function: Callable[Concatenate[Picture, ...], _T],
    data: bytes,
    options: DecodeOptions,
    *arguments: Any,
    stop: threading.Event | None = None,
) -> _T:
    """Open an image and call ``function(picture, *arguments)``.

    Args:
        function: of a module, not of another function; it, its arguments and its result can be pickled.
        stop: ends the work when it is set.

    Returns:
        What the function returned.

    Raises:
        ImageError: the image can't be used; ``unreadable`` where it took too long, or its decoder died.
    """
    limit = _QUICK.get(identify(data) or "", -1)
    if limit > 0 and len(data) <= _QUICK_BYTES:
        picture = open_image(data, options.max_pixels, options.bands)
        if picture.cost <= limit and picture.is_plain:
            return function(picture, *arguments)
    elif identify(data) is None:
        open_image(data, options.max_pixels)  # says what it isn't
    process = _idle.pop() if _idle else _DecoderProcess(options.max_pixels)
    result = process.call(function, data, options, arguments, stop)
    _idle.append(process)
    return result


class _DecoderProcess:
    """A Python that opens and decodes what it is sent (``decoder_process``)."""

    def __init__(self, max_pixels: int) -> None:
        memory = _OWN_MEMORY + _BYTES_A_PIXEL * max_pixels
        self._image = os.memfd_create("image")  # a pipe takes as long for a large file as decoding it
        self._said = os.memfd_create("said")
        path = os.pathsep.join(entry for entry in sys.path if entry)
        self._process = subprocess.Popen(
            [sys.executable, "-c", _MAIN, str(memory), str(self._image)],
            pass_fds=[self._image],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            env={**os.environ, "PYTHONPATH": path},
            start_new_session=True,  # a Ctrl-C is for whoever waits for it
            bufsize=0,
        )

    def call(
        self,
        function: Callable[..., _T],
        data: bytes,
        options: DecodeOptions,
        arguments: tuple[Any, ...],
        stop: threading.Event | None,
    ) -> _T:
        """As :func:`with_picture`. After an error that is not an image's the process is gone."""
        try:
            self._share(data)
            os.ftruncate(self._said, 0)  # libraries chatter
            self._send((len(data), options))
            pixels = self._answer(options.seconds, stop)
            large = isinstance(pixels, int) and pixels > BIG_PIXELS
            if large:
                _take(_large, stop)
            try:
                self._send((function, arguments))
                result: _T = self._answer(options.seconds, stop)
            finally:
                if large:
                    _large.release()
        except ImageError as error:
            if self._process.poll() is None and getattr(error, "answered", False):
                _idle.append(self)
            else:
                self.end()
            raise
        except BaseException:
            self.end()
            raise
        self._share(b"")
        return result

    def end(self) -> None:
        """Kill it."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
        os.close(self._image)
        os.close(self._said)

    def _share(self, data: bytes) -> None:
        os.ftruncate(self._image, 0)
        at, view = 0, memoryview(data)
        while at < len(data):
            at += os.pwrite(self._image, view[at:], at)

    def _send(self, message: Any) -> None:
        body = pickle.dumps(message, protocol=5)
        assert self._process.stdin is not None
        view = memoryview(len(body).to_bytes(8, "big") + body)
        try:
            while view:
                view = view[self._process.stdin.write(view) :]
        except (BrokenPipeError, OSError):
            raise self._died() from None

    def _answer(self, seconds: float, stop: threading.Event | None) -> Any:
        until = time.monotonic() + seconds
        size = int.from_bytes(self._read(8, until, seconds, stop), "big")
        failed, answer = pickle.loads(self._read(size, until, seconds, stop))
        if failed:
            answer.answered = True
            raise answer
        return answer

    def _read(self, size: int, until: float, seconds: float, stop: threading.Event | None) -> bytes:
        assert self._process.stdout is not None
        descriptor, found = self._process.stdout.fileno(), bytearray()
        while len(found) < size:
            if stop is not None and stop.is_set():
                raise ImageError("unreadable", "it was not waited for")
            left = until - time.monotonic()
            if left <= 0:
                raise ImageError(
                    "unreadable", f"decoding it takes longer than {seconds:g} seconds (CURATION_DECODE_SECONDS)"
                )
            if select.select([descriptor], [], [], min(left, _LOOK_SECONDS))[0]:
                part = os.read(descriptor, min(size - len(found), 2**20))
                if not part:
                    raise self._died()
                found += part
        return bytes(found)

    def _died(self) -> ImageError:
        status = self._process.wait()
        how = f"{'signal' if status < 0 else 'exit code'} {abs(status)}"
        said = os.pread(self._said, 2**16, 0).decode("utf-8", "replace").strip().rpartition("\n")[2]
        return ImageError("unreadable", f"its decoder died ({how}{': ' if said else ''}{said})")


def _take(lock: threading.Lock, stop: threading.Event | None) -> None:
    while not lock.acquire(timeout=_LOOK_SECONDS):
        if stop is not None and stop.is_set():
            raise ImageError("unreadable", "it was not waited for")


_idle: list[_DecoderProcess] = []  # appending and popping are atomic


@atexit.register
def _end_idle() -> None:
    while _idle:
        _idle.pop().end()
