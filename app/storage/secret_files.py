"""Files that this machine keeps for the service's eyes: secrets, which are made once and never
written over, and what must be whole whenever it is read.
"""

import contextlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path


def read_or_make(path: Path, make: Callable[[], bytes]) -> bytes:
    """What the file at *path* holds; where there is none, what *make* gives, kept there for good.

    Of several processes that make it at once all get the same. It is whole and durable, and only
    its owner may read it, before it has its name. Raises `OSError`.
    """
    try:
        return path.read_bytes()
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, unnamed = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(make())
            file.flush()
            os.fsync(file.fileno())
        try:
            # Unlike a rename, this does not replace what another process has made meanwhile.
            os.link(unnamed, path)
        except FileExistsError:
            pass
        else:
            _sync(path.parent)
    finally:
        Path(unnamed).unlink()
    return path.read_bytes()


def replace_file(path: Path, content: bytes) -> None:
    """Let the file at *path* hold *content*: durably, and at no instant half of it. Raises `OSError`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    written = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with os.fdopen(
            os.open(written, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb"
        ) as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        written.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            written.unlink()
        raise
    _sync(path.parent)


def _sync(folder: Path) -> None:
    """Make the names in *folder* durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
