"""A secret file is made once, whole, for its owner alone, and never written over."""

import itertools
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from app.storage.secret_files import read_or_make


def test_it_is_made_once(tmp_path: Path) -> None:
    path = tmp_path / "new" / "key"
    number = itertools.count()

    read = [read_or_make(path, lambda: b"secret %d" % next(number)) for _ in range(3)]

    assert read == [b"secret 0"] * 3
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(path.parent.iterdir()) == [path]


def test_one_that_is_there_is_left_as_it_is(tmp_path: Path) -> None:
    """Its mode too: a secret that is mounted may be read-only and for a group."""
    path = tmp_path / "key"
    path.write_bytes(b"given")
    path.chmod(0o440)

    assert read_or_make(path, lambda: b"made") == b"given"
    assert stat.S_IMODE(path.stat().st_mode) == 0o440


def test_all_who_make_it_at_once_get_the_same(tmp_path: Path) -> None:
    path = tmp_path / "key"
    number = itertools.count()

    def read(_: int) -> bytes:
        return read_or_make(path, lambda: b"secret %d" % next(number))

    with ThreadPoolExecutor(16) as threads:
        found = set(threads.map(read, range(64)))

    assert found == {path.read_bytes()}
    assert list(tmp_path.iterdir()) == [path]


def test_nothing_is_left_where_it_cannot_be_made(tmp_path: Path) -> None:
    def fail() -> bytes:
        raise OSError("no randomness")

    with pytest.raises(OSError, match="no randomness"):
        read_or_make(tmp_path / "key", fail)

    assert list(tmp_path.iterdir()) == []
