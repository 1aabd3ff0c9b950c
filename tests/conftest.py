"""What every test may ask for: a folder that Postgres can use, and a throw-away server."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from app.storage.embedded import Durability, EmbeddedPostgres


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@contextmanager
def short_open_folder() -> Iterator[Path]:
    """A folder for a server: pytest's own are too long for a socket, and closed to others.

    Root's Postgres runs as `nobody`, who must be able to enter.
    """
    folder = Path(tempfile.mkdtemp(prefix="asl-"))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


@pytest.fixture
def server_folder() -> Iterator[Path]:
    """An empty folder of this test's own for an embedded Postgres."""
    with short_open_folder() as folder:
        yield folder


@pytest.fixture(scope="session")
def postgres() -> Iterator[EmbeddedPostgres]:
    """One server for the session, or for each xdist worker, that forgets everything in a crash."""
    with (
        short_open_folder() as folder,
        EmbeddedPostgres(folder / "server", Durability.THROWAWAY) as server,
    ):
        yield server
