"""Fetching from a real server on this machine: mirrors, interruptions, wrong files."""

import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.data import __main__ as cli
from benchmarks.data.catalog import dataset_config
from benchmarks.data.download import download, part_file
from benchmarks.data.fetch import fetch

CONTENT = np.random.default_rng(0).bytes(1_000_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Handler(BaseHTTPRequestHandler):
    """Serves `server.files`; breaks off after `server.limits` bytes, a list to be used up."""

    server: "Server"

    def do_GET(self) -> None:
        self.server.requests.append((self.path, self.headers.get("Range")))
        content = self.server.files.get(self.path)
        if content is None:
            self.send_error(404)
            return
        start = 0
        wanted = self.headers.get("Range")
        if wanted and self.server.ranges:
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
            if start >= len(content):
                self.send_error(416)
                return
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        else:
            self.send_response(200)
        self.send_header("Content-Length", str(len(content) - start))
        self.send_header("Content-Type", self.server.content_type)
        self.end_headers()
        limit = self.server.limits.pop(0) if self.server.limits else len(content)
        self.wfile.write(content[start : start + limit])

    def log_message(self, *_: Any) -> None:
        """Keep the test output clean."""


class Server(ThreadingHTTPServer):
    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {"/data.bin": CONTENT}
        self.limits: list[int] = []
        self.ranges = True
        self.content_type = "application/octet-stream"
        self.requests: list[tuple[str, str | None]] = []

    def url(self, path: str = "/data.bin") -> str:
        return f"http://127.0.0.1:{self.server_port}{path}"


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.02,))
        thread.start()
        yield running
        running.shutdown()
        thread.join()


@pytest.fixture
def dead() -> str:
    """Return an address where nobody listens."""
    with Server() as server:
        return server.url()


def files_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# --- one file -------------------------------------------------------------------------------


def test_download(server: Server, tmp_path: Path) -> None:
    target = tmp_path / "data.bin"
    download(server.url(), target, SHA256)
    assert target.read_bytes() == CONTENT
    assert files_in(tmp_path) == ["data.bin"]


def test_a_broken_transfer_goes_on_where_it_stopped(server: Server, tmp_path: Path) -> None:
    server.limits = [300_000, 500_000]
    download(server.url(), tmp_path / "data.bin", SHA256)
    assert (tmp_path / "data.bin").read_bytes() == CONTENT
    ranges = [wanted for _, wanted in server.requests]
    assert ranges[0] is None
    assert all(wanted and wanted != "bytes=0-" for wanted in ranges[1:])
    assert len(ranges) == 3


def test_the_next_call_goes_on_too(server: Server, tmp_path: Path) -> None:
    target = tmp_path / "data.bin"
    server.limits = [300_000, 1000, 1000]
    with pytest.raises(OSError, match=r"IncompleteRead|broken"):
        download(server.url(), target, SHA256)
    part = part_file(target, server.url())
    assert files_in(tmp_path) == [part.name]
    size = part.stat().st_size
    assert CONTENT.startswith(part.read_bytes())
    download(server.url(), target, SHA256)
    assert server.requests[-1] == ("/data.bin", f"bytes={size}-")
    assert target.read_bytes() == CONTENT


def test_a_server_without_ranges(server: Server, tmp_path: Path) -> None:
    server.ranges = False
    server.limits = [300_000]
    download(server.url(), tmp_path / "data.bin", SHA256)
    assert (tmp_path / "data.bin").read_bytes() == CONTENT


def test_a_part_that_is_too_long_is_dropped(server: Server, tmp_path: Path) -> None:
    target = tmp_path / "data.bin"
    part_file(target, server.url()).write_bytes(CONTENT + b"more")
    download(server.url(), target, SHA256)
    assert target.read_bytes() == CONTENT


def test_a_wrong_file_leaves_nothing(server: Server, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="hash"):
        download(server.url(), tmp_path / "data.bin", "0" * 64)
    assert files_in(tmp_path) == []


def test_a_web_page_is_no_file(server: Server, tmp_path: Path) -> None:
    server.content_type = "text/html; charset=utf-8"
    with pytest.raises(ValueError, match="web page"):
        download(server.url(), tmp_path / "data.bin", None)
    assert files_in(tmp_path) == []


# --- a dataset ------------------------------------------------------------------------------


