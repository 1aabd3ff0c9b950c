"""One rule in several policy engines, asked about a value that was never measured.

The rule: below an uplift of 2.8 a model may be released at ASL-2; from 2.8 on it needs ASL-3, which is
not in place. Each engine gets it as its own tutorial would write it (natural), and as somebody careful
would. Four inputs: 3.1, 1.0, nothing measured (`{}`), and "not measured" as JSON writers put it (`null`).

    .venv/bin/python run.py --aslgate PATH-TO-ASLGATE

prints the table of README.md, which tells how to install the engines. One that is not installed is
shown as not run.
"""

import argparse
import importlib.metadata
import json
import re
import socket
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

INPUTS: dict[str, dict[str, Any]] = {
    "3.1": {"uplift": 3.1},
    "1.0": {"uplift": 1.0},
    "{}": {},
    "null": {"uplift": None},
}
Way = Callable[[dict[str, Any]], str]


# --- Rego, in two engines: OPA's own as a library, and regopy (rego-cpp) ------------------------

REGO_NATURAL = """
package release
import rego.v1
needs_asl3 if input.uplift >= 2.8
default allow := false
allow if not needs_asl3
"""
REGO_CAREFUL = """
package release
import rego.v1
default allow := false
allow if input.uplift < 2.8
"""


def opa(policy: str) -> Way:
    from opa_bindings import OpaEngine  # type: ignore[import-not-found,unused-ignore]

    def ask(given: dict[str, Any]) -> str:
        with OpaEngine() as engine:
            engine.add_policy("release.rego", policy)
            return "allow" if engine.eval_document("release", given)["allow"] is True else "deny"

    return ask


def rego(policy: str) -> Way:
    from regopy import Interpreter  # type: ignore[import-not-found,unused-ignore]

    def ask(given: dict[str, Any]) -> str:
        engine = Interpreter()
        engine.add_module("release", policy)
        engine.set_input(given)
        allowed = engine.query("x = data.release.allow").results[0].bindings["x"]
        return "allow" if allowed is True or str(allowed) == "true" else "deny"

    return ask


# --- Cedar (cedarpy). Its numbers are whole, so tenths are compared -------------------------------

CEDAR_NATURAL = """
permit(principal, action, resource);
forbid(principal, action, resource) when { context.uplift >= 28 };
"""
CEDAR_CAREFUL = "permit(principal, action, resource) when { context.uplift < 28 };"


def cedar(policies: str) -> Way:
    from cedarpy import is_authorized  # type: ignore[import-not-found,unused-ignore]

    def ask(given: dict[str, Any]) -> str:
        if "uplift" in given and given["uplift"] is None:
            return "(has no null)"
        context = {name: round(value * 10) for name, value in given.items()}
        request = {
            "principal": 'User::"lab"',
            "action": 'Action::"release"',
            "resource": 'Model::"m"',
            "context": context,
        }
        answer = is_authorized(request, policies, [])
        errors = " (an error in the diagnostics)" if answer.diagnostics.errors else ""
        return ("allow" if answer.allowed else "deny") + errors

    return ask


# --- Zen (GoRules) -------------------------------------------------------------------------------


def zen(rows: list[dict[str, str]]) -> Way:
    from zen import ZenEngine  # type: ignore[import-not-found,unused-ignore]

    table = {
        "hitPolicy": "first",
        "inputs": [{"id": "i", "name": "uplift", "field": "uplift"}],
        "outputs": [{"id": "o", "name": "allow", "field": "allow"}],
        "rules": [{"_id": str(i)} | row for i, row in enumerate(rows)],
    }
    graph = {
        "nodes": [
            {"id": "in", "type": "inputNode", "name": "in"},
            {"id": "t", "type": "decisionTableNode", "name": "t", "content": table},
            {"id": "out", "type": "outputNode", "name": "out"},
        ],
        "edges": [
            {"id": "1", "sourceId": "in", "targetId": "t"},
            {"id": "2", "sourceId": "t", "targetId": "out"},
        ],
    }

    def ask(given: dict[str, Any]) -> str:
        result = ZenEngine().create_decision(json.dumps(graph)).evaluate(given)["result"]
        if not result:
            return "(empty result)"
        return "allow" if result["allow"] else "deny"

    return ask


# --- CEL -------------------------------------------------------------------------------------------


def cel(expression: str) -> Way:
    import celpy  # type: ignore[import-not-found,import-untyped,unused-ignore]

    environment = celpy.Environment()
    program = environment.program(environment.compile(expression))

    def ask(given: dict[str, Any]) -> str:
        try:
            return "allow" if program.evaluate({"input": celpy.json_to_cel(given)}) else "deny"
        except celpy.CELEvalError:
            return "(raises)"

    return ask


