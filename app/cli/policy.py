"""`aslgate policy`: check a document, run its decision cases, publish it, put it in force."""

import json
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar
from urllib.parse import quote

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table

from app.cli import service
from app.cli.render import print_backtest, print_shadow
from app.determination.cases import Case, read_cases, run_case
from app.determination.compare import Compared, compare
from app.determination.coverage import coverage
from app.determination.proof import Proof, proof_text, prove, with_table
from app.errors import Fault, InvalidDocument
from app.policy.diff import as_text, diff
from app.policy.language import policy_digest, read_policy
from app.policy.version import PolicyVersion

commands = typer.Typer(no_args_is_help=True, help="Work on policy documents.")

Files = Annotated[list[Path], typer.Argument(exists=True, help="Files, or folders of them.")]

T = TypeVar("T")


def _read(file: Path) -> PolicyVersion:
    return read_policy(file.read_bytes(), "json" if file.suffix == ".json" else "yaml")


def _read_cases(file: Path) -> tuple[Case, ...]:
    return read_cases(file.read_bytes()).cases


def _read_or_fail(file: Path, read: Callable[[Path], T]) -> T:
    """What *read* makes of the file; ends the command with all its faults if it has any."""
    try:
        return read(file)
    except InvalidDocument as invalid:
        service.fail("\n".join(_where(file, fault) for fault in invalid.faults))


def _policies(paths: list[Path]) -> list[Path]:
    """The policy documents among *paths*: in a folder, every YAML that is not a table of cases."""
    found: list[Path] = []
    for path in paths:
        found += sorted(path.rglob("*.yaml")) if path.is_dir() else [path]
    return [file for file in found if not file.name.endswith(".cases.yaml")]


def _where(file: Path, fault: Fault) -> str:
    place = f"{file}:{fault.line}:{fault.column}" if fault.line else str(file)
    return f"{place}: {fault.pointer or '/'}: {fault.message}"


@commands.command()
def check(paths: Files, as_json: service.Json = False) -> None:
    """Report every fault of the documents at once. Exit code 1 if there is any."""
    files = _policies(paths)
    said: list[dict[str, Any]] = []
    faulty = False
    for file in files:
        try:
            version = _read(file)
        except InvalidDocument as invalid:
            faulty = True
            said.append({"file": str(file), "faults": [asdict(f) for f in invalid.faults]})
            if not as_json:
                for fault in invalid.faults:
                    service.print_line(_where(file, fault))
        else:
            digest = policy_digest(version)
            said.append({"file": str(file), "faults": [], "digest": digest})
            if not as_json:
                service.print_line(f"{file}: {version.policy} {version.version} {digest}")
    if as_json:
        sys.stdout.write(json.dumps(said, indent=2) + "\n")
    if faulty or not files:
        raise typer.Exit(service.FAILED)


Coverage = Annotated[
    bool,
    typer.Option(
        "--coverage",
        help="Also change each document in every small way, and say what no case sees.",
    ),
]


@commands.command("test")
def run_cases(paths: Files, with_coverage: Coverage = False, as_json: service.Json = False) -> None:
    """Run the decision cases beside each document. Exit code 1 if one fails, or there are none."""
    rows: list[dict[str, Any]] = []
    for file in _policies(paths):
        cases_file = file.with_name(file.name.removesuffix(".yaml") + ".cases.yaml")
        version = _read_or_fail(file, _read)
        cases = _read_or_fail(cases_file, _read_cases) if cases_file.exists() else ()
        failed = [
            {"case": case.name, "path": d.path, "wanted": d.wanted, "got": d.got}
            for case in cases
            for d in run_case(case, version)
        ]
        names = {difference["case"] for difference in failed}
        row: dict[str, Any] = {
            "policy": version.policy,
            "version": version.version,
            "cases": len(cases),
            "passed": len(cases) - len(names),
            "differences": failed,
        }
        if with_coverage and cases and not failed:
            found = coverage(version, cases)
            survivors = [
                {"pointer": one.pointer, "was": one.was, "now": one.now} for one in found.survivors
            ]
            row["coverage"] = {
                "mutants": found.mutants,
                "killed": found.killed,
                "survivors": survivors,
            }
        rows.append(row)
    _say(rows, as_json)
    if not rows or any(row["differences"] or not row["cases"] for row in rows):
        raise typer.Exit(service.FAILED)


