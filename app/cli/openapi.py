"""`aslgate openapi`: write the HTTP contract and the policy language's schema as they are committed."""

import json
from pathlib import Path
from typing import Annotated

import typer

from app.cli.service import Json, print_line
from app.main import contract
from app.policy.language import policy_schema


def openapi(
    folder: Annotated[Path, typer.Argument(help="Where to write.")] = Path("openapi"),
    as_json: Json = False,
) -> None:
    """Write `openapi.json`, `operations.txt` with one line an operation, and `policy.schema.json`."""
    document, operations = contract()
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(document, indent=2, ensure_ascii=False) + "\n"
    (folder / "openapi.json").write_text(text, encoding="utf-8")
    (folder / "operations.txt").write_text("\n".join(operations) + "\n", encoding="utf-8")
    schema = json.dumps(policy_schema(), indent=2, ensure_ascii=False) + "\n"
    (folder / "policy.schema.json").write_text(schema, encoding="utf-8")
    said = {"operations": len(operations), "folder": str(folder)}
    print_line(json.dumps(said) if as_json else f"{len(operations)} operations in {folder}")
