"""Commands that speak to a running service over HTTP."""

import json
import sys
from collections.abc import Iterator
from typing import Annotated, Any, NoReturn
from urllib.parse import quote

import httpx
import typer
from rich.console import Console

from app.cli.render import print_determination, print_gate, print_settling

ALLOWED, FAILED, USAGE, DENIED = 0, 1, 2, 3
"""Exit codes of `determine`: for pipelines, anything but 0 means that it may not go ahead."""

Url = Annotated[str, typer.Option(envvar="ASLGATE_URL", help="Where the service is.")]
Key = Annotated[
    str | None, typer.Option(envvar="ASLGATE_API_KEY", help="The API key.", show_envvar=True)
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
PATIENCE = 60
"""How many seconds what is computed at length may take."""
LOCAL = "http://127.0.0.1:8000"


def fail(message: str, code: int = FAILED) -> NoReturn:
    """Say what went wrong on standard error, and end."""
    Console(stderr=True, highlight=False).print(f"aslgate: {message}", markup=False, soft_wrap=True)
    raise typer.Exit(code)


def client(url: str, key: str | None) -> httpx.Client:
    """A client with the key; ends with a sentence where there is none."""
    if not key:
        fail("no API key: give --key or set ASLGATE_API_KEY", USAGE)
    if not (key.isascii() and key.isprintable()):
        fail("the API key holds what no key holds: printable ASCII characters only", USAGE)
    return httpx.Client(base_url=url, headers={"Authorization": f"Bearer {key}"}, timeout=10)


def send(http: httpx.Client, method: str, path: str, **how: Any) -> dict[str, Any]:
    """The answer's JSON object. Anything but a whole 2xx answer ends the command with a failure."""
    try:
        response = http.request(method, path, **how)
        body = response.json()
    except (httpx.HTTPError, ValueError) as error:
        fail(f"no usable answer from {http.base_url}: {str(error) or type(error).__name__}")
    if not response.is_success or not isinstance(body, dict):
        fail(_problem(body))
    return body


def lines_of(http: httpx.Client, path: str, body: Any) -> Iterator[dict[str, Any]]:
    """The answer's JSON objects, one a line, as they come.

    Anything but a whole 2xx answer, a line that breaks off included, ends the command.
    """
    # A line comes when something is decided, and that may take a while; to connect may not.
    patience = httpx.Timeout(10, read=PATIENCE)
    try:
        with http.stream("POST", path, json=body, timeout=patience) as response:
            if not response.is_success:
                response.read()
                fail(_problem(response.json()))
            for line in response.iter_lines():
                yield json.loads(line)
    except (httpx.HTTPError, ValueError) as error:
        fail(f"no usable answer from {http.base_url}: {str(error) or type(error).__name__}")


def _problem(body: Any) -> str:
    if not isinstance(body, dict):
        return "the service answered something that is not an object"
    faults = [f"  {f['pointer'] or '/'}: {f['message']}" for f in body.get("errors") or []]
    return "\n".join([str(body.get("detail", body)), *faults])


def determine(
    model: Annotated[str, typer.Argument(help="The model version, e.g. claude-opus-4@20250514.")],
    action: Annotated[str, typer.Option(help="What is asked for, e.g. external-deployment.")],
    policy: Annotated[
        str | None, typer.Option(help="Ask this policy alone; without it, all that apply.")
    ] = None,
    at: Annotated[
        str | None, typer.Option(help="With --policy: an instant in the past, RFC 3339.")
    ] = None,
    fail_on_deny: Annotated[
        bool, typer.Option("--fail-on-deny", help="Exit with 3 for anything but allow.")
    ] = False,
    accept_conditions: Annotated[
        bool, typer.Option("--accept-conditions", help="Let allow_with_conditions pass too.")
    ] = False,
    url: Url = LOCAL,
    key: Key = None,
    as_json: Json = False,
) -> None:
    """Ask the gate, and record its answer: the strictest of all policies that apply.

    With --policy only that one is asked. With --fail-on-deny the exit code is 0 for allow and 3 for deny; others mean that there is no
    answer. Without it, 0 means only that there is one.
    """
    if at is not None and fail_on_deny:
        fail("--fail-on-deny is about now; leave out --at", USAGE)
    if at is not None and policy is None:
        fail("a gate is about now; say with --policy whom to ask about an instant", USAGE)
    body = {"model": model, "action": action}
    body |= {"policy": policy} if policy is not None else {}
    body |= {"at": at} if at is not None else {}
    path = "/v1/gate" if policy is None else "/v1/determinations"
    # The gate's record says that the caller keeps the conditions, where it goes on with them.
    query = {"accept_conditions": "true"} if policy is None and accept_conditions else {}
    with client(url, key) as http:
        answer = send(http, "POST", path, json=body, params=query)
    if (answer.get("model"), answer.get("action")) != (model, action):
        fail("the answer is about something else")
    if as_json:
        sys.stdout.write(json.dumps(answer, indent=2) + "\n")
    elif policy is None:
        print_gate(Console(), answer)
    else:
        print_determination(Console(), answer)
    passes = {"allow", "allow_with_conditions"} if accept_conditions else {"allow"}
    # A gate says itself whether it is open; a determination has its decision alone.
    is_open = policy is not None or answer.get("allowed") is True
    if fail_on_deny and not (is_open and answer.get("decision") in passes):
        raise typer.Exit(DENIED)


def explain(
    determination: Annotated[str, typer.Argument(help="The id of a determination, det_….")],
    plain: Annotated[bool, typer.Option("--plain", help="Plain text instead of Markdown.")] = False,
    url: Url = LOCAL,
    key: Key = None,
) -> None:
    """Print a recorded determination as a page for people, from the evidence to the decision."""
    path = f"/v1/determinations/{quote(determination, safe='')}/explanation"
    media = "text/plain" if plain else "text/markdown"
    with client(url, key) as http:
        http.timeout = PATIENCE
        sys.stdout.write(fetch(http, path, media).text)


def fetch(http: httpx.Client, path: str, media: str, **query: str) -> httpx.Response:
    """The answer. Anything but a whole 2xx answer of that type ends with a failure."""
    try:
        response = http.get(path, params=query, headers={"Accept": media})
        if not response.is_success:
            fail(_problem(response.json()))
    except (httpx.HTTPError, ValueError) as error:
        fail(f"no usable answer from {http.base_url}: {str(error) or type(error).__name__}")
    if response.headers.get("content-type", "").partition(";")[0] != media:
        fail(f"no usable answer from {http.base_url}: it is not {media}")
    return response


def settle(
    model: Annotated[str, typer.Argument(help="The model version, e.g. claude-opus-4@20250514.")],
    action: Annotated[str, typer.Option(help="What would be asked for.")],
    policy: Annotated[str, typer.Option(help="The policy that would be asked.")],
    url: Url = LOCAL,
    key: Key = None,
    as_json: Json = False,
) -> None:
    """Say what would have to be recorded to change the answer that there would be now."""
    path = f"/v1/models/{quote(model, safe='/@')}/settling"
    with client(url, key) as http:
        http.timeout = PATIENCE
        answer = send(http, "GET", path, params={"action": action, "policy": policy})
    if as_json:
        sys.stdout.write(json.dumps(answer, indent=2) + "\n")
    else:
        print_settling(Console(), answer)


def print_line(text: str) -> None:
    """One plain line on standard output."""
    sys.stdout.write(f"{text}\n")
