"""Serving a file in parts, so that a download that broke off goes on where it stopped (RFC 9110, section 14)."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

from django.core.handlers.asgi import ASGIRequest
from django.http import HttpRequest, HttpResponse, HttpResponseBase, StreamingHttpResponse

BLOCK = 1 << 16
"""Bytes that are read at once."""
RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")


def ranged(request: HttpRequest, path: Path, *, etag: str, content_type: str, name: str) -> HttpResponseBase:
    """A file, or the one part of it that the request asks for.

    :param etag: a name for the file's bytes, without quotes; a part is served only of the bytes that are asked for.
    :param name: under which a browser saves it.
    """
    tag, size = f'"{etag}"', path.stat().st_size
    if request.headers.get("If-None-Match") == tag:
        response: HttpResponseBase = HttpResponse(status=304)
    elif (part := _part(request, tag, size)) is None:
        response = _streamed(request, path, 0, size, content_type)
    elif part.start >= part.stop:
        response = HttpResponse(status=416, headers={"Content-Range": f"bytes */{size}"})
    else:
        response = _streamed(request, path, part.start, len(part), content_type)
        response.status_code = 206
        response["Content-Range"] = f"bytes {part.start}-{part.stop - 1}/{size}"
    response["ETag"] = tag
    response["Accept-Ranges"] = "bytes"
    response["Content-Disposition"] = f'attachment; filename="{name}"'
    return response


def _part(request: HttpRequest, tag: str, size: int) -> range | None:
    """The part that is asked for, empty where the file does not have it; None for the whole file."""
    asked = RANGE.fullmatch(request.headers.get("Range", ""))
    if asked is None or request.headers.get("If-Range", tag) != tag or asked.groups() == ("", ""):
        return None
    first, last = asked.groups()
    if not first:
        return range(max(0, size - int(last)), size)
    if last and int(last) < int(first):
        return None
    return range(int(first), min(int(last) + 1 if last else size, size))


def _streamed(request: HttpRequest, path: Path, start: int, length: int, content_type: str) -> StreamingHttpResponse:
    # Django would read a plain iterator to its end before an asynchronous server may send the first byte.
    blocks = _blocks_async(path, start, length) if isinstance(request, ASGIRequest) else _blocks(path, start, length)
    response = StreamingHttpResponse(blocks, content_type=content_type)
    response["Content-Length"] = str(length)
    return response


def _blocks(path: Path, start: int, length: int) -> Iterator[bytes]:
    with open(path, "rb") as file:
        file.seek(start)
        while length and (block := file.read(min(BLOCK, length))):
            length -= len(block)
            yield block


async def _blocks_async(path: Path, start: int, length: int) -> AsyncIterator[bytes]:
    blocks = _blocks(path, start, length)
    while block := await asyncio.to_thread(next, blocks, b""):
        yield block
