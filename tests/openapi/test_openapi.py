"""The contract as it is committed: it is what the code says, it is valid, and it is complete."""

import json
import re
from pathlib import Path
from typing import Any

import jsonschema_rs
import openapi_spec_validator
import pytest
import yaml

from app.main import OPEN, contract, routes
from app.policy.language import policy_schema

FOLDER = Path(__file__).parents[2] / "openapi"
DOCUMENT, OPERATIONS = contract()
POLICIES = Path(__file__).parents[2] / "policies"
TEXTS = [one for one in sorted(POLICIES.rglob("*.yaml")) if ".cases." not in one.name]


class AsEditorsRead(yaml.SafeLoader):
    """YAML 1.2 as JSON has it: a date is text, and `1e26` is a number."""


AsEditorsRead.yaml_implicit_resolvers = {
    first: [(tag, regexp) for tag, regexp in resolvers if not tag.endswith(":timestamp")]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}

AsEditorsRead.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"-?[0-9]+(\.[0-9]+)?[eE][-+]?[0-9]+$"),
    list("-0123456789"),
)


def each_operation() -> list[tuple[str, dict[str, Any]]]:
    """`METHOD path`, and what the document says of it."""
    return [
        (f"{method.upper()} {path}", said)
        for path, methods in DOCUMENT["paths"].items()
        for method, said in methods.items()
    ]


def test_the_committed_document_is_what_the_code_says() -> None:
    """Else run `make openapi`, and read the diff as your callers would."""
    assert json.loads((FOLDER / "openapi.json").read_text()) == DOCUMENT
    assert (FOLDER / "operations.txt").read_text().splitlines() == OPERATIONS


def test_the_committed_schema_is_that_of_the_policy_language() -> None:
    """Editors read it from the repository, and the service gives the same."""
    schema = json.loads((FOLDER / "policy.schema.json").read_text())

    assert schema == policy_schema()
    jsonschema_rs.meta.validate(schema)


@pytest.mark.parametrize("text", TEXTS, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_every_shipped_version_fits_the_schema(text: Path) -> None:
    """An editor that checks by the schema must not underline what the service takes."""
    schema = jsonschema_rs.validator_for(policy_schema())
    document = yaml.load(text.read_text(), AsEditorsRead)

    assert [f"{e.instance_path}: {e.message}" for e in schema.iter_errors(document)] == []


def test_it_is_valid_openapi_3_1() -> None:
    assert DOCUMENT["openapi"].startswith("3.1")
    openapi_spec_validator.validate(DOCUMENT)


def test_every_schema_is_valid_json_schema() -> None:
    for name, schema in DOCUMENT["components"]["schemas"].items():
        jsonschema_rs.meta.validate(
            {"$schema": "https://json-schema.org/draft/2020-12/schema"} | schema
        )
        assert name


def test_every_reference_leads_somewhere() -> None:
    """The routes' own placeholders among them."""
    text = json.dumps(DOCUMENT)
    schemas = DOCUMENT["components"]["schemas"]
    for reference in text.split('"$ref": "')[1:]:
        kind, _, name = reference.partition('"')[0].rpartition("/")
        assert kind == "#/components/schemas"
        assert name in schemas


def test_every_route_is_in_it_once_under_a_name_of_its_own() -> None:
    served = {f"{method} {r.path_format}" for r in routes() for method in r.methods or ()}
    names = [said["operationId"] for _, said in each_operation()]

    assert {operation for operation, _ in each_operation()} == served
    assert len(set(names)) == len(names) == len(OPERATIONS)


@pytest.mark.parametrize(("operation", "said"), each_operation())
def test_every_operation_says_what_else_it_may_answer(operation: str, said: dict[str, Any]) -> None:
    """A key that is missing or lacks the permission; a body that is not what it should be."""
    answers = set(said["responses"])
    if operation.partition(" ")[2] in OPEN:
        assert said["security"] == []
        return
    assert {"401", "403", "422", "503"} <= answers
    if operation.startswith("POST"):
        assert {"400", "408", "413", "415"} <= answers
        assert said["requestBody"]["required"]
    else:
        assert not answers & {"400", "408", "413", "415"}
        # A reader clashes with nothing, but an answer may be none to sign, or to give out.
        assert ("409" in answers) is operation.endswith(("/attestation", "/bundle"))
    # What is not one of a few words is no name of something that is not there.
    named = [
        one
        for one in said.get("parameters", ())
        if one["in"] == "path" and "enum" not in one["schema"]
    ]
    if named and not operation.endswith("/versions"):
        assert "404" in answers
    if "201" in answers:
        assert "Location" in said["responses"]["201"]["headers"]
    for status, answer in said["responses"].items():
        if status >= "400":
            assert set(answer["content"]) == {"application/problem+json"}


@pytest.mark.parametrize(("operation", "said"), each_operation())
def test_every_operation_is_described(operation: str, said: dict[str, Any]) -> None:
    assert said["description"], operation
    assert said["tags"], operation


def test_a_number_is_sent_as_a_number_and_answered_as_the_text_that_was_recorded() -> None:
    """Records hold exact decimals; one schema for both would lie about one of them."""
    schemas = DOCUMENT["components"]["schemas"]

    assert schemas["Result-Input"]["properties"]["value"]["type"] == "number"
    assert schemas["Result-Output"]["properties"]["value"]["type"] == "string"
