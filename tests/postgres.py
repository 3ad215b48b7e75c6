"""A PostgreSQL server of the tests' own, from Debian's binaries."""

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

DEBIAN = Path("/usr/lib/postgresql")
NOT_ROOT = ("postgres", "nobody")


class Postgres:
    """A cluster in a temporary folder, reached through a Unix socket."""

    def __init__(self, folder: Path, binaries: Path):
        self.folder, self.binaries = folder, binaries
        self.user = _unprivileged()
        if self.user:
            shutil.chown(folder, self.user)
        self._call("initdb", "--auth=trust", "--username=tests", "--no-sync", "-D", self._data)
        self._databases = 0

    @property
    def _data(self) -> str:
        return str(self.folder / "data")

    def start(self) -> None:
        listens = f"-c listen_addresses='' -c fsync=off -k {self.folder}"
        log = str(self.folder / "log")
        self._call("pg_ctl", "start", "--wait", "-D", self._data, "-o", listens, "-l", log)

    def stop(self) -> None:
        self._call("pg_ctl", "stop", "--wait", "--mode=immediate", "-D", self._data)

    def new_database(self) -> str:
        """SQLAlchemy's address of a fresh database."""
        self._databases += 1
        name = f"fresh{self._databases}"
        self._call("createdb", "-h", str(self.folder), "-U", "tests", name)
        return f"postgresql://tests@/{name}?host={self.folder}"

    def log(self) -> str:
        return (self.folder / "log").read_text()

    def _call(self, program: str, *arguments: str) -> None:
        """Runs one of its programs, which refuse to be root."""
        other = ["runuser", "-u", self.user, "--"] if self.user else []
        done = subprocess.run(
            [*other, str(self.binaries / program), *arguments],
            cwd=self.folder,
            stdout=subprocess.DEVNULL,  # a pipe would be held open by the server
            stderr=subprocess.PIPE if program != "pg_ctl" else subprocess.DEVNULL,
            text=True,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"{program} {' '.join(arguments)}: {done.stderr}")


def _unprivileged() -> str | None:
    """Another user to be where this one is root."""
    if os.geteuid() != 0:
        return None
    known = {entry.pw_name for entry in pwd.getpwall()}
    return next(name for name in NOT_ROOT if name in known)


def binaries() -> Path | None:
    """Where the newest server's programs are, if any is installed."""
    found = [path.parent for path in DEBIAN.glob("*/bin/initdb")]
    return max(found, key=lambda path: float(path.parent.name), default=None)


@contextmanager
def running_server(programs: Path) -> Iterator[Postgres]:
    """A server that goes with the block."""
    with tempfile.TemporaryDirectory(prefix="psan-pg-", dir="/tmp") as folder:
        os.chmod(folder, 0o755)
        server = Postgres(Path(folder), programs)
        server.start()
        try:
            yield server
        finally:
            server.stop()