def config_for(*urls: str, **identity: Any) -> dict[str, Any]:
    return {
        "name": "own",
        "loader": {"values": ["data.bin", "other.bin"]},
        "sources": {"values": [{"file": "data.bin", "urls": list(urls)} | identity]},
    }


def test_mirrors_are_tried_in_turn(server: Server, dead: str, tmp_path: Path) -> None:
    server.files["/wrong.bin"] = b"random numbers"
    lines: list[str] = []
    urls = (dead, server.url("/absent.bin"), server.url("/wrong.bin"), server.url())
    blob = hashlib.sha1(b"blob 1000000\0" + CONTENT).hexdigest()
    assert fetch(config_for(*urls, git_blob_sha1=blob), tmp_path, lines.append)
    assert (tmp_path / "own" / "data.bin").read_bytes() == CONTENT
    assert files_in(tmp_path / "own") == ["data.bin"]
    assert [line.split(" from ")[0] for line in lines[:3]] == ["no data.bin"] * 3
    assert "404" in lines[1]
    assert "this is another file (git blob SHA-1 found" in lines[2]
    assert lines[3] == f"fetched {tmp_path / 'own' / 'data.bin'} from {server.url()}"


def test_what_is_there_is_not_fetched(server: Server, tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "other.bin").write_bytes(b"here")
    lines: list[str] = []
    assert fetch(config_for(server.url()), tmp_path, lines.append)
    assert lines == [f"values: {tmp_path / 'own' / 'other.bin'} is already there"]
    assert not server.requests


def test_second_file_when_the_first_cannot_be_had(
    server: Server, dead: str, tmp_path: Path
) -> None:
    config = config_for(dead)
    config["sources"]["values"].append({"file": "other.bin", "urls": [server.url()]})
    assert fetch(config, tmp_path, lambda _: None)
    assert files_in(tmp_path / "own") == ["other.bin"]


def test_offline(dead: str, tmp_path: Path) -> None:
    lines: list[str] = []
    assert not fetch(config_for(dead, sha256=SHA256), tmp_path, lines.append)
    assert lines[-1] == (
        f"values: no address answered. Put one of these into {tmp_path / 'own'} by hand: "
        f"data.bin from {dead}"
    )


# --- the command ----------------------------------------------------------------------------


def serve_pems08(server: Server, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the slice of PeMS08 stand at a public address."""
    config = dataset_config("pems08_25d")
    config["sources"] = {}
    for role, name in (("values", "PEMS08.npz"), ("distances", "PEMS08.csv")):
        server.files[f"/{name}"] = (folder / name).read_bytes()
        config["sources"][role] = [{"file": name, "urls": [server.url(f"/{name}")]}]
    monkeypatch.setattr(cli, "dataset_config", lambda _: config)


def test_fetch_command(
    server: Server,
    data_root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    serve_pems08(server, data_root / "pems08_25d", monkeypatch)
    command = ["fetch", "pems08_25d", "--data-root", str(tmp_path)]
    assert cli.main(command) == 0
    output = capsys.readouterr().out
    assert output.startswith(f"fetched {tmp_path / 'pems08_25d' / 'PEMS08.npz'} from http://")
    assert output.endswith("pems08_25d: verified\n")
    assert cli.main(command) == 0
    assert "PEMS08.npz is already there" in capsys.readouterr().out
    assert len(server.requests) == 2


def test_fetch_command_with_a_fake(
    server: Server,
    data_root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    serve_pems08(server, data_root / "pems08_25d", monkeypatch)
    fake = tmp_path / "fake.npz"
    np.savez(fake, data=np.random.default_rng(0).integers(1, 300, (7156, 170, 1)))
    server.files["/PEMS08.npz"] = fake.read_bytes()
    assert cli.main(["fetch", "pems08_25d", "--data-root", str(tmp_path)]) == 1
    output = capsys.readouterr().out
    assert "FAILED  values (SHA-256): found" in output
    assert f"remove the wrong file from {tmp_path / 'pems08_25d'} to fetch it again" in output


def test_fetch_command_offline(
    dead: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cli, "dataset_config", lambda _: config_for(dead))
    assert cli.main(["fetch", "own", "--data-root", str(tmp_path)]) == 1
    assert f"by hand: data.bin from {dead}" in capsys.readouterr().out