Write = Annotated[
    bool,
    typer.Option(
        "--write",
        help="Keep each proof beside its document, with what its decision cases see of it.",
    ),
]


@commands.command("prove")
def prove_versions(paths: Files, write: Write = False, as_json: service.Json = False) -> None:
    """Prove that no rule opens a gate on silence, and that more evidence moves each rule only the
    way it should. Exit code 1 where something does not hold.
    """
    proofs: list[Proof] = []
    for file in _policies(paths):
        version = _read_or_fail(file, _read)
        proof = prove(version)
        if write:
            stem = file.name.removesuffix(file.suffix)
            cases_file = file.with_name(f"{stem}.cases.yaml")
            cases = _read_or_fail(cases_file, _read_cases) if cases_file.exists() else ()
            if cases and not any(run_case(case, version) for case in cases):
                proof = with_table(proof, coverage(version, cases))
            else:
                why = f"{file}: its decision cases are not measured: none, or one fails"
                typer.echo(why, err=True)
            file.with_name(f"{stem}.proof.json").write_bytes(proof_text(proof))
        proofs.append(proof)
    if as_json:
        said = [json.loads(proof_text(proof)) for proof in proofs]
        sys.stdout.write(json.dumps(said, indent=2) + "\n")
    else:
        _say_proofs(proofs)
    if not proofs or not all(proof.holds for proof in proofs):
        raise typer.Exit(service.FAILED)


def _say_proofs(proofs: list[Proof]) -> None:
    headings = (
        "policy",
        "version",
        "holds",
        "conditions",
        "by structure",
        "actions",
        "unreachable",
    )
    table = Table(*headings, box=None, pad_edge=False)
    for proof in proofs:
        structural = sum(tree.method == "structural" for tree in proof.trees)
        unreachable = [one.action for one in proof.actions if one.witness is None]
        table.add_row(
            proof.policy,
            proof.version,
            "yes" if proof.holds else "no",
            str(len(proof.trees)),
            str(structural),
            str(len(proof.actions)),
            str(len(unreachable)),
        )
    Console().print(table)
    for proof in proofs:
        name = f"{proof.policy} {proof.version}"
        for tree in proof.trees:
            for why in tree.against:
                service.print_line(f"{name}: does not hold: {why}")
        for one in proof.actions:
            if not one.guarded:
                service.print_line(
                    f"{name}: does not hold: `{one.action}` is open with no evidence"
                )
            elif one.open_by:
                clauses = "; ".join(one.open_by)
                service.print_line(f"{name}: `{one.action}` is open with no evidence: {clauses}")
            if one.witness is None:
                closed = "; ".join(one.closed_by)
                service.print_line(f"{name}: nothing opens `{one.action}`: {closed}")


@commands.command("diff")
def diff_versions(
    older: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="YAML or JSON.")],
    newer: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="YAML or JSON.")],
    as_json: service.Json = False,
) -> None:
    """Say what NEWER changes in OLDER, and what each change does: stricter, looser, neither or
    unknown, where that does not follow from the structure.
    """
    found = diff(_read_or_fail(older, _read), _read_or_fail(newer, _read))
    if as_json:
        sys.stdout.write(json.dumps(found.model_dump(mode="json"), indent=2) + "\n")
    else:
        sys.stdout.write(as_text(found))


@commands.command("compare")
def compare_versions(
    a: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="The one that denies.")],
    b: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="The one that may allow.")],
    as_json: service.Json = False,
) -> None:
    """Say whether B ever allows what A denies: a proof, or a case that shows it.

    Exit code 0 where it never does, 3 where it does, 1 where the search ended before it was sure.
    """
    one, other = _read_or_fail(a, _read), _read_or_fail(b, _read)
    if one.policy != other.policy:
        message = f"{one.policy} and {other.policy} are two policies: compare versions of one"
        service.fail(message, service.USAGE)
    compared = compare(one, other)
    if as_json:
        sys.stdout.write(json.dumps(compared.model_dump(mode="json"), indent=2) + "\n")
    else:
        _say_compared(compared)
    if compared.verdict != "never":
        raise typer.Exit(service.DENIED if compared.verdict == "found" else service.FAILED)


