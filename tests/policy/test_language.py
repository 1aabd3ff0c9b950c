"""A version's identity: the same for YAML and JSON, and for its own recorded bytes."""

import json
from pathlib import Path
from typing import Any, Literal

import pytest
import yaml
from hypothesis import given, settings

from app.errors import DocumentTooLarge
from app.policy.language import (
    MAX_BYTES,
    canonical_policy,
    policy_digest,
    policy_schema,
    read_policy,
    recorded_policy,
)
from app.policy.version import PolicyVersion
from tests.laws.situations import policies

HERE = Path(__file__).parent
SHIPPED = [
    HERE / "valid.yaml",
    *sorted(
        path
        for path in (HERE.parents[1] / "policies").rglob("*.yaml")
        if not path.name.endswith(".cases.yaml")
    ),
]
NUMBERS = {"confidence", "at_least", "at_most", "below", "above", "k"}
FLAGS = {"undefined", "point_value_suffices"}


def as_json(value: Any, key: str = "") -> Any:
    """The tree of a YAML text as its author would write it in JSON: numbers without quotes."""
    if isinstance(value, dict):
        return {k: as_json(v, k) for k, v in value.items()}
    if isinstance(value, list):
        return [as_json(item) for item in value]
    if key in NUMBERS and str(value)[:1] in "-0123456789":
        return json.loads(value)
    return value == "true" if key in FLAGS else value


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_yaml_and_json_of_one_document_are_one_version(path: Path) -> None:
    in_yaml = read_policy(path.read_bytes(), "yaml")
    tree = as_json(yaml.load(path.read_text(), Loader=yaml.BaseLoader))
    in_json = read_policy(json.dumps(tree).encode(), "json")

    assert in_json == in_yaml
    assert policy_digest(in_json) == policy_digest(in_yaml)


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_a_recorded_version_is_read_back_as_it_was(path: Path) -> None:
    version = read_policy(path.read_bytes(), "yaml")
    again = recorded_policy(canonical_policy(version))

    assert again == version
    assert canonical_policy(again) == canonical_policy(version)


@given(policies())
@settings(max_examples=200, deadline=None, print_blob=True)
def test_any_recorded_version_is_read_back_as_it_was(version: PolicyVersion) -> None:
    again = recorded_policy(canonical_policy(version))

    assert again == version
    assert policy_digest(again) == policy_digest(version)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("confidence: 0.95", "confidence: 0.950"),
        ("at_least: 5.0", "at_least: 5"),
        ("at_least: 1e25", "at_least: 10000000000000000000000000"),
        ("effective: 2025-05-14", "effective: 2025-05-14T00:00:00Z"),
        ("effective: 2025-05-14", "effective: 2025-05-14T02:00:00+02:00"),
        ("publisher: Somebody", "publisher:   'Somebody'   # a note"),
    ],
)
def test_another_spelling_of_the_same_is_the_same_version(one: str, other: str) -> None:
    text = (HERE / "valid.yaml").read_text()
    assert text.count(one) == 1

    spelled = read_policy(text.replace(one, other).encode(), "yaml")
    assert policy_digest(spelled) == policy_digest(read_policy(text.encode(), "yaml"))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ('version: "2"\ntitle', 'version: "2.0"\ntitle'),
        ("at_least: 5.0", "at_least: 5.01"),
        ("means: binds", "means: does-not-bind"),
        ("statement: s\n    clause: c\n    requires: [{standard: strong", "statement: t\n    clause: c\n    requires: [{standard: strong"),
        ("evidence: [uplift]", "evidence: [uplift, refusals]"),
    ],
)  # fmt: skip
def test_another_meaning_is_another_version(one: str, other: str) -> None:
    text = (HERE / "valid.yaml").read_text()
    assert text.count(one) == 1

    changed = read_policy(text.replace(one, other).encode(), "yaml")
    assert policy_digest(changed) != policy_digest(read_policy(text.encode(), "yaml"))


def reordered(value: Any) -> Any:
    """The tree with the keys of every mapping in the opposite order."""
    if isinstance(value, dict):
        return {key: reordered(value[key]) for key in reversed(value)}
    return [reordered(item) for item in value] if isinstance(value, list) else value


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_the_order_of_keys_means_nothing(path: Path) -> None:
    """An answer lists thresholds and standards in the order of the version that was read."""
    tree = as_json(yaml.load(path.read_text(), Loader=yaml.BaseLoader))
    versions = [read_policy(json.dumps(t).encode(), "json") for t in (tree, reordered(tree))]
    versions.append(recorded_policy(canonical_policy(versions[0])))

    assert len({policy_digest(version) for version in versions}) == 1
    assert len({version.model_dump_json() for version in versions}) == 1


def test_the_label_2_10_stays_2_10() -> None:
    text = (HERE / "valid.yaml").read_text().replace('version: "2"\ntitle', "version: 2.10\ntitle")

    assert read_policy(text.encode(), "yaml").version == "2.10"


@pytest.mark.parametrize("media", ["yaml", "json"])
def test_a_text_may_have_just_so_many_bytes(media: Literal["yaml", "json"]) -> None:
    """The limit is looked at before anything is decoded, and what stands on it is read."""
    text = (HERE / "valid.yaml").read_bytes()
    if media == "json":
        text = json.dumps(as_json(yaml.load(text, Loader=yaml.BaseLoader))).encode()
    filled = text.ljust(MAX_BYTES, b"\n")

    assert read_policy(filled, media).version == "2"
    with pytest.raises(DocumentTooLarge):
        read_policy(filled + b"\n", media)


def test_the_schema_for_editors_names_fields_as_an_author_writes_them() -> None:
    schema = policy_schema()

    assert {"schema", "policy", "thresholds", "not_ruled_out"} <= {
        *schema["properties"],
        *schema["$defs"]["Threshold"]["properties"],
    }
    assert "schema_" not in schema["properties"]
