"""The process in which pictures are decoded that may take long, or more memory than there is (``guard``).

It reads messages, each with its length before it: how large the image in the shared memory is and how to decode it,
answered with its number of pixels; then what to do with it, answered with the result. An image that can't be used is
answered with the error. It ends with its input.
"""

from __future__ import annotations

import os
import pickle
import resource
import signal
import sys
from typing import IO, Any

_GRACE_SECONDS = 10  # beyond which nobody is there to end this process: it ends itself, whatever it is at


def main() -> None:
    """Answer until the input ends; the arguments are the most address space to take, and the shared memory."""
    most, image = int(sys.argv[1]), int(sys.argv[2])
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    answers = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)  # whatever a library prints is no answer
    questions = sys.stdin.buffer
    while (opening := _received(questions)) is not None:
        _answer_one(image, opening, questions, answers)


def _answer_one(image: int, opening: Any, questions: IO[bytes], answers: IO[bytes]) -> None:
    from curation_assets.images.decode import open_image
    from curation_assets.images.errors import ImageError

    size, options = opening
    data = os.pread(image, size, 0)
    result: Any
    try:
        signal.alarm(int(options.seconds) + _GRACE_SECONDS)
        picture = open_image(data, options.max_pixels, options.bands)
        signal.alarm(0)
        send(answers, picture.pixels)
        question = _received(questions)
        if question is None:
            return
        function, arguments = question
        signal.alarm(int(options.seconds) + _GRACE_SECONDS)
        result = function(picture, *arguments)
    except ImageError as error:
        result = error
    except MemoryError:
        result = ImageError("unreadable", "not enough memory to decode it")
    signal.alarm(0)
    send(answers, result)


def send(pipe: IO[bytes], message: Any) -> None:
    """Write a message, with its length before it, to a pipe without a buffer."""
    body = pickle.dumps(message, protocol=5)
    view = memoryview(len(body).to_bytes(8, "big") + body)
    while view:
        view = view[pipe.write(view) :]


def _received(pipe: IO[bytes]) -> Any:
    head = pipe.read(8)
    return pickle.loads(pipe.read(int.from_bytes(head, "big"))) if len(head) == 8 else None
