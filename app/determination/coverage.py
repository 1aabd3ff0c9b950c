"""How much of a policy version its decision table watches: a small change to the document, a mutant,
should make some case fail.

What has an effect on an answer is changed: numbers, durations, closed words, references, and what
stands in a list. Words for people (titles, statements, clauses, notes) and what only tells where a
document comes from (source, lineage, correspondence) are not. A mutant that the language refuses
says nothing of the table and is not counted.
"""

from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

from app.canonical import canonical_json
from app.decoding import decode_json, pointer
from app.determination.cases import Case, run_case
from app.errors import InvalidDocument
from app.policy.language import canonical_policy, checked_policy
from app.policy.version import PolicyVersion
from app.vocabulary import TWO_SIDED_Z, read_duration, write_number

Path = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Mutant:
    """One change to a document: where, from what to what; `now` is `None` where it was taken out."""

    pointer: str
    was: object
    now: object
    document: bytes


@dataclass(frozen=True, slots=True)
class Coverage:
    """How many mutants some case notices, of how many, and those that none does."""

    killed: int
    mutants: int
    survivors: tuple[Mutant, ...]


def coverage(version: PolicyVersion, cases: Sequence[Case]) -> Coverage:
    """Which mutants of *version* fail some of *cases*, all of which pass on the version itself."""
    killed = total = 0
    survivors = []
    for mutant in mutants(version):
        try:
            changed = checked_policy(mutant.document)
        except InvalidDocument:
            continue
        total += 1
        if any(run_case(case, changed) for case in cases):
            killed += 1
        else:
            survivors.append(mutant)
    return Coverage(killed, total, tuple(survivors))


_FOR_PEOPLE: Final = frozenset(
    {
        *("clause", "note", "publisher", "schema", "statement", "title", "unit", "version"),
        *("attackers", "corresponds", "domain", "domains", "dropped", "effective", "facts"),
        *("kind", "lineage", "policy", "published", "risk", "roles", "source", "supersedes"),
        *("status", "told", "to"),
    }
)
_WORDS_ONLY: Final = _FOR_PEOPLE - {"domain", "policy", "status"}
_NUMBERS: Final = frozenset({"below", "at_most", "above", "at_least", "k"})
_DURATIONS: Final = frozenset({"max_age", "review", "due", "at_most", "at_least"})
_WORDS: Final = {
    "means": ("binds", "does-not-bind"),
    "verb": ("approved", "consulted"),
    "sign_off": ("approved", "consulted"),
}
_REFERENCES: Final = {
    "standard": "standards",
    "role": "roles",
    "line": "lines",
    "threshold_ruled_out": "thresholds",
}
_NAMES_OF_OUR_OWN: Final = frozenset({"do", "id"})


def mutants(version: PolicyVersion) -> Iterator[Mutant]:
    """Every mutant of *version*, those included that the language refuses."""
    document = decode_json(canonical_policy(version))
    assert isinstance(document, dict), "a policy version is a mapping"
    rests_on_lines = b'"line":' in canonical_policy(version)
    for path, was in _places(document, ()):
        if was == "required-standards" or (path == ("confidence",) and not rests_on_lines):
            # Neither can matter: standards are always read, and no range is compared.
            continue
        for now in _changes(document, path, was):
            yield _mutant(document, path, was, now)
        if _may_go(path):
            yield _mutant(document, path, was, None)


def _mutant(document: dict[str, Any], path: Path, was: object, now: object) -> Mutant:
    changed = deepcopy(document)
    holder: Any = changed
    for step in path[:-1]:
        holder = holder[step]
    if now is None:
        del holder[path[-1]]
    else:
        holder[path[-1]] = now
    return Mutant(pointer(*path), was, now, canonical_json(changed))


