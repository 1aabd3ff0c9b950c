"""What another policy version would have said: one answer beside another, and why they differ."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from pydantic import Field

from app.vocabulary import Decision, Document, Instant

Answer = Mapping[str, Any]
"""What a determination says, as JSON: recorded, or only made."""

Turn = Literal["stricter", "looser", "otherwise"]

NOT_ASKED: Final = "not_asked"
"""What stands for a decision where a gate did not ask the policy: no version of it was in force, or
that one did not speak of the action on the model. It kept nobody from anything.
"""


class Side(Document):
    """What one version says, in short; `version` is `null` where none was in force.

    `decision` is `not_asked` where a gate passed the policy over.
    """

    version: str | None
    decision: str
    level: str | None


class Turned(Document):
    """A threshold's status, or whether a standard is met; `null` where it is not in the answer."""

    id: str
    was: str | None = Field(alias="from")
    now: str | None = Field(alias="to")


class Because(Document):
    """A reason that stands in one of the two answers alone.

    `side`: `new` where the draft gives it, `gone` where only the other answer did.
    """

    side: Literal["new", "gone"]
    code: str
    pointer: str
    clause: str | None
    message: str


class Difference(Document):
    """Where the draft says something else. `determination`: the recorded one, if it is one; `gate`:
    the recorded gate that did not ask the policy, if it is one.
    """

    determination: str | None
    model: str
    action: str
    at: Instant
    turn: Turn
    was: Side = Field(alias="from")
    now: Side = Field(alias="to")
    thresholds: tuple[Turned, ...]
    standards: tuple[Turned, ...]
    because: tuple[Because, ...]
    gate: str | None = None


class Summary(Document):
    """How many answers there are of each kind; `otherwise`: the decision is the same.

    `by_clause`: how many of those that differ do so by reasons with that clause, or with that code
    where a reason has no clause. `by_decision`: how many turned in that way, e.g. `allow->deny`.
    """

    decided: int
    same: int
    stricter: int
    looser: int
    otherwise: int
    failed: int
    by_clause: dict[str, int]
    by_decision: dict[str, int]


@dataclass(frozen=True, slots=True)
class Compared:
    """Two answers to one question, each with the version that gave it."""

    determination: str | None
    model: str
    action: str
    at: str
    was: Answer
    was_version: str | None
    now: Answer
    now_version: str


def difference(compared: Compared) -> Difference | None:
    """What the later of the two answers says otherwise; `None`: nothing that counts.

    Compared are the decision, the level, the thresholds' statuses, and whether each standard is
    met. Words and places differ between any two versions, so that they are told, not compared.
    """
    was, now = compared.was, compared.now
    thresholds = _turned(was["thresholds"], now["thresholds"], "status")
    standards = _turned(was["standards"], now["standards"], "met")
    level = was["level"] != now["level"]
    if not (was["decision"] != now["decision"] or level or thresholds or standards):
        return None
    return Difference.model_validate(
        {
            "determination": compared.determination,
            "model": compared.model,
            "action": compared.action,
            "at": compared.at,
            "turn": _turn(was["decision"], now["decision"]),
            "from": _side(was, compared.was_version),
            "to": _side(now, compared.now_version),
            "thresholds": thresholds,
            "standards": standards,
            "because": (*_missing("new", now, was), *_missing("gone", was, now)),
        }
    )


def difference_from_nothing(
    gate: str, model: str, action: str, at: str, was_version: str | None, now: Answer, version: str
) -> Difference:
    """What the draft would have said where a gate did not ask its policy."""
    nothing = {
        "decision": NOT_ASKED,
        "level": None,
        "thresholds": (),
        "standards": (),
        "reasons": (),
    }
    found = difference(Compared(None, model, action, at, nothing, was_version, now, version))
    assert found is not None, "no draft decides that it was not asked"
    return found.model_copy(update={"gate": gate})


@dataclass(slots=True)
class Tally:
    """Counts answers as they come."""

    decided: int = 0
    failed: int = 0
    turns: Counter[Turn] = field(default_factory=Counter)
    by_clause: Counter[str] = field(default_factory=Counter)
    by_decision: Counter[str] = field(default_factory=Counter)

    @classmethod
    def of(cls, summary: Summary) -> "Tally":
        """One that goes on counting where *summary* was made."""
        turns: dict[Turn, int] = {
            "stricter": summary.stricter,
            "looser": summary.looser,
            "otherwise": summary.otherwise,
        }
        return cls(
            summary.decided,
            summary.failed,
            Counter(turns),
            Counter(summary.by_clause),
            Counter(summary.by_decision),
        )

    def count(self, found: Difference | None) -> None:
        """One more answer, and what is different in it."""
        self.decided += 1
        if found is None:
            return
        self.turns[found.turn] += 1
        self.by_clause.update({reason.clause or reason.code for reason in found.because})
        if found.was.decision != found.now.decision:
            self.by_decision[f"{found.was.decision}->{found.now.decision}"] += 1

    def summary(self) -> Summary:
        """All that was counted."""
        return Summary(
            decided=self.decided,
            same=self.decided - self.turns.total(),
            stricter=self.turns["stricter"],
            looser=self.turns["looser"],
            otherwise=self.turns["otherwise"],
            failed=self.failed,
            by_clause=dict(sorted(self.by_clause.items())),
            by_decision=dict(sorted(self.by_decision.items())),
        )


_TURNS: Final[dict[bool, Turn]] = {True: "stricter", False: "looser"}


def _turn(was: str, now: str) -> Turn:
    before = Decision(Decision.ALLOW if was == NOT_ASKED else was).strictness
    after = Decision(now).strictness
    return "otherwise" if before == after else _TURNS[after > before]


def _side(answer: Answer, version: str | None) -> dict[str, Any]:
    return {"version": version, "decision": answer["decision"], "level": answer["level"]}


def _turned(was: Iterable[Answer], now: Iterable[Answer], word: str) -> list[dict[str, Any]]:
    before = {item["id"]: item[word] for item in was}
    after = {item["id"]: item[word] for item in now}
    return [
        {"id": id, "from": before.get(id), "to": after.get(id)}
        for id in sorted(before.keys() | after.keys())
        if before.get(id) != after.get(id)
    ]


def _missing(side: str, there: Answer, not_there: Answer) -> Iterable[dict[str, Any]]:
    """The reasons of the one answer that the other has not, wherever they stand in the document."""
    known = {_said(reason) for reason in not_there["reasons"]}
    for reason in there["reasons"]:
        if _said(reason) not in known:
            said = {name: reason[name] for name in ("code", "pointer", "clause", "message")}
            yield {"side": side} | said


def _said(reason: Answer) -> tuple[object, ...]:
    return reason["code"], reason["clause"], reason["message"]
