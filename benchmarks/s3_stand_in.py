"""The two requests of S3 that reading photographs takes, answered after a pause: files of a folder, or keys made up.

    python -m benchmarks.s3_stand_in FOLDER --pause 0.02     # s3://bucket/… are the folder's files
    python -m benchmarks.s3_stand_in 1000000                 # so many keys, in folders of a thousand, without content

It prints its port, and the requests it answered when its input ends. A real server checks signatures, and its own work
would be what is measured.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import os
import sys
from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence
from email.utils import formatdate
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

PAGE = 1000
_WHEN = 1_700_000_000
_MADE_UP = 1000  # keys of a folder


class _MadeUp(Sequence[str]):
    """Keys in their order, none of them held."""

    def __init__(self, number: int) -> None:
        self._number = number

    def __len__(self) -> int:
        return self._number

    def __getitem__(self, index: int) -> str:  # type: ignore[override]
        if not 0 <= index < self._number:
            raise IndexError
        return f"field_{index // _MADE_UP:06}/IMG_{index % _MADE_UP:04}.jpg"


class Server:
    """Answers over HTTP/1.1, each connection for itself."""

    def __init__(self, root: Path | None, keys: Sequence[str], pause: float) -> None:
        self.root, self.keys, self.pause = root, keys, pause
        self.asked: Counter[str] = Counter()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer until the connection ends."""
        try:
            while request := await reader.readline():
                while (await reader.readline()).strip():
                    pass
                await asyncio.sleep(self.pause)
                status, headers, body = self._answer(request.decode().split()[1])
                head = f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{headers}\r\n"
                writer.write(head.encode() + body)
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            writer.close()

    def _answer(self, target: str) -> tuple[str, str, bytes]:
        parts = urlsplit(target)
        asked = {name: values[0] for name, values in parse_qs(parts.query).items()}
        if "list-type" in asked:
            self.asked["LIST"] += 1
            return "200 OK", "Content-Type: application/xml\r\n", self._page(asked).encode()
        self.asked["GET"] += 1
        key = unquote(parts.path).removeprefix("/bucket/")
        assert self.root is not None
        data = (self.root / key).read_bytes()
        when = formatdate(_WHEN, usegmt=True)
        return "200 OK", f'ETag: "{_tag(key, len(data))}"\r\nLast-Modified: {when}\r\n', data

    def _page(self, asked: dict[str, str]) -> str:
        prefix, delimiter = asked.get("prefix", ""), asked.get("delimiter", "")
        after = asked.get("continuation-token") or asked.get("start-after") or ""
        place = max(bisect_right(self.keys, after), bisect_right(self.keys, prefix))
        found: list[str] = []
        last, number = "", 0
        while place < len(self.keys) and number < PAGE:
            key = self.keys[place]
            if not key.startswith(prefix):
                break
            rest = key[len(prefix) :]
            if delimiter and delimiter in rest:
                last = prefix + rest.partition(delimiter)[0] + delimiter
                found.append(f"<CommonPrefixes><Prefix>{escape(last)}</Prefix></CommonPrefixes>")
                place = bisect_right(self.keys, last[:-1] + chr(ord(delimiter) + 1))
                last = self.keys[place - 1]
            else:
                size = self._size(key)
                found.append(
                    f"<Contents><Key>{escape(key)}</Key><LastModified>2023-11-14T22:13:20.000Z</LastModified>"
                    f'<ETag>"{_tag(key, size)}"</ETag><Size>{size}</Size></Contents>'
                )
                last, place = key, place + 1
            number += 1
        more = place < len(self.keys) and self.keys[place].startswith(prefix)
        token = f"<NextContinuationToken>{escape(last)}</NextContinuationToken>" if more else ""
        return (
            '<?xml version="1.0"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
            f"<IsTruncated>{str(more).lower()}</IsTruncated>{token}{''.join(found)}</ListBucketResult>"
        )

    def _size(self, key: str) -> int:
        return (self.root / key).stat().st_size if self.root is not None else 1_000_000 + len(key)


def _tag(key: str, size: int) -> str:
    return hashlib.md5(f"{key} {size}".encode(), usedforsecurity=False).hexdigest()


async def _run(server: Server) -> None:
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0, limit=2**20)
    print(listening.sockets[0].getsockname()[1], flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    print(dict(server.asked), flush=True)
    os._exit(0)


def main() -> None:
    """Serve until the input ends."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", help="folder, or a number of keys")
    parser.add_argument("--pause", type=float, default=0.0, help="seconds before each answer")
    arguments = parser.parse_args()
    if arguments.what.isdigit():
        server = Server(None, _MadeUp(int(arguments.what)), arguments.pause)
    else:
        root = Path(arguments.what)
        keys = sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())
        server = Server(root, keys, arguments.pause)
    asyncio.run(_run(server))


if __name__ == "__main__":
    main()
