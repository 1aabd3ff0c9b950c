"""A determination as a page that a person outside the team can follow, from evidence to decision.

Everything that comes out of a document is written so that it stays text: it can forge no heading,
no link and no HTML, and holds no character that cannot be seen.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, Literal

from app.determination.moves import Move
from app.determination.obligations import obligations_of
from app.determination.settling import Settling
from app.policy.conditions import Condition, ThresholdRuledOut, walk
from app.policy.version import Bound, EvaluationLine, PolicyVersion, Standard, Threshold
from app.vocabulary import Duration, read_instant, write_instant

Body = Mapping[str, Any]
"""A recorded document, read as JSON."""

Form = Literal["markdown", "plain"]


def explain(
    document: Body,
    policy: PolicyVersion | None,
    pieces: Mapping[str, Body],
    settling: Settling | None,
    form: Form,
) -> str:
    """The recorded determination as a page, clause by clause.

    Beside its recorded members `document` may hold `ledger`, its place, and `digest`, that of its
    bytes.     `policy` is the version that answered, `pieces` the recorded evidence by id; one that is not
    there is named by its id alone. `settling`: what would change the answer; `None`: not asked.

    Pure: the same arguments give the same page, and any recorded determination gives one.
    """
    page = _Page(form)
    case = _Case(document, policy, pieces)
    _question_and_answer(page, case)
    _policy(page, case)
    _why(page, case)
    if case.looked_at:
        _thresholds(page, case)
        _standards(page, case)
        _sign_offs(page, case)
        _exceptions(page, case)
        _orders(page, case)
    _what_follows(page, case)
    _flags(page, case)
    _until_when(page, case)
    _changed(page, case)
    if settling is not None:
        _settling(page, settling)
    _how_to_check(page, case)
    return page.text()


def pieces_explained(document: Body) -> tuple[str, ...]:
    """The ids of the evidence that a page about the determination tells of.

    Assessments and safeguard reports that nothing in the answer rests on are left out.
    """
    named = {id for one in document["thresholds"] for id in one["evidence"]}
    named.update(line["evidence"] for one in document["thresholds"] for line in one["lines"])
    named.update(id for one in document["standards"] for id in one["evidence"])
    named.update(id for one in document["reasons"] for id in one["evidence"])
    return tuple(
        piece["id"]
        for piece in document["provenance"]["evidence"]
        if piece["id"] in named or not piece["id"].startswith(("asm_", "sfg_"))
    )


FLAGS: Final[Mapping[str, str]] = {
    "precautionary": "A threshold binds although nobody found it reached: it could not be ruled "
    "out, and the policy then asks for the same protection.",
    "provisional": "A threshold binds because the model was never assessed for it.",
    "against_line": "People ruled a threshold out although a measured value lies beyond the line "
    "that it was held against. Their judgement stands, and this mark stays with it.",
    "contradiction": "The evidence says that a threshold is reached and also that it is ruled out. "
    "It is treated as reached.",
    "ruling_out_does_not_count": "A threshold was ruled out once, but that no longer counts or was "
    "never enough: it is too old, older than or recorded before what speaks against it, not made by "
    "all who must make it, or not supported as the policy asks.",
    "bound_does_not_hold": "The newest finding leans on another model, and on that model the "
    "threshold is not ruled out.",
    "line_after_result": "A measured value was on record before the line that it is held against.",
    "threshold_after_result": "Something was found or measured, on record, before the threshold "
    "that it speaks of was written down as it now stands.",
    "scope_unknown": "Whether the policy speaks of this model depends on a fact that nobody has "
    "recorded; it is taken to speak of it.",
    "tracked": "The policy watches this area, and names no threshold in it.",
    "research": "The policy's publisher does research on this area, and names no threshold in it.",
    "ongoing-assessment": "The policy has this area assessed, and names no threshold in it.",
    "exploratory": "The policy explores this area, and names no threshold in it.",
    "out-of-scope": "The policy leaves this area out of its scope.",
}
"""Every flag that `decide` can give, in a sentence; the last five are what a policy says of a
domain without a threshold.
"""


class _Case:
    """What the page is about."""

    def __init__(
        self, document: Body, policy: PolicyVersion | None, pieces: Mapping[str, Body]
    ) -> None:
        self.document, self.policy, self.pieces = document, policy, pieces
        self.provenance: Body = document["provenance"]
        self.model: str = document["model"]
        self.action: str = document["action"]
        self.at: datetime = read_instant(self.provenance["at"])

    @property
    def looked_at(self) -> bool:
        """Whether the evidence was looked at: it is not where a name alone closed the gate."""
        return not any(one["code"] in _CLOSED_AT_ONCE for one in self.document["reasons"])

    def of_kind(self, prefix: str) -> Iterator[tuple[str, Body]]:
        """The evidence of that kind that the determination saw, in the order of its ids."""
        for named in self.provenance["evidence"]:
            if named["id"].startswith(f"{prefix}_") and named["id"] in self.pieces:
                yield named["id"], self.pieces[named["id"]]

    def threshold(self, name: str) -> Threshold | None:
        return None if self.policy is None else self.policy.thresholds.get(name)

    def standard(self, name: str) -> Standard | None:
        return None if self.policy is None else self.policy.standards.get(name)

    def line(self, name: str) -> EvaluationLine | None:
        return None if self.policy is None else self.policy.lines.get(name)

    def role(self, name: str) -> str:
        """What the policy calls a role in full, with its name."""
        title = None if self.policy is None else self.policy.roles.get(name)
        return f"{title} ({name})" if title else name


_CLOSED_AT_ONCE: Final = frozenset(
    {"policy.none_in_force", "policy.does_not_apply", "model.unknown", "action.unknown"}
)


# --- the page ----------------------------------------------------------------------------------


class _Page:
    """Headings, paragraphs and items, in the one form or the other.

    All that comes out of a document goes through `said`; the rest is our own words.
    """

    def __init__(self, form: Form) -> None:
        self.form = form
        self._blocks: list[list[str]] = []
        self._items = False

    def heading(self, depth: int, text: str) -> None:
        if self.form == "markdown":
            self._block([f"{'#' * depth} {text}"])
        else:
            self._block([text, "=-."[depth - 1] * min(len(text), 100)])

    def paragraph(self, text: str) -> None:
        self._block([text])

    def item(self, text: str, depth: int = 0) -> None:
        if not self._items:
            self._blocks.append([])
            self._items = True
        self._blocks[-1].append(f"{'  ' * depth}- {text}")

    def items(self, texts: Iterable[str], depth: int = 0) -> None:
        for text in texts:
            self.item(text, depth)

    def strong(self, text: str) -> str:
        return f"**{text}**" if self.form == "markdown" else text.upper()

    def said(self, text: object) -> str:
        """What a document says, as text that nothing but a reader can make anything of."""
        seen = _visible(str(text))
        return _escaped(seen) if self.form == "markdown" else seen

    def names(self, names: Iterable[object]) -> str:
        said = [self.said(name) for name in names]
        return " and ".join([", ".join(said[:-1]), said[-1]] if said[1:] else said)

    def text(self) -> str:
        return "\n\n".join("\n".join(block) for block in self._blocks) + "\n"

    def _block(self, lines: list[str]) -> None:
        self._blocks.append(lines)
        self._items = False


_QUOTED = re.compile(r"`([^`]*)`")
_ACTIVE = re.compile(r"([\\`*\[\]<>|~#!$]|(?<![^\W_])_|_(?![^\W_])|&(?=#?\w+;))")
_OPENS_A_BLOCK = re.compile(r"^([-+=:]|\d+(?=[.)](?:\s|$)))")
_LOOKS_LIKE_AN_ADDRESS = re.compile(r"(:(?=//)|(?<=www)\.|@(?=[\w-]+\.))", re.IGNORECASE)


def _visible(text: str) -> str:
    """On one line, without anything that cannot be seen; names in backticks are quoted instead."""
    one_line = " ".join(text.split())
    seen = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in one_line)
    return _QUOTED.sub("\N{LEFT DOUBLE QUOTATION MARK}\\1\N{RIGHT DOUBLE QUOTATION MARK}", seen)


def _escaped(text: str) -> str:
    """As Markdown that means the text itself, also where it begins a line or looks like a link."""
    text = _ACTIVE.sub(r"\\\1", text)
    text = _LOOKS_LIKE_AN_ADDRESS.sub(r"\\\1", text)
    opens = _OPENS_A_BLOCK.match(text)
    if opens is None:
        return text
    first, rest = opens.group(1), text[opens.end() :]
    return f"{first}\\{rest}" if first.isdigit() else f"\\{first}{rest}"


def _sentence(text: str) -> str:
    """The text with a full stop, unless it ends like a sentence already."""
    return text if text.endswith((".", "!", "?", ".”", ".)")) else f"{text}."


def _instant(text: str | None) -> str:
    """An instant as a person writes it: the day, and the time where it is not midnight."""
    if text is None:
        return "a time that is not recorded"
    day, _, time = text.removesuffix("Z").partition("T")
    return day if time in ("", "00:00:00") else f"{day} {time} UTC"


def _clause(page: _Page, clause: str | None) -> str:
    return f" ({page.said(clause)})" if clause else ""


# --- the answer --------------------------------------------------------------------------------

_DECISIONS: Final = {
    "allow": ("Yes", "it may go ahead"),
    "allow_with_conditions": ("Yes, with conditions", "it may go ahead only as said below"),
    "deny": ("No", "it may not go ahead"),
}

_BASES: Final = {
    "policy": "The answer follows from the policy alone.",
    "voluntary": "The company itself requires more here than the policy does, and the answer "
    "follows from that.",
    "outside-policy": "The answer follows from an order from outside the policy.",
}


def _question_and_answer(page: _Page, case: _Case) -> None:
    document = case.document
    page.heading(1, f"{page.said(case.action)} of {page.said(case.model)}")
    word, means = _DECISIONS[document["decision"]]
    name = case.provenance["policy"]["name"]
    page.paragraph(
        f"May {page.said(case.action)} go ahead for the model {page.said(case.model)} under the "
        f"policy {page.said(name)}, as of {_instant(case.provenance['at'])}? "
        f"{page.strong(word)}: {means} (decision: {page.said(document['decision'])})."
    )
    action = None if case.policy is None else case.policy.actions.get(case.action)
    if action is not None:
        page.paragraph(
            f"What is asked for: {_sentence(page.said(action.statement))}"
            f"{_clause(page, action.clause)}"
        )
    if document["level"] is not None:
        page.paragraph(
            f"The level of protection that the policy asks for here is "
            f"{page.said(document['level'])}."
        )
    page.paragraph(_BASES[document["basis"]])


def _policy(page: _Page, case: _Case) -> None:
    named = case.provenance["policy"]
    page.heading(2, "The policy that answered")
    if named["version"] is None:
        page.paragraph(
            f"No version of {page.said(named['name'])} was in force, and without one nothing is "
            "permitted."
        )
        return
    page.item(f"Policy: {page.said(named['name'])}, version {page.said(named['version'])}.")
    if case.policy is not None:
        page.item(
            f"Title: {page.said(case.policy.title)}, published by "
            f"{page.said(case.policy.publisher)}; effective since "
            f"{_instant(write_instant(case.policy.effective))}."
        )
    page.item(f"Digest, which identifies its exact text: {page.said(named['digest'])}.")


def _why(page: _Page, case: _Case) -> None:
    reasons = case.document["reasons"]
    blocking = [reason for reason in reasons if reason["blocks"]]
    if blocking:
        page.heading(2, "Why it may not go ahead")
        page.paragraph("Each of these alone is enough to stop it.")
        page.items(_reason(page, reason) for reason in blocking)
    noted = [reason for reason in reasons if not reason["blocks"]]
    if noted:
        page.heading(2, "What shaped the answer")
        page.paragraph("None of these stops it alone.")
        page.items(_reason(page, reason) for reason in noted)
    if not blocking:
        page.heading(2, "Why it may go ahead")
        page.paragraph(
            "Every standard that must be in place before it is in place, or an exception stands in "
            "for it; all who must sign have signed; and nothing forbids it."
        )
    if not case.looked_at:
        page.paragraph("That alone settled it, so no evidence was looked at.")
    if case.document["reassessment"] is not None:
        page.paragraph(_REASSESSMENT[case.document["reassessment"]])


_REASSESSMENT: Final = {
    "yes": "The policy wants this model assessed anew.",
    "no": "The policy does not want this model assessed anew yet.",
    "unknown": "Whether the policy wants this model assessed anew is not known.",
}


def _reason(page: _Page, reason: Body) -> str:
    told = f"{_sentence(page.said(reason['message']))}{_clause(page, reason['clause'])}"
    place = f", {page.said(reason['pointer'])} in the policy" if reason["pointer"] else ""
    evidence = f"; on record: {page.names(reason['evidence'])}" if reason["evidence"] else ""
    return f"{told} Code: {page.said(reason['code'])}{place}{evidence}."


# --- thresholds --------------------------------------------------------------------------------

_STATUSES: Final = {
    "reached": ("Reached", "the model is found to have reached it"),
    "ruled_out": ("Ruled out", "the model is found not to have reached it"),
    "not_ruled_out": ("Not ruled out", "it is found neither to be reached nor not to be"),
}
_REST_ON: Final = {
    "lines": "this rests on measured values",
    "finding": "this rests on the judgement of the people whom the policy names",
    "precaution": "the model was assessed, and that was not enough to rule it out",
    "bounded-by": "this rests on a stronger model, on which it is ruled out",
    "carried-over": "this is carried over from another model",
    "unassessed": "the model was not assessed for it",
}


def _thresholds(page: _Page, case: _Case) -> None:
    answers = case.document["thresholds"]
    page.heading(2, "What the model can do: the thresholds")
    page.paragraph(
        "A threshold is an ability at which the policy asks for more protection. A line is a number "
        "that one test is held against; it is evidence about a threshold, not the threshold itself."
    )
    for answer in answers:
        page.heading(3, page.said(answer["id"]))
        if answer["status"] == "no_threshold":
            domain = None if case.policy is None else case.policy.domains.get(answer["domain"])
            title = "" if domain is None else f" ({page.said(domain.title)})"
            page.item(f"The policy names no threshold in this area{title}.")
            page.items(_flag(page, flag) for flag in answer["flags"])
            continue
        _threshold(page, case, answer, case.threshold(answer["id"]))


def _threshold(page: _Page, case: _Case, answer: Body, threshold: Threshold | None) -> None:
    if threshold is not None:
        page.item(
            f"What it means: {_sentence(page.said(threshold.statement))}"
            f"{_clause(page, threshold.clause)}"
        )
    word, means = _STATUSES[answer["status"]]
    page.item(
        f"Status: {page.strong(word)}: {means}; {_REST_ON[answer['basis']]} "
        f"(status {page.said(answer['status'])}, basis {page.said(answer['basis'])})."
    )
    found = list(_findings(page, case, answer))
    weaker = _weaker(case, answer, threshold)
    if found:
        page.item("What people found:")
        page.items(found, 1)
    elif weaker:
        page.item(
            "Nobody judged it by itself. The policy lets it be ruled out by a weaker one that is: "
            f"{page.names(weaker)}."
        )
    else:
        page.item("No finding by people is counted here.")
    measured = [_measured(page, case, line) for line in answer["lines"]]
    page.item("What was measured:" if measured else "No measured value is counted here.")
    page.items(measured, 1)
    page.item(_follows(page, answer, threshold))
    if threshold is not None and answer["binds"]:
        for prohibition in threshold.prohibits:
            if case.action in prohibition.actions:
                page.item(
                    f"It forbids {page.said(case.action)}: "
                    f"{_sentence(page.said(prohibition.statement))}"
                    f"{_clause(page, prohibition.clause)}"
                )
        for limit in threshold.limits:
            if case.action in limit.actions:
                page.item(
                    f"It limits {page.said(case.action)}: {_sentence(page.said(limit.statement))}"
                    f"{_clause(page, limit.clause)}"
                )
    page.items(_flag(page, flag) for flag in answer["flags"])


def _weaker(case: _Case, answer: Body, threshold: Threshold | None) -> list[str]:
    """The thresholds that may rule this one out, where it is ruled out and they are."""
    if threshold is None or answer["status"] != "ruled_out":
        return []
    ruled_out = {t["id"] for t in case.document["thresholds"] if t["status"] == "ruled_out"}
    nodes = (node for _, node in walk(threshold.ruled_out))
    named = {node.threshold_ruled_out for node in nodes if isinstance(node, ThresholdRuledOut)}
    return sorted(named & ruled_out)


def _follows(page: _Page, answer: Body, threshold: Threshold | None) -> str:
    if not answer["binds"]:
        silent = answer["status"] == "not_ruled_out" and threshold is not None
        clause = _clause(page, threshold.not_ruled_out.clause) if silent and threshold else ""
        return f"What follows: it asks for nothing more.{clause}"
    required = (
        f"it requires {page.names(answer['requires'])}"
        if answer["requires"]
        else "it requires no further standard"
    )
    if answer["status"] == "reached" or threshold is None:
        return f"What follows: it binds, so {required}."
    return (
        "What follows: the policy says that one which is not ruled out counts as reached"
        f"{_clause(page, threshold.not_ruled_out.clause)}, so {required}."
    )


_OUTCOMES: Final = {
    "reached": "it is reached",
    "not-ruled-out": "it cannot be ruled out",
    "ruled-out": "it is ruled out",
    "bounded-by": "it cannot be beyond what a stronger model can do",
    "carried-over": "what was found of another model holds here too",
    "inconclusive": "the evidence does not tell",
}


def _findings(page: _Page, case: _Case, answer: Body) -> Iterator[str]:
    policy = case.provenance["policy"]["name"]
    for id in answer["evidence"]:
        piece = case.pieces.get(id)
        if piece is None:
            yield f"Record {page.said(id)}, which is not shown here."
            continue
        for finding in piece.get("findings", ()):
            if (finding["policy"], finding["threshold"]) == (policy, answer["id"]):
                yield _finding(page, case, id, piece, finding)


def _finding(page: _Page, case: _Case, id: str, piece: Body, finding: Body) -> str:
    outcome = _OUTCOMES.get(finding["outcome"], finding["outcome"])
    other = finding.get("bounded_by") or finding.get("carried_over_from")
    of = "" if piece["model"] == case.model else f" of {page.said(piece['model'])}"
    by = page.names(case.role(role) for role in finding["by"])
    parts = [
        f"{_instant(piece['conducted_at'])}: {by} found{of} that {page.said(outcome)}"
        + (f" (the other model: {page.said(other)})." if other else "."),
        f"Their reason: {_sentence(page.said(finding['reason']))}",
    ]
    if finding.get("dissent"):
        parts.append(f"Those who did not agree said: {_sentence(page.said(finding['dissent']))}")
    parts.append(
        f"It came in an assessment of the kind {page.said(piece['kind'])} by "
        f"{page.said(piece['assessor'])} (record {page.said(id)})."
    )
    return " ".join(parts)


_ZONES: Final = {
    "rule_out": "on the side that speaks for ruling the threshold out",
    "rule_in": "on the side that speaks for the threshold being reached",
    "middle": "between the two sides, so it speaks for neither",
    "crossed": "beyond the line, so it does not speak for ruling the threshold out",
    "none": "this version of the policy sets no number for it, so it is only shown",
}


def _measured(page: _Page, case: _Case, answer: Body) -> str:
    line = case.line(answer["line"])
    title = answer["line"] if line is None else f"{line.title} ({answer['line']})"
    variant = f", variant {page.said(answer['variant'])}" if answer["variant"] else ""
    piece = case.pieces.get(answer["evidence"])
    value = f"{page.said(answer['value'])} {page.said(answer['unit'])}"
    parts = [f"{page.said(title)}{variant}: {value}, {_ZONES[answer['zone']]}."]
    if line is not None:
        parts += _bounds(page, line)
    parts.append(_uncertainty(page, answer, piece))
    if not answer["load_bearing"]:
        parts.append("It was recorded and not relied on: it can rule nothing out.")
    if piece is None:
        parts.append(f"Record {page.said(answer['evidence'])}.")
    else:
        parts.append(
            f"Measured {_instant(piece['conducted_at'])} by {page.said(piece['assessor'])} "
            f"(record {page.said(answer['evidence'])})."
        )
    return " ".join(parts)


def _bounds(page: _Page, line: EvaluationLine) -> Iterator[str]:
    if line.rule_out is not None:
        yield f"The line: {_bound(page, line.rule_out)} speaks for ruling it out."
    if line.rule_in is not None:
        yield f"The line: {_bound(page, line.rule_in)} speaks for its being reached."


def _bound(page: _Page, bound: Bound) -> str:
    words = {"below": "below", "at_most": "at most", "above": "above", "at_least": "at least"}
    name = next(name for name in words if getattr(bound, name) is not None)
    return f"{words[name]} {page.said(bound.number)}"


def _uncertainty(page: _Page, answer: Body, piece: Body | None) -> str:
    if answer["interval"] is None:
        told = "How uncertain it is was not published"
    else:
        results = () if piece is None else piece.get("results", ())
        result = next((one for one in results if _is_of(one, answer)), None)
        told = f"Its uncertainty is {_range(page, result, answer['interval'])}"
    if answer["zone"] == "none":
        return f"{told}."
    settled = "all of its range lies on that side" if answer["interval"] else "it counts as it is"
    unsettled = (
        "its range does not lie on one side as a whole, or it may not be relied on"
        if answer["interval"]
        else "a bare number settles nothing here"
    )
    return f"{told}; {settled if answer['established'] else unsettled}."


def _is_of(result: Body, answer: Body) -> bool:
    same = (result["line"], result.get("variant")) == (answer["line"], answer["variant"])
    return same and str(result["value"]) == answer["value"]


def _range(page: _Page, result: Body | None, whose: str) -> str:
    ours = "published" if whose == "published" else "computed by this service"
    if result is None:
        return ours
    if (interval := result.get("interval")) is not None:
        return (
            f"{ours}: from {page.said(interval['low'])} to {page.said(interval['high'])}, at a "
            f"confidence of {page.said(interval['confidence'])}"
        )
    if result.get("stderr") is not None:
        return f"{ours}, from a standard error of {page.said(result['stderr'])}"
    # There is no other way in which a result has a range.
    return (
        f"{ours}, from {page.said(result['successes'])} successes in "
        f"{page.said(result['trials'])} trials"
    )


# --- standards ---------------------------------------------------------------------------------

_MET: Final = {
    "yes": "It is in place",
    "no": "It is not in place",
    "unknown": "It is not known to be in place",
}


def _standards(page: _Page, case: _Case) -> None:
    answers = case.document["standards"]
    if not answers:
        return
    page.heading(2, "What must be in place: the standards")
    for answer in answers:
        standard = case.standard(answer["id"])
        page.heading(3, page.said(answer["id"]))
        if standard is not None:
            page.item(f"Title: {page.said(standard.title)}.{_clause(page, standard.clause)}")
        before = page.names(answer["before"])
        asked = "The policy requires it" if answer["required"] else "It is only recommended"
        level = f", for level {page.said(answer['level'])}" if answer["level"] else ""
        page.item(f"{asked}{level}{f', before {before}' if before else ''}.")
        page.item(f"Status: {page.strong(_MET[answer['met']])}.")
        if answer["missing"]:
            missing = (_missing(case, place) for place in answer["missing"])
            page.item(f"Missing: {page.names(missing)}.")
        if standard is not None and standard.undefined:
            page.item(
                "No text says yet what it consists of, so only a recorded judgement by "
                f"{page.names(map(case.role, standard.attested_by))} can meet it."
                if standard.attested_by
                else "No text says yet what it consists of."
            )
        elif standard is not None and standard.criteria is not None:
            page.item("What it asks for:")
            for name, criterion in standard.criteria.items():
                page.item(_criterion(page, answer, name, criterion.statement, criterion.clause), 1)
                for part, content in (criterion.parts or {}).items():
                    place = f"{name}/{part}"
                    page.item(_criterion(page, answer, place, content.statement, content.clause), 2)
        reports = list(_reports(page, case, answer))
        page.item("Reports:" if reports else "No report on it is on record.")
        page.items(reports, 1)


def _missing(case: _Case, place: str) -> str:
    """A criterion by its name; a judgement by whose it is."""
    role = place.removeprefix("judgement:")
    return place if role == place else f"the judgement of {case.role(role)} that it is met"


def _criterion(page: _Page, answer: Body, place: str, statement: str, clause: str) -> str:
    missing = any(
        one == place or one.startswith(f"{place}/") or place.startswith(f"{one}/")
        for one in answer["missing"]
    )
    mark = "missing" if missing else "in place" if answer["met"] == "yes" else "not missing"
    return f"{page.said(place)} ({mark}): {_sentence(page.said(statement))}{_clause(page, clause)}"


def _reports(page: _Page, case: _Case, answer: Body) -> Iterator[str]:
    for id in answer["evidence"]:
        piece = case.pieces.get(id)
        if piece is None:
            yield f"Record {page.said(id)}, which is not shown here."
        else:
            of = page.said(piece["criterion"]) if piece.get("criterion") else "the whole standard"
            if piece["standard"] != answer["id"]:
                of = f"{of}, of {page.said(piece['standard'])}, which stands for this one"
            until = (
                f" until {_instant(piece['valid_until'])}"
                if piece.get("valid_until")
                else ", with no end stated"
            )
            note = f" Note: {_sentence(page.said(piece['note']))}" if piece.get("note") else ""
            yield (
                f"{page.said(piece['stated_by'])} says that {of} is "
                f"{'met' if piece['met'] else 'not met'}, from {_instant(piece['valid_from'])}"
                f"{until}.{note} (record {page.said(id)})"
            )


# --- people ------------------------------------------------------------------------------------


def _sign_offs(page: _Page, case: _Case) -> None:
    action = None if case.policy is None else case.policy.actions.get(case.action)
    given = [
        (id, one)
        for id, one in case.of_kind("sgn")
        if (one["policy"], one["action"]) == (case.provenance["policy"]["name"], case.action)
    ]
    if not given and (action is None or not action.sign_offs):
        return
    page.heading(2, "Who signed")
    missing = {
        reason["pointer"] for reason in case.document["reasons"] if reason["code"] == _UNSIGNED
    }
    for i, needed in enumerate(() if action is None else action.sign_offs):
        unsigned = any(one.endswith(f"/sign_offs/{i}") for one in missing)
        page.item(
            f"Needed: {page.said(case.role(needed.role))} must have "
            f"{page.said(needed.verb.value)} it. {'It is missing' if unsigned else 'It is there'}."
            f"{_clause(page, needed.clause)}"
        )
    for id, one in given:
        later = "" if _begun(one.get("given_at"), case.at) else " It came later and does not count."
        page.item(
            f"On record: {page.said(case.role(one['role']))} {page.said(one['verb'])}, "
            f"{_instant(one.get('given_at'))}. Reason: {_sentence(page.said(one['reason']))}{later}"
            f" (record {page.said(id)})"
        )


_UNSIGNED: Final = "sign_off.missing"


def _begun(instant: str | None, at: datetime) -> bool:
    return instant is None or read_instant(instant) <= at


def _exceptions(page: _Page, case: _Case) -> None:
    requests = [(id, one) for id, one in case.of_kind("exc") if one["action"] == case.action]
    if not requests:
        return
    page.heading(2, "Exceptions that were asked for")
    page.paragraph(
        "An exception lets the action go ahead for a time although a standard is missing. It needs "
        "at least two people who approve it, other than the one who asked."
    )
    for id, one in requests:
        page.item(
            f"{page.said(one['exception'])} instead of {page.said(one['standard'])}, from "
            f"{_instant(one.get('valid_from'))} until {_instant(one['valid_until'])}, asked for by "
            f"{page.said(one['requested_by'])}. Measures: {_sentence(page.said(one['measures']))} "
            f"Reason: {_sentence(page.said(one['reason']))} (record {page.said(id)})"
        )
        approvals = [given for given in case.of_kind("exa") if given[1]["exception"] == id]
        for given_id, given in approvals:
            page.item(
                f"Approved {_instant(given['given_at'])} by {page.said(given['by'])} as "
                f"{page.said(case.role(given['role']))}: {_sentence(page.said(given['reason']))} "
                f"(record {page.said(given_id)})",
                1,
            )
        if not approvals:
            page.item("Nobody has approved it.", 1)
        page.item(
            "It lets that standard be missing here."
            if _lets_pass(case, one)
            else "It lets nothing pass here: it is not approved by all who must, not in its time, "
            "not permitted by this version, or not needed.",
            1,
        )


def _lets_pass(case: _Case, exception: Body) -> bool:
    """Whether the answer has the exception among its conditions."""
    return any(
        one["code"].removeprefix("exception:") == exception["exception"]
        and one["message"].startswith(f"instead of `{exception['standard']}`, ")
        and one["message"].endswith(f": {exception['measures']}")
        for one in case.document["conditions"]
    )


_EFFECTS: Final = {
    "stop": "must not go ahead",
    "limit": "may go ahead only as the order says",
    "require": "must meet further standards",
}


def _orders(page: _Page, case: _Case) -> None:
    orders = [
        (id, one)
        for id, one in case.of_kind("ord")
        if not one.get("actions") or case.action in one["actions"]
    ]
    if not orders:
        return
    page.heading(2, "Orders from outside the policy")
    liftings = {one.get("order"): (id, one) for id, one in case.of_kind("lft")}
    for id, one in orders:
        standards = f" ({page.names(one['standards'])})" if one.get("standards") else ""
        page.item(
            f"{page.said(one['issuer'])} ({page.said(one['issued_by'])}) ordered, from "
            f"{_instant(one.get('begins_at'))} on, that it {_EFFECTS[one['effect']]}{standards}: "
            f"{_sentence(page.said(one['statement']))} (record {page.said(id)})"
        )
        lifted = liftings.get(id)
        if lifted is None:
            page.item("It has not been lifted.", 1)
        else:
            page.item(
                f"Lifted {_instant(lifted[1].get('lifted_at'))}: "
                f"{_sentence(page.said(lifted[1]['reason']))} (record {page.said(lifted[0])})",
                1,
            )


# --- what follows ------------------------------------------------------------------------------


def _what_follows(page: _Page, case: _Case) -> None:
    sections = (
        ("conditions", "Conditions", "It may go ahead only with all of these."),
        ("consequences", "Consequences", "What the policy attaches to what is missing."),
    )
    for field, title, opening in sections:
        if case.document[field]:
            page.heading(2, title)
            page.paragraph(opening)
            for one in case.document[field]:
                page.item(
                    f"{_sentence(page.said(one['message']))}{_clause(page, one['clause'])} "
                    f"Code: {page.said(one['code'])}."
                )
    if case.document["obligations"]:
        page.heading(2, "What must be done")
        for one in case.document["obligations"]:
            when = (
                "Due before the action."
                if one["before_action"]
                else f"Due {_instant(one['due'])}."
                if one["due"]
                else "No date is set."
            )
            by = f" By {page.said(case.role(one['by']))}." if one["by"] else ""
            page.item(
                f"{_sentence(page.said(one['message']))}{_clause(page, one['clause'])}{by} {when}"
            )


def _flags(page: _Page, case: _Case) -> None:
    if case.document["flags"]:
        page.heading(2, "What to know about this answer")
        page.items(_flag(page, flag) for flag in case.document["flags"])


def _flag(page: _Page, flag: str) -> str:
    said = FLAGS.get(flag, "This page does not know what that means.")
    return f"Flag {page.said(flag)}: {said}"


def _until_when(page: _Page, case: _Case) -> None:
    page.heading(2, "Until when this holds")
    until = case.document["valid_until"]
    if until is None:
        page.paragraph(
            "No moment is known at which time alone would make the answer stricter. New evidence, "
            "an order or another version of the policy can change it at any time."
        )
        return
    page.paragraph(
        f"Until {_instant(until)}. That is the first moment at which time alone can make any part "
        "of it stricter; new evidence can change it before."
    )
    page.items(dict.fromkeys(_turning(page, case, read_instant(until))))


def _turning(page: _Page, case: _Case, until: datetime) -> Iterator[str]:
    """What ends or becomes too old at that instant, as far as the evidence at hand tells."""
    for id, one in case.of_kind("sfg"):
        standard = case.standard(one["standard"])
        ends = one.get("valid_until")
        told = f"A report on {page.said(one['standard'])}"
        if ends is not None and read_instant(ends) == until:
            yield f"{told} ends then (record {page.said(id)})."
        if standard is not None and standard.review is not None:
            if standard.review.after(read_instant(one["valid_from"])) == until:
                yield (
                    f"{told} must be renewed by then: it counts for {_span(page, standard.review)} "
                    f"(record {page.said(id)})."
                )
    for id, one in case.of_kind("exc"):
        if read_instant(one["valid_until"]) == until:
            yield f"The exception {page.said(one['exception'])} ends then (record {page.said(id)})."
    for id, one in case.of_kind("ord"):
        if one.get("begins_at") is not None and read_instant(one["begins_at"]) == until:
            yield f"An order by {page.said(one['issuer'])} begins then (record {page.said(id)})."
    for id, one in case.of_kind("asm"):
        for age in sorted(_ages(case.policy)):
            if Duration(age).after(read_instant(one["conducted_at"])) == until:
                yield (
                    f"The assessment of {_instant(one['conducted_at'])} is then {_span(page, age)} "
                    f"old, which is an age that the policy sets (record {page.said(id)})."
                )
    action = None if case.policy is None else case.policy.actions.get(case.action)
    for needed in () if action is None else action.sign_offs:
        for id, one in case.of_kind("sgn"):
            same = (one["role"], one["verb"]) == (needed.role, needed.verb.value)
            if needed.max_age is not None and same and one.get("given_at") is not None:
                if needed.max_age.after(read_instant(one["given_at"])) == until:
                    yield (
                        f"The sign-off by {page.said(case.role(one['role']))} is then too old "
                        f"(record {page.said(id)})."
                    )


_UNITS: Final = {"Y": "year", "M": "month", "W": "week", "D": "day", "H": "hour"}


def _span(page: _Page, duration: str) -> str:
    """A duration as a person writes it."""
    counted = re.findall(r"(\d+)([YMWDH])", duration)
    return page.names(f"{n} {_UNITS[unit]}{'' if n == '1' else 's'}" for n, unit in counted)


def _ages(policy: PolicyVersion | None) -> set[Duration]:
    """Every age that the version's conditions, or its binding obligations, name for an assessment."""
    if policy is None:
        return set()
    trees: list[Condition] = [
        tree for one in policy.thresholds.values() for tree in (one.reached, one.ruled_out)
    ]
    if policy.reassess is not None:
        trees.append(policy.reassess.when)
    ages = {
        one.due
        for one in obligations_of(policy).values()
        if one.binding and isinstance(one.due, Duration)
    }
    for tree in trees:
        for _, node in walk(tree):
            lapse = getattr(node, "elapsed", None)
            for age in (getattr(node, "max_age", None), getattr(lapse, "at_least", None)):
                if isinstance(age, Duration):
                    ages.add(age)
    return ages


