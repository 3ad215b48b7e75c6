"""A pooch downloader that goes on where an interrupted transfer stopped."""

import hashlib
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pooch
import requests
from tqdm import tqdm

ATTEMPTS = 3  # per address, when a transfer breaks off
TIMEOUT = (10, 60)  # seconds: to connect, between two pieces
CHUNK = 1 << 18  # bytes

Response = requests.Response


def download(
    url: str, target: Path, sha256: str | None, accept: Callable[[Path], None] | None = None
) -> None:
    """Fetch `url` into `target`, which appears only when it is complete and accepted.

    What has arrived of a broken transfer stays beside the target, in a `.part` file of its own for
    each address, and is completed by the next call.

    Args:
        url: http(s) address.
        target: where the file is to be.
        sha256: its known hash, or None.
        accept: raises ValueError for a wrong file; called before the file gets its name.

    Raises:
        OSError: if the server cannot be reached or breaks off (requests' errors are OSErrors).
        ValueError: if the file is not the expected one; nothing of it stays.
    """
    pooch.get_logger().setLevel(logging.WARNING)
    pooch.retrieve(
        url,
        known_hash=sha256,
        fname=target.name,
        path=target.parent,
        downloader=ResumingDownloader(target, accept),
    )


class ResumingDownloader:
    """Pooch downloader over HTTP ranges."""

    def __init__(self, target: Path, accept: Callable[[Path], None] | None = None) -> None:
        self.target = target
        self.accept = accept

    def __call__(self, url: str, output_file: Any, _: Any) -> None:
        """Fetch `url` to the temporary file that pooch then checks and moves to its place."""
        part = part_file(self.target, url)
        for attempt in range(1, ATTEMPTS + 1):
            try:
                _transfer(url, part, self.target.name)
                break
            except (requests.ConnectionError, requests.exceptions.ChunkedEncodingError):
                if attempt == ATTEMPTS or not part.exists():
                    raise
        if self.accept is not None:
            try:
                self.accept(part)
            except ValueError:
                part.unlink()
                raise
        os.replace(part, output_file)


def part_file(target: Path, url: str) -> Path:
    """Return where the beginning of a file from this address is kept."""
    tag = hashlib.sha256(url.encode()).hexdigest()[:8]
    return target.with_name(f"{target.name}.{tag}.part")


def _transfer(url: str, part: Path, name: str) -> None:
    start = part.stat().st_size if part.exists() else 0
    with _request(url, start) as response:
        if response.status_code == requests.codes.requested_range_not_satisfiable:
            part.unlink()  # already longer than the file: begin again
            return _transfer(url, part, name)
        response.raise_for_status()
        if response.headers.get("Content-Type", "").startswith("text/html"):
            raise ValueError("the address answers with a web page, not a file")
        if response.status_code != requests.codes.partial_content:
            start = 0  # the server sends the whole file
        length = response.headers.get("Content-Length")
        with (
            part.open("ab" if start else "wb") as file,
            tqdm(
                desc=name,
                initial=start,
                total=start + int(length) if length else None,
                unit="B",
                unit_scale=True,
                disable=None,  # no bar unless a person watches
            ) as bar,
        ):
            for chunk in response.iter_content(CHUNK):
                file.write(chunk)
                bar.update(len(chunk))


def _request(url: str, start: int) -> Response:
    headers = {"Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
    return requests.get(url, headers=headers, stream=True, timeout=TIMEOUT)