def what_decides(version: PolicyVersion) -> object:
    """The document without its words for people: two versions alike in it decide alike."""

    def kept(value: Any, path: Path) -> Any:
        if isinstance(value, dict):
            named = _holds_names(path)
            return {
                k: kept(v, (*path, k)) for k, v in value.items() if named or k not in _WORDS_ONLY
            }
        if isinstance(value, list):
            return [kept(one, (*path, i)) for i, one in enumerate(value)]
        return value

    return kept(decode_json(canonical_policy(version)), ())


def _places(value: Any, path: Path) -> Iterator[tuple[Path, Any]]:
    """Everything that has an effect, with its place."""
    items: Iterator[tuple[str | int, Any]]
    if isinstance(value, dict):
        named = _holds_names(path)
        items = ((k, v) for k, v in value.items() if named or k not in _FOR_PEOPLE)
    elif isinstance(value, list):
        items = iter(enumerate(value))
    else:
        return
    for key, below in items:
        yield (*path, key), below
        yield from _places(below, (*path, key))


_MAPS: Final = frozenset({"standards", "thresholds", "lines", "actions", "exceptions"})


def _holds_names(path: Path) -> bool:
    """Whether the keys below *path* are names that the author gave, not words of the language."""
    if len(path) == 1:
        return path[0] in _MAPS
    return len(path) > 2 and path[-1] in ("criteria", "parts")


def _changes(document: dict[str, Any], path: Path, was: Any) -> Iterator[object]:
    key = path[-1]
    if key == "confidence":
        yield from (write_number(one) for one in TWO_SIDED_Z if write_number(one) != str(was))
    elif isinstance(was, bool):
        yield not was
    elif key in _NUMBERS and _is_number(was):
        yield from _other_numbers(was)
    elif key in _DURATIONS and isinstance(was, str) and was.startswith("P"):
        yield from _other_durations(was)
    elif key in _WORDS:
        yield from (word for word in _WORDS[str(key)] if word != was)
    elif key == "level":
        yield from (level for level in document.get("levels", ()) if level != was)
    elif key in _REFERENCES:
        yield from _another(sorted(document[_REFERENCES[str(key)]]), was)
    elif key in _NAMES_OF_OUR_OWN:
        yield f"another-{was}"[:64]
    elif isinstance(was, dict) and len(was) == 1 and next(iter(was)) in ("all", "any"):
        ((word, below),) = was.items()
        if len(below) > 1:
            yield {"any" if word == "all" else "all": below}
    elif len(path) > 1 and path[-2] == "developer":
        yield f"not-{was}"[:64]


def _is_number(value: object) -> bool:
    return isinstance(value, int) or (isinstance(value, str) and not value.startswith("P"))


def _other_numbers(was: Any) -> Iterator[object]:
    number = Decimal(str(was))
    if isinstance(was, int):
        yield from (was - 1, was + 1)
    elif number == 0:
        yield from ("-1", "1")
    else:
        yield from (write_number(number / 2), write_number(number * 2))


def _other_durations(was: str) -> Iterator[str]:
    yield "P1D" if was != "P1D" else "PT1H"
    yield "P40Y" if read_duration(was) != "P40Y" else "P1D"


def _another(names: Sequence[str], was: object) -> Iterator[str]:
    """The next name after *was*, around the end: one is enough to see whether it matters."""
    if was in names and len(names) > 1:
        yield names[(list(names).index(str(was)) + 1) % len(names)]


_MAY_GO: Final = frozenset(
    {
        *("actions", "baseline", "exceptions", "interim_measures", "levels", "obligations"),
        *("prohibits", "limits", "recommends", "reassess", "review", "subsumes", "max_age"),
        *("level", "in_assessment", "since_assessment", "may_reverse", "evidence"),
        *("sign_offs", "on_shortfall", "when", "developer", "rule_in", "rule_out", "at_most"),
    }
)


def _may_go(path: Path) -> bool:
    """Whether to take it out: something in a list, something named, a field that is optional."""
    if isinstance(path[-1], int):
        return True
    return path[-1] in _MAY_GO if not _holds_names(path[:-1]) else True