# --- what changed, and what would change it ----------------------------------------------------

_BECAUSE: Final = {
    "policy": "another version of the policy answered",
    "evidence": "evidence came or went",
    "engine": "the rules of this service changed",
    "time": "time passed",
}


def _changed(page: _Page, case: _Case) -> None:
    changed = case.document["changed"]
    page.heading(2, "What changed since the previous answer")
    if changed is None:
        page.paragraph("There is no previous answer to compare with.")
        return
    page.paragraph(f"The previous answer to the same question is {page.said(changed['since'])}.")
    told = [
        f"The {name} was {page.said(_none(one['from']))} and is {page.said(_none(one['to']))}."
        for name, one in (
            ("decision", changed["decision"]),
            ("level", changed["level"]),
            ("policy version", changed["policy"]),
        )
        if one is not None
    ]
    told += [
        f"{page.said(one['id'])}: was {page.said(_none(one['from']))}, is "
        f"{page.said(_none(one['to']))}."
        for field in ("thresholds", "standards")
        for one in changed[field]
    ]
    for word, name in (("new", "added"), ("gone", "removed")):
        if changed["evidence"][name]:
            told.append(f"Evidence that is {word}: {page.names(changed['evidence'][name])}.")
    told += [f"Because {_BECAUSE.get(one, page.said(one))}." for one in changed["because"]]
    page.items(told or ["Nothing."])


