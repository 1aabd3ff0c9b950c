"""Files that this machine keeps for the service's eyes: secrets, which are made once and never
written over, and what must be whole whenever it is read.
"""

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
    written = _written_beside(path, make())
    try:
        # Unlike a rename, this does not replace what another process has made meanwhile.
        os.link(written, path)
    except FileExistsError:
        pass
    else:
        _sync(path.parent)
    finally:
        written.unlink()
    return path.read_bytes()


def replace_file(path: Path, content: bytes) -> None:
    """Let the file at *path* hold *content*: durably, and at no instant half of it. Raises `OSError`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    written = _written_beside(path, content)
    try:
        written.replace(path)
    except OSError:
        written.unlink()
        raise
    _sync(path.parent)


def _written_beside(path: Path, content: bytes) -> Path:
    """A new file in the same folder that durably holds *content*, for its owner alone to read."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    written = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except OSError:
        written.unlink()
        raise
    return written


def _sync(folder: Path) -> None:
    """Make the names in *folder* durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
