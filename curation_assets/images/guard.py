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
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Concatenate, TypeVar

from curation_assets.callers import current
from curation_assets.images.decode import BIG_PIXELS, Picture, one_large_at_a_time, open_image
from curation_assets.images.decoder_process import send
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
        stop: ends the work when it is set; None: when whoever this thread works for leaves (``callers``).

    Returns:
        What the function returned.

    Raises:
        ImageError: the image can't be used; ``unreadable`` where it took too long, or its decoder died.
    """
    stop = current().left if stop is None else stop
    kind = identify(data)
    limit = _QUICK.get(kind or "", 0)
    if kind is None or (limit and len(data) <= _QUICK_BYTES):
        picture = open_image(data, options.max_pixels, options.bands)  # or it says what the file isn't
        if picture.is_plain and picture.cost <= limit:
            picture.stop = stop
            return function(picture, *arguments)
    process = _DecoderProcess.idle_or_new(options.max_pixels)
    try:
        answer = process.call(function, data, options, arguments, stop)
    except BaseException:
        process.end()
        raise
    _idle.append(process)
    if isinstance(answer, ImageError):
        raise answer
    result: _T = answer
    return result


class _DecoderProcess:
    """A Python that opens and decodes what it is sent (``decoder_process``).

    Args:
        max_pixels: of the largest picture that it has memory for.
    """

    def __init__(self, max_pixels: int) -> None:
        self.max_pixels = max_pixels
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

    @classmethod
    def idle_or_new(cls, max_pixels: int) -> _DecoderProcess:
        """One that nobody uses and that has memory for such a picture."""
        for _ in range(len(_idle)):
            try:
                process = _idle.popleft()
            except IndexError:  # other threads were quicker
                break
            if process.max_pixels >= max_pixels:
                return process
            _idle.append(process)
        return cls(max(max_pixels, DEFAULT_OPTIONS.max_pixels))

    def call(
        self,
        function: Callable[..., Any],
        data: bytes,
        options: DecodeOptions,
        arguments: tuple[Any, ...],
        stop: threading.Event | None,
    ) -> Any:
        """What the function returned, or the ``ImageError`` that was raised there.

        Raises:
            ImageError: it took too long, isn't waited for any longer, or died. It is of no use then.
        """
        self._share(data)
        os.ftruncate(self._said, 0)  # libraries chatter
        self._send((len(data), options))
        answer = self._answer(options.seconds, stop)
        if not isinstance(answer, ImageError):  # but the number of pixels
            with one_large_at_a_time(answer, stop):
                self._send((function, arguments))
                answer = self._answer(options.seconds, stop)
        self._share(b"")
        return answer

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
        assert self._process.stdin is not None
        try:
            send(self._process.stdin, message)
        except OSError:
            raise self._died() from None

    def _answer(self, seconds: float, stop: threading.Event | None) -> Any:
        until = time.monotonic() + seconds
        size = int.from_bytes(self._read(8, until, seconds, stop), "big")
        return pickle.loads(self._read(size, until, seconds, stop))

    def _read(self, size: int, until: float, seconds: float, stop: threading.Event | None) -> bytes:
        assert self._process.stdout is not None
        descriptor, found = self._process.stdout.fileno(), bytearray()
        answers = select.poll()  # select.select() knows no descriptors beyond 1,023, which many clients may take
        answers.register(descriptor, select.POLLIN)
        while len(found) < size:
            if stop is not None and stop.is_set():
                raise ImageError("unreadable", "it was not waited for")
            left = until - time.monotonic()
            if left <= 0:
                raise ImageError(
                    "unreadable", f"decoding it takes longer than {seconds:g} seconds (CURATION_DECODE_SECONDS)"
                )
            if answers.poll(1000 * min(left, _LOOK_SECONDS)):
                part = os.read(descriptor, min(size - len(found), 2**20))
                if not part:
                    raise self._died()
                found += part
        return bytes(found)

    def _died(self) -> ImageError:
        try:
            status = self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:  # its pipe is closed, and it isn't dead
            return ImageError("unreadable", "its decoder answers no more")
        how = f"{'signal' if status < 0 else 'exit code'} {abs(status)}"
        said = os.pread(self._said, 2**16, 0).decode("utf-8", "replace").strip().rpartition("\n")[2]
        return ImageError("unreadable", f"its decoder died ({how}{': ' if said else ''}{said})")


_idle: deque[_DecoderProcess] = deque()  # appending and popping are atomic
# Two processes that ask one decoder would get each other's answers.
os.register_at_fork(after_in_child=_idle.clear)


@atexit.register
def _end_idle() -> None:
    while _idle:
        _idle.pop().end()