def _none(value: object) -> object:
    return "none" if value is None else value


def _settling(page: _Page, settling: Settling) -> None:
    page.heading(2, "What would change the answer")
    page.paragraph(
        "Each item is one way: the least that would have to be recorded, all of it together."
    )
    word, _ = _DECISIONS[settling.decision]
    if settling.clears:
        page.item(f"More permissive than {word.lower()}, if:")
        page.items(_ways(page, settling.clears), 1)
    elif settling.decision != "allow":
        page.item("Nothing that can be recorded was found to make it more permissive.")
    if settling.blocks:
        page.item(f"Stricter than {word.lower()}, if:")
        page.items(_ways(page, settling.blocks), 1)
    elif settling.decision != "deny":
        page.item("Nothing that can be recorded was found to make it stricter.")
    if not settling.complete:
        page.paragraph("There may be further ways: the search ended before it had seen all.")


_SHOWN: Final = 6
"""How many ways to change an answer a page shows: the shortest."""


def _ways(page: _Page, ways: Sequence[Sequence[Move]]) -> Iterator[str]:
    for moves in ways[:_SHOWN]:
        yield _sentence("; and ".join(page.said(move.message) for move in moves))
    if len(ways) > _SHOWN:
        yield f"Further ways that are not shown here: {len(ways) - _SHOWN}."