# --- Cerbos, a server that is started for each question --------------------------------------------

CERBOS = Path(__file__).with_name("node_modules") / "@cerbos/cerbos-linux-x64/cerbos-linux-x64"
CERBOS_NATURAL = """
apiVersion: api.cerbos.dev/v1
resourcePolicy:
  resource: model
  version: default
  rules:
    - {actions: [release], effect: EFFECT_ALLOW, roles: [lab]}
    - actions: [release]
      effect: EFFECT_DENY
      roles: [lab]
      condition: {match: {expr: request.resource.attr.uplift >= 2.8}}
"""
CERBOS_CAREFUL = """
apiVersion: api.cerbos.dev/v1
resourcePolicy:
  resource: model
  version: default
  rules:
    - actions: [release]
      effect: EFFECT_ALLOW
      roles: [lab]
      condition: {match: {expr: request.resource.attr.uplift < 2.8}}
"""


def cerbos(policy: str, *settings: str) -> Way:
    if not CERBOS.exists():
        raise ImportError("Cerbos is not installed")

    def ask(given: dict[str, Any]) -> str:
        asked = {
            "principal": {"id": "lab", "roles": ["lab"]},
            "resources": [
                {
                    "actions": ["release"],
                    "resource": {"kind": "model", "id": "m", "attr": given},
                }
            ],
        }
        with _cerbos_server(policy, settings) as address:
            request = urllib.request.Request(
                f"{address}/api/check/resources",
                json.dumps(asked).encode(),
                {"content-type": "application/json"},
            )
            with urllib.request.urlopen(request, timeout=10) as answer:
                (one,) = json.load(answer)["results"]
        return "allow" if one["actions"]["release"] == "EFFECT_ALLOW" else "deny"

    return ask


@contextmanager
def _cerbos_server(policy: str, settings: tuple[str, ...]) -> Iterator[str]:
    """A server with that policy alone: its address, once it is ready."""
    with tempfile.TemporaryDirectory() as folder, socket.socket() as free:
        Path(folder, "release.yaml").write_text(policy)
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
        free.close()
        given = (
            "storage.driver=disk",
            f"storage.disk.directory={folder}",
            f"server.httpListenAddr={address}",
            f"server.grpcListenAddr=unix:{folder}/grpc",
            "telemetry.disabled=true",
            *settings,
        )
        command = [str(CERBOS), "server", "--log-level=error", *(f"--set={one}" for one in given)]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL) as server:
            try:
                _wait_for(f"http://{address}/_cerbos/health")
                yield f"http://{address}"
            finally:
                server.terminate()


def _wait_for(address: str) -> None:
    """Until it answers; `TimeoutError` after a quarter of a minute."""
    for _ in range(150):
        try:
            with urllib.request.urlopen(address, timeout=1):
                return
        except OSError:
            time.sleep(0.1)
    message = f"`{address}` does not answer"
    raise TimeoutError(message)


# --- aslgate ---------------------------------------------------------------------------------------

ASLGATE = """
schema: aslgate/policy/v1
policy: release
version: "1"
title: Release
publisher: Somebody
effective: 2026-01-01
source: {title: Release, version: "1", note: Written for this comparison.}
applies_to: {developer: [lab]}
confidence: 0.95
roles: {officer: Safety officer}
domains: {bio: {title: Biology, status: tracked}}
standards:
  asl-3: {title: ASL-3, clause: "1", criteria: {in-place: {statement: It is in place., clause: "1"}}}
lines:
  uplift: {title: Uplift, unit: ratio, riskier: higher, point_value_suffices: true, rule_out: {below: 2.8}, rule_in: {at_least: 2.8}}
thresholds:
  uplift:
    domain: bio
    statement: An uplift of 2.8 or more.
    clause: "1"
    requires: [{standard: asl-3, before: [release]}]
    reached: {line: uplift, zone: rule_in}
    ruled_out: {line: uplift, zone: rule_out}
    not_ruled_out: {means: binds, clause: "1"}
    evidence: [uplift]
actions:
  release: {statement: Release., clause: "1", needs: [required-standards]}
"""


