"""`aslgate attest`: fetch the signed statement of a determination."""

import base64
import json
import sys
from pathlib import Path
from typing import Annotated
from urllib.parse import quote

import typer

from app.cli.service import LOCAL, Key, Url, client, fail, fetch
from app.ledger.statement import BUNDLE_TYPE, ENVELOPE_TYPE, EXTENSION


def attest(
    determination: Annotated[str, typer.Argument(help="The id of a determination, det_….")],
    output: Annotated[
        Path | None, typer.Option(help="Write it to this file instead of standard output.")
    ] = None,
    bundle: Annotated[
        bool, typer.Option("--bundle", help="A Sigstore bundle instead of a DSSE envelope.")
    ] = False,
    url: Url = LOCAL,
    key: Key = None,
) -> None:
    """Fetch a determination as a signed SLSA verification summary that other tools can check.

    There is one only while the determination is what would be answered now. Exit code 0 says that
    there is one, not that it passed.
    """
    path = f"/v1/determinations/{quote(determination, safe='')}/attestation"
    form, media = ("bundle", BUNDLE_TYPE) if bundle else ("dsse", ENVELOPE_TYPE)
    with client(url, key) as http:
        answer = fetch(http, path, media, format=form)
    if _determination_in(answer.content, bundle) != determination:
        fail("the answer is about something else")
    if output is None:
        sys.stdout.write(answer.text + "\n")
    else:
        output.write_bytes(answer.content)


def _determination_in(answer: bytes, bundle: bool) -> object:
    """Which determination the statement says that it is about; `None` where it says none."""
    try:
        envelope = json.loads(answer)
        envelope = envelope["dsseEnvelope"] if bundle else envelope
        statement = json.loads(base64.b64decode(envelope["payload"], validate=True))
        return statement["predicate"][EXTENSION]["id"]
    except (ValueError, LookupError, TypeError):
        return None