def _how_to_check(page: _Page, case: _Case) -> None:
    provenance = case.provenance
    page.heading(2, "How to check this")
    page.item(f"This determination: {page.said(case.document['id'])}.")
    if "digest" in case.document:
        page.item(f"The digest of its recorded bytes: {page.said(case.document['digest'])}.")
    page.item(
        f"It was decided as of {_instant(provenance['at'])}, on the first "
        f"{page.said(provenance['known_at'])} entries of the ledger, the list to which everything "
        "is only ever added."
    )
    ledger = case.document.get("ledger")
    if ledger is not None:
        page.item(
            f"It stands in the ledger at position {page.said(ledger['index'])}, with the leaf hash "
            f"{page.said(ledger['leaf_hash'])}."
        )
    engine = provenance["engine"]
    page.item(
        f"It was computed by engine {page.said(engine['version'])}, rules "
        f"{page.said(engine['semantics'])}, for {page.said(provenance['actor'])}. The same "
        "evidence and policy give the same bytes."
    )
    if provenance["evidence"]:
        page.item("It rests on these records; a digest is the SHA-256 of a record's exact bytes:")
        page.items(
            (f"{page.said(one['id'])}: {page.said(one['digest'])}" for one in _seen(provenance)), 1
        )
    else:
        page.item("It rests on no evidence.")


def _seen(provenance: Body) -> Sequence[Body]:
    seen: Sequence[Body] = provenance["evidence"]
    return seen
