"""Texts that are kept beside the tests, so that a change to any word of them shows in a review."""

from pathlib import Path


def kept(file: Path, text: str) -> str:
    """What is kept there. Where nothing is, *text* is kept: to renew it, delete the file first."""
    if not file.exists():
        file.write_text(text)
    return file.read_text()
