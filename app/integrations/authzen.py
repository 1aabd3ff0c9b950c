"""OpenID AuthZEN 1.0: its questions in our words, and our answers in its.

A subject may do an action on a resource: may the action go ahead on this model version? The resource
is a `model` whose id is `name@version`, the action's name is ours. Who the subject is changes no
answer; it is put on record as whom the caller asked for.

Unlike in our own documents, whatever it is that we do not know is passed over, as AuthZEN has it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StrictBool,
    StrictInt,
    TypeAdapter,
)

from app.errors import InvalidDocument
from app.parsing import parse
from app.vocabulary import JSON, ModelRef, Slug

RESOURCE_TYPE: Final = "model"
"""The type of all resources that there are here."""

MOST_EVALUATIONS: Final = 100
"""How many a request may hold: all are recorded in one commit."""

MOST_CHARACTERS: Final = 256
"""How long the name of a subject may be, which is kept for good."""


def _printable(text: str) -> str:
    if not text.isprintable():
        raise ValueError("must hold no control characters")
    return text


Name = Annotated[str, Field(min_length=1, max_length=MOST_CHARACTERS), AfterValidator(_printable)]


# --- What is asked -----------------------------------------------------------------------------


class _Foreign(BaseModel):
    """A document of somebody else's: fields that we do not know are passed over."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class Subject(_Foreign):
    """Who wants it."""

    type: Name
    id: Name
    properties: dict[str, Any] | None = None


class Action(_Foreign):
    """What is wanted."""

    name: str
    properties: dict[str, Any] | None = None


class Resource(_Foreign):
    """What it is wanted of."""

    type: str
    id: str
    properties: dict[str, Any] | None = None


class ResourceType(_Foreign):
    """Of which type the resources are that are looked for; an id is passed over."""

    type: str
    properties: dict[str, Any] | None = None


class Surroundings(_Foreign):
    """AuthZEN's context. `accept_conditions`: the caller keeps the conditions of an
    `allow_with_conditions`, which is denied else.
    """

    accept_conditions: StrictBool = False


class Evaluation(_Foreign):
    """May the subject do the action on the resource?"""

    subject: Subject
    action: Action
    resource: Resource
    context: Surroundings | None = None

    @property
    def accepts_conditions(self) -> bool:
        """Whether the caller says that it keeps conditions."""
        return self.context is not None and self.context.accept_conditions


Semantic = Literal["execute_all", "deny_on_first_deny", "permit_on_first_permit"]


class Options(_Foreign):
    """Whether all are answered, or those up to the first denial, or up to the first permission."""

    evaluations_semantic: Semantic = "execute_all"


class Evaluations(_Foreign):
    """Many at once: what each of them does not say, this says for all. Without any it is one itself."""

    subject: Subject | None = None
    action: Action | None = None
    resource: Resource | None = None
    context: Surroundings | None = None
    options: Options = Options()
    evaluations: Annotated[tuple[dict[str, Any], ...], Field(max_length=MOST_EVALUATIONS)] = ()


class Page(_Foreign):
    """Which part of what is found: at most `limit`, from where `token` says."""

    token: str | None = None
    limit: Annotated[StrictInt, Field(ge=0)] | None = None


class ResourceSearch(_Foreign):
    """On which resources may the subject do the action?"""

    subject: Subject
    action: Action
    resource: ResourceType
    context: Surroundings | None = None
    page: Page = Page()

    @property
    def accepts_conditions(self) -> bool:
        """Whether the caller says that it keeps conditions."""
        return self.context is not None and self.context.accept_conditions


_EVALUATION: Final = TypeAdapter(Evaluation)
_EVALUATIONS: Final = TypeAdapter(Evaluations)
_RESOURCE_SEARCH: Final = TypeAdapter(ResourceSearch)
_MODEL: Final = TypeAdapter[str](ModelRef)
_ACTION: Final = TypeAdapter[str](Slug)


@dataclass(frozen=True, slots=True)
class Question:
    """An evaluation in our words."""

    model: str
    action: str
    accepts_conditions: bool
    on_behalf_of: str


@dataclass(frozen=True, slots=True)
class NoQuestion:
    """That nothing can be asked: what it names is of a kind, or has a name, that nothing here has. It
    is denied, and not recorded.
    """

    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Malformed:
    """That one of several evaluations is none."""

    message: str


Item = Question | NoQuestion | Malformed


def read_evaluation(document: object) -> Item:
    """What the document asks. Raises `InvalidDocument` with every fault."""
    return _question(parse(_EVALUATION, document, JSON))