def aslgate(command: str) -> Way:
    def ask(given: dict[str, Any]) -> str:
        assessments = []
        if given:
            result = {"line": "uplift", "value": given["uplift"]}
            assessments.append(
                {
                    "kind": "test",
                    "conducted_at": "2026-02-01T00:00:00Z",
                    "assessor": "lab",
                    "results": [result],
                }
            )
        case = {
            "name": "asked",
            "note": "As asked.",
            "at": "2026-03-01T00:00:00Z",
            "action": "release",
            "model": {"model": "m@1", "developer": "lab"},
            "evidence": {"assessments": assessments},
            "want": {"decision": "allow"},
        }
        with tempfile.TemporaryDirectory() as folder:
            policy = Path(folder, "1.yaml")
            policy.write_text(ASLGATE)
            cases = {"policy": "release@1", "cases": [case]}
            Path(folder, "1.cases.yaml").write_text(json.dumps(cases))
            ran = subprocess.run(
                [command, "policy", "test", str(policy), "--json"],
                capture_output=True,
                text=True,
                check=False,
            )
        if not ran.stdout.strip():
            return "(refused: must be a number)" if "number" in ran.stderr else "(refused)"
        differences = json.loads(ran.stdout)[0]["differences"]
        return "allow" if not differences else str(differences[0]["got"])

    return ask


# --- the table -------------------------------------------------------------------------------------

ROWS: list[tuple[str, str, Callable[[argparse.Namespace], Way]]] = [
    ("Rego, natural: allow if not `>=`", "OPA", lambda _: opa(REGO_NATURAL)),
    ("Rego, careful: allow if `<`", "OPA", lambda _: opa(REGO_CAREFUL)),
    ("Rego, natural: allow if not `>=`", "regopy", lambda _: rego(REGO_NATURAL)),
    ("Rego, careful: allow if `<`", "regopy", lambda _: rego(REGO_CAREFUL)),
    ("Cedar, natural: permit all, forbid `>=`", "cedarpy", lambda _: cedar(CEDAR_NATURAL)),
    ("Cedar, careful: permit `<`", "cedarpy", lambda _: cedar(CEDAR_CAREFUL)),
    (
        "Zen, natural: `>=` row, catch-all",
        "zen-engine",
        lambda _: zen([{"i": ">= 2.8", "o": "false"}, {"i": "", "o": "true"}]),
    ),
    (
        "Zen, careful: both rows conditioned",
        "zen-engine",
        lambda _: zen([{"i": ">= 2.8", "o": "false"}, {"i": "< 2.8", "o": "true"}]),
    ),
    ("CEL, natural: `!(>=)`", "cel-python", lambda _: cel("!(input.uplift >= 2.8)")),
    (
        "CEL, with `has()` as its guide shows",
        "cel-python",
        lambda _: cel("!(has(input.uplift) && input.uplift >= 2.8)"),
    ),
    ("Cerbos, natural: allow all, deny `>=`", "Cerbos", lambda _: cerbos(CERBOS_NATURAL)),
    (
        "Cerbos, the same with `strictEvaluation`",
        "Cerbos",
        lambda _: cerbos(CERBOS_NATURAL, "engine.strictEvaluation=true"),
    ),
    ("Cerbos, careful: allow `<`", "Cerbos", lambda _: cerbos(CERBOS_CAREFUL)),
    ("aslgate", "aslgate", lambda given: aslgate(given.aslgate)),
]


def _version(engine: str) -> str:
    """Which version of an engine that is here was asked."""
    match engine:
        case "aslgate":
            return ""
        case "OPA":
            # The library has a version of its own and says which engine it is built with nowhere
            # but in its build record, which Go keeps in every program.
            from opa_bindings import _native

            library = next(Path(_native.__file__).parent.glob("*.so")).read_bytes()
            found = re.search(rb"\tgithub\.com/open-policy-agent/opa\tv([0-9.]+)\t", library)
            return "" if found is None else found[1].decode()
        case "Cerbos":
            return str(json.loads(CERBOS.with_name("package.json").read_text())["version"])
        case _:
            return importlib.metadata.version(engine)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--aslgate", default="aslgate", help="where its command is")
    given = parser.parse_args()
    print("| engine and way of writing | version | " + " | ".join(INPUTS) + " |")
    print("| --- " * (2 + len(INPUTS)) + "|")
    for name, engine, make in ROWS:
        try:
            way = make(given)
        except ImportError:
            print(f"| {name} | not run | " + " | ".join("–" for _ in INPUTS) + " |")
            continue
        answers = [way(one) for one in INPUTS.values()]
        wrong = [
            f"**{answer}**" if unmeasured and answer.startswith("allow") else answer
            for answer, unmeasured in zip(answers, (False, False, True, True), strict=True)
        ]
        print(f"| {name} | {engine} {_version(engine)} | " + " | ".join(wrong) + " |")


if __name__ == "__main__":
    main()
