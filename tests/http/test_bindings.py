"""Bindings: who may call by a name in the path, what their settings may say, and what is refused."""

import json
from pathlib import Path
from typing import Any, Literal

import pytest
from pydantic import Field

from app.errors import Unavailable
from app.http.bindings import admits
from app.http.permissions import SYSTEMS, Permission
from app.integrations.bindings import (
    Binding,
    SecretFile,
    UnusableBindings,
    read_bindings,
)


class Registry(Binding):
    """A system of the tests, under the name of a real one."""

    system: Literal["mlflow"]
    secret_files: tuple[SecretFile, ...] = Field(min_length=1)


def entry(folder: Path, **more: Any) -> dict[str, Any]:
    secret = folder / "secret"
    if not secret.exists():
        secret.write_text("a secret of the tests\n")
        secret.chmod(0o600)
    return {
        "name": "models",
        "system": "mlflow",
        "principal": "service:registry",
        "models": ["claude-*@*"],
        "secret_files": [str(secret)],
    } | more


def faults(text: str) -> list[str]:
    with pytest.raises(UnusableBindings) as unusable:
        read_bindings(text.encode(), (Registry,))
    return str(unusable.value).splitlines()


def test_a_binding_is_read_from_yaml_and_from_json(tmp_path: Path) -> None:
    said = entry(tmp_path)
    text = json.dumps({"bindings": [said]})

    for bindings in (
        read_bindings(text.encode(), (Registry,), as_json=True),
        read_bindings(text.encode(), (Registry,)),
    ):
        (binding,) = bindings
        assert isinstance(binding, Registry)
        assert binding.actor == "service:registry/binding_models"
        assert binding.secret_files[0].read() == b"a secret of the tests"
        assert binding.speaks_of("claude-opus-4@20250514")
        assert not binding.speaks_of("other@1")
        assert bindings.find(Registry, "models") is binding
        assert bindings.find(Registry, "others") is None


def test_every_fault_is_told_with_its_place(tmp_path: Path) -> None:
    text = """
bindings:
  - name: one
    system: mlflow
    principal: person:ada
    models: []
    secret_files: [/nowhere/at/all]
    wrong: true
  - name: one
    system: nothing-known
"""
    assert faults(text) == [
        "5:5: /bindings/0/principal: must be a service: nobody else is there when it calls",
        "6:5: /bindings/0/models: must not be empty",
        "8:5: /bindings/0/wrong: is not a field of this document",
        "9:5: /bindings/1/name: `one` is the name of another binding",
        "10:5: /bindings/1/system: must be one of `mlflow`",
    ]


@pytest.mark.parametrize(
    ("mode", "content", "why"),
    [
        (0o644, "a secret of the tests", "others may read or change it"),
        (0o660, "a secret of the tests", "others may read or change it"),
        (0o600, "short", "it does not hold 8 to 16384 bytes"),
        (0o600, "x" * 20_000, "it does not hold 8 to 16384 bytes"),
        (None, "", "No such file or directory"),
    ],
)
def test_a_secret_that_is_not_kept_as_one_is_not_used(
    tmp_path: Path, mode: int | None, content: str, why: str
) -> None:
    path = tmp_path / "other"
    if mode is not None:
        path.write_text(content)
        path.chmod(mode)
    (fault,) = faults(json.dumps({"bindings": [entry(tmp_path, secret_files=[str(path)])]}))

    assert "/bindings/0/secret_files/0: " in fault
    assert why in fault


def test_a_secret_is_read_anew_when_its_file_is_replaced(tmp_path: Path) -> None:
    (binding,) = read_bindings(json.dumps({"bindings": [entry(tmp_path)]}).encode(), (Registry,))
    assert isinstance(binding, Registry)
    secret, path = binding.secret_files[0], tmp_path / "secret"
    path.write_text("another one of the tests")
    assert secret.text() == "another one of the tests"

    path.unlink()
    with pytest.raises(Unavailable):
        secret.read()


@pytest.mark.parametrize("pattern", ["", "a b", "[ab]@1", "?@1", "a" * 201, "ä@1"])
def test_a_pattern_is_a_model_version_with_stars_and_nothing_else(
    tmp_path: Path, pattern: str
) -> None:
    (fault,) = faults(json.dumps({"bindings": [entry(tmp_path, models=[pattern])]}))

    assert "/bindings/0/models/0: must be a model version" in fault


def test_no_repr_shows_a_secret(tmp_path: Path) -> None:
    (binding,) = read_bindings(json.dumps({"bindings": [entry(tmp_path)]}).encode(), (Registry,))

    assert "a secret" not in f"{binding!r} {binding!s} {binding.model_dump()!r}"


def test_no_route_does_what_its_system_may_not() -> None:
    """Whoever writes one learns it at the start, and not a caller."""
    for permission in set(Permission) - SYSTEMS["mlflow"]:
        with pytest.raises(LookupError, match="mlflow"):
            admits(Registry, permission)
