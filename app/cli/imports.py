"""`aslgate import`: read an evaluation log of another system, show what would be recorded, record it."""

import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import httpx
import typer
from pydantic import TypeAdapter

from app.assessment.evaluations import Draft, ImportMap, System, model_ref
from app.canonical import exact_json
from app.cli.service import LOCAL, USAGE, Key, Url, client, fail, print_line, send
from app.errors import Fault, InvalidDocument
from app.ledger.envelope import NotAPublicKey, SignerKey, read_signer_keys
from app.operations.import_evaluations import GivenLog, read_log, warnings_of_lines
from app.parsing import parse
from app.policy.version import PolicyVersion
from app.vocabulary import TEXT

_VERSION: TypeAdapter[PolicyVersion] = TypeAdapter(PolicyVersion)


def import_log(
    source: Annotated[
        str, typer.Argument(help="inspect, lm-eval, eee, metr, promptlayer or table.")
    ],
    log: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="The log.")],
    model: Annotated[str, typer.Option(help="The model version that was tested, name@version.")],
    map: Annotated[  # noqa: A002 - it is the option's name
        Path, typer.Option(exists=True, dir_okay=False, help="Which metric is which line's result.")
    ],
    uri: Annotated[str | None, typer.Option(help="Where others find the log.")] = None,
    signed_by: Annotated[
        Path | None,
        typer.Option(
            exists=True, dir_okay=False, help="Public keys, PEM; the log must be signed by one."
        ),
    ] = None,
    statement: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, help="A signed in-toto Statement about the log."),
    ] = None,
    skip_unusable: Annotated[
        bool, typer.Option("--skip-unusable", help="Leave out metrics that are no numbers.")
    ] = False,
    record: Annotated[
        bool, typer.Option("--record/--preview", help="Record it; by default it is only shown.")
    ] = False,
    url: Url = LOCAL,
    key: Key = None,
) -> None:
    """Read an evaluation log, and print the assessment that would be recorded of it.

    The draft goes to standard output as `POST /v1/assessments` takes it, warnings to standard error.
    Nothing leaves this machine without --record; the log itself never does.
    """
    system = _system(source)
    keys = () if signed_by is None else _keys(signed_by)
    try:
        model_ref(model)
    except InvalidDocument as invalid:
        fail(f"--model: {invalid.faults[0].message}", USAGE)
    with log.open("rb") as file:
        given = GivenLog(
            file=file,
            map=map.read_bytes(),
            model=model,
            uri=uri,
            statement=None if statement is None else statement.read_bytes(),
            skip_unusable=skip_unusable,
        )
        try:
            drafted, said = read_log(system, given, keys, must_be_signed=signed_by is not None)
        except InvalidDocument as invalid:
            fail("nothing is imported\n" + "\n".join(_placed(invalid.faults, log, map)))
    warnings = list(drafted.warnings)
    if key is not None:
        with client(url, key) as http:
            warnings += _of_lines(http, drafted, said)
    for warning in warnings:
        sys.stderr.write(f"warning: {warning.code}: {warning.pointer or '/'}: {warning.message}\n")
    if record:
        with client(url, key) as http:
            body = exact_json(drafted.body).encode()
            headers = {"Content-Type": "application/json"}
            answer = send(http, "POST", "/v1/assessments", content=body, headers=headers)
        print_line(f"recorded {answer['id']} at {answer['ledger']['index']}")
    else:
        print_line(exact_json(drafted.body))


def _system(source: str) -> System:
    known: dict[str, System] = {
        "inspect": "inspect",
        "lm-eval": "lm-eval",
        "eee": "eee",
        "metr": "metr",
        "promptlayer": "promptlayer",
        "table": "table",
    }
    if source not in known:
        fail(f"`{source}` is none of {', '.join(known)}", USAGE)
    return known[source]


def _keys(file: Path) -> Sequence[SignerKey]:
    try:
        return read_signer_keys(file.read_text("utf-8", "replace"))
    except NotAPublicKey as fault:
        fail(f"`{file}`: {fault}", USAGE)


def _placed(faults: Iterable[Fault], log: Path, map: Path) -> Iterator[str]:  # noqa: A002
    """Faults with a line are the map's, all others the log's."""
    for fault in faults:
        where = f"{log}" if fault.line is None else f"{map}:{fault.line}:{fault.column}"
        yield f"{where}: {fault.pointer or '/'}: {fault.message}"


def _of_lines(http: httpx.Client, drafted: Draft, said: ImportMap) -> Iterator[Fault]:
    """What the policies that the map names, as they are in force at the service, say of the lines."""
    for policy in sorted({one.policy for one in said.results if one.policy is not None}):
        answer: dict[str, Any] = send(http, "GET", f"/v1/policies/{quote(policy, safe='')}")
        version = parse(_VERSION, answer["document"], TEXT)
        yield from warnings_of_lines(drafted, said, (version,))