def read_evaluations(document: object) -> tuple[Semantic, tuple[Item, ...]] | Item:
    """What the document asks, item by item; or the one thing, where it has no items. Raises
    `InvalidDocument` where the whole is at fault; an item that is says so itself.
    """
    asked = parse(_EVALUATIONS, document, JSON)
    if not asked.evaluations:
        return read_evaluation(document)
    assert isinstance(document, Mapping), "it was parsed as one"
    parts = ("subject", "action", "resource", "context")
    for_all = {part: document[part] for part in parts if part in document}
    items = tuple(_item(for_all | one) for one in asked.evaluations)
    return asked.options.evaluations_semantic, items


def _item(document: Mapping[str, Any]) -> Item:
    try:
        return read_evaluation(document)
    except InvalidDocument as fault:
        return Malformed(str(fault))


def read_resource_search(document: object) -> ResourceSearch:
    """What the document looks for. Raises `InvalidDocument` with every fault."""
    return parse(_RESOURCE_SEARCH, document, JSON)


def _question(evaluation: Evaluation) -> Question | NoQuestion:
    resource, subject = evaluation.resource, evaluation.subject
    if resource.type != RESOURCE_TYPE:
        message = f"there are no resources of that type here, only of `{RESOURCE_TYPE}`"
        return NoQuestion("resource.unknown_type", message)
    if not _is(_MODEL, resource.id):
        return NoQuestion("model.unknown", "the id is no model version's: `name@version`")
    if not is_action(evaluation.action.name):
        return NoQuestion("action.unknown", "no policy can name that action")
    return Question(
        resource.id,
        evaluation.action.name,
        evaluation.accepts_conditions,
        f"{subject.type}:{subject.id}",
    )


def is_action(name: str) -> bool:
    """Whether an action can have that name."""
    return _is(_ACTION, name)


def _is(kind: TypeAdapter[str], value: str) -> bool:
    try:
        return kind.validate_python(value, context=dict(JSON)) == value
    except ValueError:
        return False


def stops(semantic: Semantic, decision: bool) -> bool:
    """Whether nothing is answered after that decision."""
    return {
        "execute_all": False,
        "deny_on_first_deny": not decision,
        "permit_on_first_permit": decision,
    }[semantic]


# --- What is answered --------------------------------------------------------------------------


def decision_of(
    gate: Mapping[str, Any], determinations: Sequence[Mapping[str, Any]], index: int, base: str
) -> dict[str, Any]:
    """The decision that a recorded gate is, and in its context what it rests on. `index`: where the
    gate stands in the ledger; `base`: what addresses begin with.
    """
    levels = {one["id"]: one["level"] for one in determinations}
    reasons = [
        {name: reason[name] for name in ("code", "policy", "message")} for reason in gate["reasons"]
    ]
    if gate["decision"] == "allow_with_conditions" and not gate["allowed"]:
        message = "there are conditions, and the caller does not say that it keeps them"
        reasons.append({"code": "conditions.not_accepted", "policy": None, "message": message})
    conditions = [
        {"policy": one["provenance"]["policy"]["name"], "code": c["code"], "message": c["message"]}
        for one in determinations
        for c in one["conditions"]
    ]
    context = {
        "gate": gate["id"],
        "decision": gate["decision"],
        "policies": [
            {**policy, "level": levels[policy["determination"]]} for policy in gate["policies"]
        ],
        "reasons": reasons,
        "conditions": conditions,
        "valid_until": gate["valid_until"],
        "record": f"{base}/v1/gates/{gate['id']}",
        "proof": f"{base}/v1/ledger/entries/{index}/proof",
    }
    return {"decision": gate["allowed"], "context": context}


def denial_of(item: NoQuestion | Malformed) -> dict[str, Any]:
    """The decision where nothing was asked: always a no."""
    if isinstance(item, Malformed):
        return {"decision": False, "context": {"error": {"status": 400, "message": item.message}}}
    reason = {"code": item.code, "policy": None, "message": item.message}
    return {"decision": False, "context": {"decision": "deny", "reasons": [reason]}}


def metadata(base: str) -> dict[str, str]:
    """What the service at that address offers of AuthZEN; what is not named is not offered."""
    return {
        "policy_decision_point": base,
        "access_evaluation_endpoint": f"{base}/access/v1/evaluation",
        "access_evaluations_endpoint": f"{base}/access/v1/evaluations",
        "search_resource_endpoint": f"{base}/access/v1/search/resource",
    }
