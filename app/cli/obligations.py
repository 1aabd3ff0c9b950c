"""`aslgate obligations`: what must be done, by due, and whether any of it is late."""

import json
import sys
from collections.abc import Iterator
from typing import Annotated, Any

import httpx
import typer
from rich.console import Console

from app.cli import service
from app.cli.render import print_obligations
from app.cli.service import DENIED


def obligations(
    model: Annotated[str | None, typer.Option(help="Only of this model version.")] = None,
    policy: Annotated[str | None, typer.Option(help="Only of this policy.")] = None,
    overdue: Annotated[bool, typer.Option("--overdue", help="Only those past their due.")] = False,
    fail_on_overdue: Annotated[
        bool, typer.Option("--fail-on-overdue", help="Exit with 3 where one listed is overdue.")
    ] = False,
    url: service.Url = service.LOCAL,
    key: service.Key = None,
    as_json: service.Json = False,
) -> None:
    """List what determinations oblige somebody to do and nobody has, by due."""
    query = {"status": "overdue" if overdue else "outstanding", "limit": "200"}
    query |= {} if model is None else {"model": model}
    query |= {} if policy is None else {"policy": policy}
    with service.client(url, key) as http:
        pages = list(_pages(http, query))
    listed = [one for page in pages for one in page["obligations"]]
    said = {"obligations": listed, "as_of": pages[0]["as_of"], "behind": pages[0]["behind"]}
    if as_json:
        sys.stdout.write(json.dumps(said, indent=2) + "\n")
    else:
        print_obligations(Console(), said)
    if fail_on_overdue and any(one["status"] == "overdue" for one in listed):
        raise typer.Exit(DENIED)


def _pages(http: httpx.Client, query: dict[str, str]) -> Iterator[dict[str, Any]]:
    """All pages. What is raised or fulfilled between two of them is in it, or not."""
    after: str | None = None
    while True:
        params = query if after is None else query | {"after": after}
        page = service.send(http, "GET", "/v1/obligations", params=params)
        yield page
        if (after := page["next"]) is None:
            return
