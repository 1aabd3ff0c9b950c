"""A determination, or a gate, as a table that a person understands at a glance."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

Answer = Mapping[str, Any]

_DECISIONS = {
    "allow": ("ALLOW", "bold green"),
    "allow_with_conditions": ("ALLOW WITH CONDITIONS", "bold yellow"),
    "deny": ("DENY", "bold red"),
}
_STATUSES = {
    "reached": "red",
    "not_ruled_out": "yellow",
    "ruled_out": "green",
    "no_threshold": "dim",
}
_MET = {"yes": ("met", "green"), "no": ("NOT met", "red"), "unknown": ("not known", "yellow")}


def determination_panel(answer: Answer) -> RenderableType:
    """The decision, the level, threshold by threshold, what is in place, and on whose word."""
    decision, style = _DECISIONS[answer["decision"]]
    policy = answer["provenance"]["policy"]
    head = Table.grid(padding=(0, 2))
    head.add_row("decision", Text(decision, style=style))
    head.add_row("level required", Text(answer["level"] or "none", style="bold"))
    head.add_row("policy", f"{policy['name']} {policy['version'] or '(no version in force)'}")
    head.add_row("decided at", answer["provenance"]["at"])
    head.add_row("holds until", answer["valid_until"] or "nothing that time alone would change")
    if answer["flags"]:
        head.add_row("flags", ", ".join(answer["flags"]))
    parts: list[RenderableType] = [head]
    if policy["digest"]:
        parts += [Text("policy digest", style="dim"), Text(policy["digest"], overflow="fold")]
    if answer["thresholds"]:
        parts += [Text(), _thresholds(answer["thresholds"])]
    if answer["standards"]:
        parts += [Text(), _standards(answer["standards"])]
    if reasons := [reason for reason in answer["reasons"] if reason["blocks"]]:
        parts += [Text(), _reasons(reasons)]
    title = f"[bold]{answer['model']}[/] · {answer['action']}"
    return Panel(Group(*parts), title=title, title_align="left", expand=False, padding=(1, 2))


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def _thresholds(thresholds: Sequence[Answer]) -> Table:
    table = _table("threshold", "status", "basis", "so it requires")
    for threshold in thresholds:
        status = threshold["status"]
        requires = "\n".join(threshold["requires"]) if threshold["binds"] else ""
        marks = [threshold["basis"] or "", *threshold["flags"]]
        table.add_row(
            threshold["id"],
            Text(status.replace("_", " "), style=_STATUSES[status]),
            "\n".join(mark.replace("_", " ") for mark in marks if mark) or "-",
            requires or "-",
        )
    return table


def _standards(standards: Sequence[Answer]) -> Table:
    table = _table("required standard", "level", "in place", "missing")
    for standard in standards:
        met, style = _MET[standard["met"]]
        missing = ", ".join(standard["missing"]) or "-"
        table.add_row(standard["id"], standard["level"] or "-", Text(met, style=style), missing)
    return table


def _reasons(reasons: Sequence[Answer]) -> Table:
    table = _table("why not", "clause")
    for reason in reasons:
        table.add_row(reason["message"], reason["clause"] or "-")
    return table


def print_determination(console: Console, answer: Answer) -> None:
    """Print *answer* for a person."""
    console.print(determination_panel(answer))


def gate_panel(answer: Answer) -> RenderableType:
    """The decision, policy by policy, and why not."""
    decision, style = _DECISIONS[answer["decision"]]
    head = Table.grid(padding=(0, 2))
    head.add_row("decision", Text(decision, style=style))
    head.add_row("decided at", answer["at"])
    head.add_row("holds until", answer["valid_until"] or "nothing that time alone would change")
    parts: list[RenderableType] = [head, Text(), _asked(answer)]
    if reasons := answer["reasons"]:
        table = _table("why not", "policy")
        for reason in reasons:
            table.add_row(reason["message"], reason["policy"] or "-")
        parts += [Text(), table]
    title = f"[bold]{answer['model']}[/] · {answer['action']}"
    return Panel(Group(*parts), title=title, title_align="left", expand=False, padding=(1, 2))


def _asked(answer: Answer) -> Table:
    table = _table("policy", "says", "determination")
    for asked in answer["policies"]:
        decision, style = _DECISIONS[asked["decision"]]
        name = f"{asked['policy']} {asked['version']}"
        table.add_row(name, Text(decision, style=style), asked["determination"])
    for passed in answer["out_of_scope"]:
        name = f"{passed['policy']} {passed['version']}"
        table.add_row(name, Text("does not apply", style="dim"), passed["why"])
    return table


def print_gate(console: Console, answer: Answer) -> None:
    """Print the answer of a gate for a person."""
    console.print(gate_panel(answer))


_TURNS = {"stricter": "red", "looser": "green", "otherwise": "yellow"}


def print_backtest(console: Console, told: Sequence[Answer], summary: Answer) -> None:
    """Print what another version says otherwise, and how often it does."""
    if told:
        table = _table("model", "action", "at", "it is", "from", "to", "because")
        for line in told:
            table.add_row(*_backtested(line))
        console.print(table)
        console.print()
    words = ("same", *_TURNS, "failed")
    counts = ", ".join(f"{summary[word]} {word}" for word in words)
    console.print(Text(f"{summary['decided']} decided: {counts}"))
    for heading in ("by_decision", "by_clause"):
        for what, many in sorted(summary[heading].items(), key=lambda pair: (-pair[1], pair[0])):
            console.print(Text(f"{many:7}  {what}"))


def print_shadow(console: Console, status: Answer, latest: Sequence[Answer]) -> None:
    """Print how a shadow is doing, with the *latest* of its differences."""
    name = f"{status['policy']} {status['version']}"
    started, stopped = status["started"], status["stopped"]
    why = f": {started['reason']}" if started["reason"] else ""
    console.print(Text(f"{name} is shadowed since {started['at']} by {started['by']}{why}"))
    if stopped is None:
        behind = (
            f"{status['behind']} entries behind the ledger" if status["behind"] else "up to date"
        )
        console.print(Text(f"it is running, {behind}"))
    else:
        by = f" by {stopped['by']}" if stopped["by"] else ""
        why = f": {stopped['reason']}" if stopped["reason"] else ""
        console.print(Text(f"it was stopped at {stopped['at']}{by}{why}"))
    if status["past"]:
        console.print(Text(f"{status['past']} asked about the past were not looked at"))
    console.print()
    print_backtest(console, [{"difference": one} for one in latest], status["summary"])


def _backtested(line: Answer) -> Sequence[RenderableType]:
    if (failed := line.get("failed")) is not None:
        name = failed["determination"] or ""
        mark = Text("not asked", style="bold red")
        return failed["model"], failed["action"], name, mark, "", "", failed["message"]
    found = line["difference"]
    sides = [found[side]["decision"] for side in ("from", "to")]
    if sides[0] == sides[1]:
        sides = [found[side]["level"] or "no level" for side in ("from", "to")]
    new = [reason["message"] for reason in found["because"] if reason["side"] == "new"]
    gone = [f"no longer: {r['message']}" for r in found["because"] if r["side"] == "gone"]
    turned = [
        f"{one['id']}: {one['from'] or '-'} to {one['to'] or '-'}"
        for one in (*found["thresholds"], *found["standards"])
    ]
    turn = Text(found["turn"], style=_TURNS[found["turn"]])
    why = "\n".join(new + gone or turned)
    return found["model"], found["action"], found["at"], turn, *sides, Text(why)


def print_obligations(console: Console, said: Answer) -> None:
    """Print what must be done, by due."""
    if said["obligations"]:
        table = _table("due", "what", "model", "policy", "")
        table.columns[1].no_wrap = True
        for one in said["obligations"]:
            due = "before it goes ahead" if one["before_action"] else one["due"] or "no date"
            late = one["status"] == "overdue"
            by = f"{one['by']}: " if one["by"] else ""
            table.add_row(
                Text(f"{due} OVERDUE" if late else due, style="bold red" if late else ""),
                one["name"],
                one["model"],
                Text(f"{one['policy']} {one['raised_by']['version']}, {one['clause']}"),
                Text(f"{by}{one['statement']}"),
            )
        console.print(table)
    else:
        console.print(Text("nothing is outstanding"))
    if said["behind"]:
        left = f"{said['behind']} entries of the ledger are not read for obligations yet"
        console.print(Text(left, style="yellow"))


def print_settling(console: Console, answer: Answer) -> None:
    """Print what would change an answer, one way below the other."""
    decision, style = _DECISIONS[answer["decision"]]
    console.print(Text.assemble("the answer would be ", (decision, style)))
    ways = (("clears", "more permissive", "allow"), ("blocks", "stricter", "deny"))
    for field, means, furthest in ways:
        if answer["decision"] == furthest:
            continue
        console.print()
        if not answer[field]:
            console.print(Text(f"nothing was found that would make it {means}"))
            continue
        console.print(Text(f"it would be {means}, if all of one of these were recorded:"))
        table = _table("", f"what would make it {means}")
        for i, moves in enumerate(answer[field], 1):
            table.add_row(str(i), Text("\n".join(move["message"] for move in moves)))
        console.print(table)
    if not answer["complete"]:
        console.print()
        console.print(Text("there may be further ways: the search ended before it had seen all"))