_VERDICTS = {
    "never": "never allows what {a} denies (proved)",
    "found": "allows what {a} denies:",
    "not-found": "was not seen to allow what {a} denies, and the search did not end",
}


def _say_compared(compared: Compared) -> None:
    for one in compared.actions:
        verdict = _VERDICTS[one.verdict].format(a=compared.a)
        service.print_line(f"{one.action}: {compared.b} {verdict}")
        for why in one.because:
            service.print_line(f"  {compared.a} denies: {why}")
        if one.case is not None:
            # JSON is YAML, so that this can be put into a table of cases as it is.
            service.print_line("  " + json.dumps(one.case))


def _say(rows: list[dict[str, Any]], as_json: bool) -> None:
    if as_json:
        sys.stdout.write(json.dumps(rows, indent=2, default=str) + "\n")
        return
    covered = any("coverage" in row for row in rows)
    headings = ("policy", "version", "cases", "passed", *(["mutants seen"] if covered else []))
    table = Table(*headings, box=None, pad_edge=False)
    for row in rows:
        cells = [row["policy"], row["version"], str(row["cases"]), str(row["passed"])]
        if (found := row.get("coverage")) is not None:
            share = found["killed"] / max(1, found["mutants"])
            cells.append(f"{found['killed']} of {found['mutants']} ({share:.0%})")
        table.add_row(*cells)
    Console().print(table)
    for row in rows:
        for one in row.get("coverage", {}).get("survivors", ()):
            what = "taken out" if one["now"] is None else f"{one['was']} -> {one['now']}"
            name = f"{row['policy']} {row['version']}"
            service.print_line(f"{name}: no case sees {one['pointer']}: {what}")
    for row in rows:
        for d in row["differences"]:
            where = f"{row['policy']} {row['version']}, {d['case']}: {d['path']}"
            service.print_line(f"{where}: wanted {d['wanted']}, got {d['got']}")


@commands.command()
def publish(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="YAML or JSON.")],
    url: service.Url = service.LOCAL,
    key: service.Key = None,
    as_json: service.Json = False,
) -> None:
    """Record a policy version with the service: as a draft, until somebody else approves it."""
    version = _read_or_fail(file, _read)
    kind = "json" if file.suffix == ".json" else "yaml"
    with service.client(url, key) as http:
        answer = service.send(
            http,
            "POST",
            f"/v1/policies/{version.policy}/versions",
            content=file.read_bytes(),
            headers={"Content-Type": f"application/{kind}"},
        )
    if as_json:
        sys.stdout.write(json.dumps(answer, indent=2) + "\n")
        return
    name = f"{answer['policy']} {answer['version']}"
    service.print_line(f"{name} is recorded as {answer['digest']}")
    if answer["status"] == "draft":
        service.print_line(f"it is a draft: by somebody else, `aslgate policy approve {name}`")
    elif answer["status"] == "approved":
        service.print_line(f"it is approved: by somebody else, `aslgate policy activate {name}`")
    elif (in_force := answer["in_force"]) is None:
        service.print_line("it is superseded")
    else:
        until = f" until {in_force['until']}" if in_force["until"] else ""
        service.print_line(f"in force from {in_force['from']}{until}")


PolicyName = Annotated[str, typer.Argument(metavar="POLICY", help="E.g. anthropic-rsp.")]
VersionName = Annotated[str, typer.Argument(metavar="VERSION", help="E.g. 2.2.")]


@commands.command()
def approve(
    policy: PolicyName,
    version: VersionName,
    reason: Annotated[str, typer.Option(help="Why it may count.")],
    url: service.Url = service.LOCAL,
    key: service.Key = None,
    as_json: service.Json = False,
) -> None:
    """Approve a version that somebody else recorded."""
    path = f"{_path(policy, version)}/approvals"
    with service.client(url, key) as http:
        answer = service.send(http, "POST", path, json={"reason": reason})
    if as_json:
        sys.stdout.write(json.dumps(answer, indent=2) + "\n")
        return
    name = f"{policy} {version}"
    service.print_line(f"{name} is approved by {answer['by']}: {answer['id']}")
    service.print_line(f"put it in force with `aslgate policy activate {name}`")


