"""One rule in several policy engines, asked about a value that was never measured.

The rule: below an uplift of 2.8 a model may be released at ASL-2; from 2.8 on it needs ASL-3, which is
not in place. Each engine gets it as its own tutorial would write it (natural), and as somebody careful
would. Four inputs: 3.1, 1.0, nothing measured (`{}`), and "not measured" as JSON writers put it (`null`).

    python -m venv .venv && .venv/bin/pip install --require-hashes -r requirements.txt
    .venv/bin/python run.py --aslgate PATH-TO-ASLGATE

prints the table of README.md. An engine that cannot be imported is shown as not run.
"""

import argparse
import importlib.metadata
import json
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

INPUTS: dict[str, dict[str, Any]] = {
    "3.1": {"uplift": 3.1},
    "1.0": {"uplift": 1.0},
    "{}": {},
    "null": {"uplift": None},
}
Way = Callable[[dict[str, Any]], str]


# --- Rego (regopy: rego-cpp) -------------------------------------------------------------------

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
    ("Cerbos", "cerbos", lambda _: _not_here()),
    ("aslgate", "aslgate", lambda given: aslgate(given.aslgate)),
]


def _not_here() -> Way:
    raise ImportError("Cerbos is a server that no Python package brings")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--aslgate", default="aslgate", help="where its command is")
    given = parser.parse_args()
    print("| engine and way of writing | version | " + " | ".join(INPUTS) + " |")
    print("| --- " * (2 + len(INPUTS)) + "|")
    for name, package, make in ROWS:
        try:
            way = make(given)
            version = "" if package == "aslgate" else importlib.metadata.version(package)
        except ImportError:
            print(f"| {name} | not run | " + " | ".join("–" for _ in INPUTS) + " |")
            continue
        answers = [way(one) for one in INPUTS.values()]
        wrong = [
            f"**{answer}**" if unmeasured and answer.startswith("allow") else answer
            for answer, unmeasured in zip(answers, (False, False, True, True), strict=True)
        ]
        print(f"| {name} | {package} {version} | " + " | ".join(wrong) + " |")


if __name__ == "__main__":
    main()