@commands.command()
def activate(
    policy: PolicyName,
    version: VersionName,
    since: Annotated[
        str | None,
        typer.Option("--from", metavar="TIME", help="RFC 3339 with a zone. Default: now."),
    ] = None,
    retroactive: Annotated[
        bool, typer.Option("--retroactive", help="The time is past, and that is meant.")
    ] = False,
    reason: Annotated[str | None, typer.Option(help="Why; required where it reaches back.")] = None,
    url: service.Url = service.LOCAL,
    key: service.Key = None,
    as_json: service.Json = False,
) -> None:
    """Put an approved version in force that somebody else recorded."""
    body = {"in_force_from": since, "retroactive": retroactive, "reason": reason}
    path = f"{_path(policy, version)}/activation"
    with service.client(url, key) as http:
        answer = service.send(http, "POST", path, json=body)
    if as_json:
        sys.stdout.write(json.dumps(answer, indent=2) + "\n")
        return
    service.print_line(
        f"{policy} {version} is in force from {answer['in_force_from']}: {answer['id']}"
    )


Scope = Annotated[
    Literal["current", "history"],
    typer.Option(help="What would be said now; or what would have been said each time."),
]


@commands.command()
def backtest(
    policy: PolicyName,
    version: VersionName,
    scope: Scope = "current",
    limit: Annotated[int | None, typer.Option(min=1, help="Only the last so many.")] = None,
    url: service.Url = service.LOCAL,
    key: service.Key = None,
    as_json: service.Json = False,
) -> None:
    """Say what a recorded version, approved or not, would decide otherwise. Records nothing.

    With --json each line is one JSON object, as the service sends it. Exit code 1 where a question
    could not be asked again, or the answer broke off.
    """
    body = {"scope": scope} | ({} if limit is None else {"limit": limit})
    told: list[dict[str, Any]] = []
    summary: dict[str, Any] | None = None
    with service.client(url, key) as http, _progress() as progress:
        task = progress.add_task(f"{policy} {version}", total=None)
        for line in service.lines_of(http, f"{_path(policy, version)}/backtest", body):
            summary = line.get("summary", summary)
            if (came := line.get("progress")) is not None:
                progress.update(task, completed=came["done"], total=came["of"])
            if as_json:
                service.print_line(json.dumps(line))
            elif "difference" in line or "failed" in line:
                told.append(line)
    if summary is None:
        service.fail("the answer broke off: there is no summary, so that it says nothing whole")
    if not as_json:
        print_backtest(Console(), told, summary)
    if summary["failed"]:
        raise typer.Exit(service.FAILED)


@commands.command()
def shadow(
    policy: PolicyName,
    version: VersionName,
    show: Annotated[bool, typer.Option("--status", help="Only say how it is doing.")] = False,
    stop: Annotated[bool, typer.Option("--stop", help="End it. What it found is kept.")] = False,
    reason: Annotated[str | None, typer.Option(help="Why it begins, or ends.")] = None,
    url: service.Url = service.LOCAL,
    key: service.Key = None,
    as_json: service.Json = False,
) -> None:
    """Decide a version beside the one in force on every live question from now on, and say what it
    says otherwise. It records nothing, and goes on until it is stopped or comes into force.
    """
    if show and stop:
        service.fail("give --status or --stop, not both", service.USAGE)
    path = f"{_path(policy, version)}/shadow"
    with service.client(url, key) as http:
        if show:
            status = service.send(http, "GET", path)
        else:
            asked = f"{path}/stop" if stop else path
            status = service.send(http, "POST", asked, json={"reason": reason})
        latest = service.send(http, "GET", f"{path}/differences")["differences"]
    if as_json:
        sys.stdout.write(json.dumps(status | {"differences": latest}, indent=2) + "\n")
    else:
        print_shadow(Console(), status, latest)


def _progress() -> Progress:
    """A bar on standard error, where that is a terminal."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)


def _path(policy: str, version: str) -> str:
    return f"/v1/policies/{quote(policy, safe='')}/versions/{quote(version, safe='')}"
