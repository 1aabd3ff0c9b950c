"""What changed between two versions of a policy, and what each change does.

Thresholds are paired by the lineage that the later version tells, so that one which was renamed is
compared with what it was; all else is paired by its name. Of each change it is said what it does
where that follows from the structure alone. It does not follow from words: whether another
statement asks for more is for a reader to say, and so is everything that no rule below covers.

A list in which order means nothing is compared as a set, and what is written out as it would have
been by default is no change.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any, Final, Literal

from app.decoding import pointer
from app.policy.language import policy_digest
from app.policy.version import PolicyVersion
from app.vocabulary import Document, Instant

Effect = Literal["stricter", "looser", "neither", "unknown"]
Kind = Literal["added", "removed", "changed", "renamed", "reworded", "split", "merged"]
Subject = Literal[
    "version",
    "scope",
    "levels",
    "confidence",
    "role",
    "fact",
    "domain",
    "standard",
    "criterion",
    "part",
    "attackers",
    "consequence",
    "interim-measures",
    "baseline",
    "requirement",
    "exception",
    "line",
    "threshold",
    "correspondence",
    "recommendation",
    "prohibition",
    "limitation",
    "obligation",
    "reassess",
    "action",
    "sign-off",
    "reversal",
]


class DiffSide(Document):
    """One of the two versions."""

    policy: str
    version: str
    digest: str
    effective: Instant


class Change(Document):
    """One thing that the newer version says otherwise.

    `pointer` leads into the newer document, or into the older where the thing is gone. `was` and
    `now` are what stands there, `null`: nothing. `effect` is what the change does by itself, all
    else being equal: `stricter`, on no evidence does the version permit more or ask for less, and
    on some it may ask for more; `looser`, the reverse; `neither`, no decision, level, requirement
    or obligation moves; `unknown`, that does not follow from the structure. Standing orders are
    left out of this.
    """

    subject: Subject
    pointer: str
    name: str
    kind: Kind
    was: Any
    now: Any
    effect: Effect
    message: str


class Effects(Document):
    """How many changes do what."""

    stricter: int
    looser: int
    neither: int
    unknown: int


class Diff(Document):
    """All changes from the older to the newer version, in the order of the document."""

    older: DiffSide
    newer: DiffSide
    effects: Effects
    changes: tuple[Change, ...]


def diff(older: PolicyVersion, newer: PolicyVersion) -> Diff:
    """What *newer* says otherwise than *older*. Either may be the one that was published first."""
    was, now = _document(older), _document(newer)
    pairs = _pairs(older, newer)
    levels = was.get("levels") if was.get("levels") == now.get("levels") else None
    both = _Both(
        was=was,
        now=now,
        written=newer.model_dump(mode="json", by_alias=True, exclude_unset=True),
        pairs=pairs,
        levels=levels or (),
        closed="actions" not in was["applies_to"] | now["applies_to"],
    )
    root = _At(both, "version", f"{newer.policy} {newer.version}", (), ())
    changes = tuple(_object(root, was, now))
    effects = [change.effect for change in changes]
    return Diff(
        older=_side(older),
        newer=_side(newer),
        effects=Effects(
            stricter=effects.count("stricter"),
            looser=effects.count("looser"),
            neither=effects.count("neither"),
            unknown=effects.count("unknown"),
        ),
        changes=changes,
    )


def as_text(found: Diff) -> str:
    """The diff for people: each change on a line that begins with its effect, in the same order;
    titles, clauses and notes last.
    """
    lines = [
        f"{found.older.policy} {found.older.version} -> {found.newer.policy} {found.newer.version}"
    ]
    if not found.changes:
        return f"{lines[0]}\nno change\n"
    counts = found.effects
    lines.append(
        f"{len(found.changes)} changes: {counts.stricter} stricter, {counts.looser} looser, "
        f"{counts.neither} neither, {counts.unknown} unknown"
    )
    lines.append("")
    words: list[str] = []
    for change in found.changes:
        if (change.kind, change.effect) == ("reworded", "neither"):
            words.append(f"          {change.message}")
            continue
        lines.append(f"{change.effect:<9} {change.message}")
        if change.kind == "reworded":
            lines += [f"{'was:':>13} {_say(change.was)}", f"{'now:':>13} {_say(change.now)}"]
    if words:
        lines += ["", "words by which nothing is judged:", *words]
    return "\n".join(lines) + "\n"


def _side(version: PolicyVersion) -> DiffSide:
    return DiffSide(
        policy=version.policy,
        version=version.version,
        digest=policy_digest(version),
        effective=version.effective,
    )


def _document(version: PolicyVersion) -> dict[str, Any]:
    """The version with its defaults written out, so that writing one is no change."""
    document: dict[str, Any] = version.model_dump(mode="json", by_alias=True, exclude_none=True)
    return document


# --- which threshold is which ------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Pairs:
    """By name of a threshold of the newer version, those of the older that it comes from and how."""

    of: Mapping[str, tuple[tuple[str, ...], Kind | None]]
    dropped: Mapping[str, str]
    """By name of a threshold of the older version, what the newer says of its having gone."""

    def renamed(self) -> dict[str, str]:
        """The new name by the old, of those that are still the same."""
        return {
            olds[0]: name
            for name, (olds, kind) in self.of.items()
            if len(olds) == 1 and kind not in ("split", "merged") and olds[0] != name
        }

    def left(self, names: Iterable[str]) -> list[str]:
        """Those of *names* from which nothing comes."""
        going_on = {old for olds, _ in self.of.values() for old in olds}
        return [name for name in names if name not in going_on]


_BACKWARDS: Final = {"split": "merged", "merged": "split"}


def _pairs(older: PolicyVersion, newer: PolicyVersion) -> _Pairs:
    edges, new, dropped = _lineage(newer, older)
    if not (edges or new or dropped):
        # Asked backwards, the older of the two by date is the one whose lineage speaks of this.
        told, appeared, gone = _lineage(older, newer)
        edges = [(other, name, _BACKWARDS.get(how, how)) for name, other, how in told]
        new, dropped = set(gone), dict.fromkeys(appeared, "")
    sources: dict[str, list[str]] = {}
    for name, old, _ in edges:
        sources.setdefault(name, []).append(old)
    hows = {(name, old): how for name, old, how in edges}
    taken = {old for _, old, _ in edges}
    of: dict[str, tuple[tuple[str, ...], Kind | None]] = {}
    for name in newer.thresholds:
        olds = tuple(sources.get(name, ()))
        if not olds and name in older.thresholds and name not in new | taken | set(dropped):
            olds = (name,)
        kind: Kind | None = None
        if olds:
            how = hows.get((name, olds[0]))
            among = [one for one, old, _ in edges if old == olds[0]]
            if len(olds) > 1 or how == "merged":
                kind = "merged"
            elif len(among) > 1 or how == "split":
                kind = "split"
            elif name != olds[0]:
                kind = "renamed"
            elif how == "reworded":
                kind = "reworded"
        of[name] = olds, kind
    return _Pairs(of, dropped)


def _lineage(
    later: PolicyVersion, earlier: PolicyVersion
) -> tuple[list[tuple[str, str, str]], set[str], dict[str, str]]:
    """What *later* tells of *earlier*: what comes from what and how, what is new, what is gone."""
    if later.policy != earlier.policy:
        return [], set(), {}
    edges, new = [], set()
    for name, threshold in later.thresholds.items():
        for one in threshold.lineage:
            if one.version != earlier.version:
                continue
            old = one.threshold or name
            if one.change == "new":
                new.add(name)
            elif old in earlier.thresholds:
                edges.append((name, old, str(one.change)))
    dropped = {d.threshold: d.statement for d in later.dropped if d.version == earlier.version}
    return edges, new, dropped


def _with_names(tree: Any, renamed: Mapping[str, str]) -> Any:
    """The condition with thresholds under their new names."""
    if isinstance(tree, list):
        return [_with_names(one, renamed) for one in tree]
    if isinstance(tree, dict):
        return {
            key: renamed.get(below, below)
            if key == "threshold_ruled_out"
            else _with_names(below, renamed)
            for key, below in tree.items()
        }
    return tree


# --- places, and the changes there -------------------------------------------------------------

Path = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class _Both:
    """The two documents, and what of them a rule elsewhere in them needs."""

    was: dict[str, Any]
    now: dict[str, Any]
    written: dict[str, Any]
    """The newer one as its author wrote it, without defaults."""
    pairs: _Pairs
    levels: Sequence[str]
    """The levels, lowest first, where both have the same; else none."""
    closed: bool
    """Whether both deny an action that they do not name."""


@dataclass(frozen=True, slots=True)
class _At:
    """A place in both documents, and what the thing there is called."""

    both: _Both
    subject: Subject
    name: str
    older: Path
    newer: Path

    def field(self, key: str) -> "_At":
        """A field of the thing: the change is one of the thing itself."""
        return replace(self, older=(*self.older, key), newer=(*self.newer, key))

    def thing(self, subject: Subject, name: str, older: str | int, newer: str | int) -> "_At":
        """Something of its own below it."""
        whole = f"{self.name}/{name}" if self.subject != "version" else name
        return _At(self.both, subject, whole, (*self.older, older), (*self.newer, newer))

    def change(self, kind: Kind, was: Any, now: Any, effect: Effect, message: str) -> Change:
        """The change that is there."""
        here = now is not None and _leads(self.newer, self.both.written)
        called = f"{self.subject} `{self.name}`" if self.name != self.subject else self.subject
        return Change(
            subject=self.subject,
            pointer=pointer(*(self.newer if here else self.older)),
            name=self.name,
            kind=kind,
            was=was,
            now=now,
            effect=effect,
            message=f"{called} {message}" if kind in _WHOLE else f"{called}: {message}",
        )


def _leads(path: Path, document: Any) -> bool:
    """Whether something stands there."""
    for step in path:
        # In a list there is a thing for each place: only of a mapping may the author leave one out.
        if not isinstance(document, list) and step not in (document or ()):
            return False
        document = document[step]
    return True


_WHOLE: Final = frozenset({"added", "removed", "renamed", "split", "merged"})
_OTHERWISE: Final[dict[Effect, Effect]] = {
    "stricter": "looser",
    "looser": "stricter",
    "neither": "neither",
    "unknown": "unknown",
}
Rule = Callable[[_At, Any, Any], Iterator[Change]]
"""Compares what stands at a place, where it is not the same: `None` where there is nothing."""


def _object(at: _At, was: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[Change]:
    """The changes of each field, by the rules for the kind of thing that it is."""
    rules = _FIELDS[at.subject]
    # A field that no rule names is compared all the same, and nothing is claimed of it.
    for key in dict.fromkeys([*rules, *was, *now]):
        if key not in _NOT_COMPARED and was.get(key) != now.get(key):
            rule = rules.get(key, _plain("unknown"))
            yield from rule(at.field(key), was.get(key), now.get(key))


_NOT_COMPARED: Final = frozenset({"schema", "version", "lineage", "dropped"})
"""The labels are those of the two sides, and lineage is by what the sides are compared."""


def _key(at: _At) -> str:
    return str(at.newer[-1])


def _whole(at: _At, was: Any, now: Any, added: Effect) -> Iterator[Change]:
    """Something that only one of the two has."""
    if was is None:
        yield at.change("added", None, now, added, "is added")
    else:
        yield at.change("removed", was, None, _OTHERWISE[added], "is gone")


def _plain(effect: Effect) -> Rule:
    """A value whose every change has that effect."""

    def rule(at: _At, was: Any, now: Any) -> Iterator[Change]:
        message = f"`{_key(at)}` was {_short(was)}, is now {_short(now)}"
        yield at.change("changed", was, now, effect, message)

    return rule


def _words(at: _At, was: Any, now: Any) -> Iterator[Change]:
    """Words that nothing is judged by: titles, clauses, notes."""
    message = f"`{_key(at)}` was {_short(was)}, is now {_short(now)}"
    yield at.change("reworded", was, now, "neither", message)


def _statement(at: _At, was: Any, now: Any) -> Iterator[Change]:
    """Words by which people judge: what they ask for, no rule can tell."""
    same = was is not None and now is not None and was.split() == now.split()
    effect: Effect = "neither" if same else "unknown"
    yield at.change("reworded", was, now, effect, "the statement is worded otherwise")


def _set(more: Effect, *, absent_is_all: bool = False, none_is_silent: bool = False) -> Rule:
    """A list without order; *more*: what one more in it does.

    *none_is_silent*: where it is empty, the text need not mean that there is none.
    """

    def rule(at: _At, was: Any, now: Any) -> Iterator[Change]:
        before, after = was or [], now or []
        gained = [one for one in after if one not in before]
        lost = [one for one in before if one not in after]
        if absent_is_all and (was is None or now is None):
            said, effect = f"was {_short(was)}, is now {_short(now)}", more
            effect = more if now is None else _OTHERWISE[more]
        elif not gained and not lost:
            return
        else:
            told = [*([f"gains {_list(gained)}"] if gained else [])]
            told += [f"loses {_list(lost)}"] if lost else []
            said = " and ".join(told)
            effect = more if not lost else _OTHERWISE[more] if not gained else "unknown"
            if none_is_silent and not (before and after):
                effect = "unknown"
            effect = "neither" if more == "neither" else effect
        yield at.change("changed", was, now, effect, f"`{_key(at)}` {said}")

    return rule


def _limit(at: _At, was: Any, now: Any) -> Iterator[Change]:
    """How old something may be, or for how long it counts: the shorter, the stricter."""
    effect: Effect = "unknown"
    if _within(now, was):
        effect = "neither" if _within(was, now) else "stricter"
    elif _within(was, now):
        effect = "looser"
    message = f"`{_key(at)}` was {_short(was)}, is now {_short(now)}"
    yield at.change("changed", was, now, effect, message)


def _due(at: _At, was: Any, now: Any) -> Iterator[Change]:
    """By when it must be done. That it has no date may mean at once or whenever."""
    if "before" in (was, now) or was is None or now is None:
        yield from _plain("unknown")(at, was, now)
    else:
        yield from _limit(at, was, now)


def _choice(strict: object) -> Rule:
    """One of two, of which *strict* is the stricter."""

    def rule(at: _At, was: Any, now: Any) -> Iterator[Change]:
        yield from _plain("stricter" if now == strict else "looser")(at, was, now)

    return rule


def _level(at: _At, was: Any, now: Any) -> Iterator[Change]:
    """The answer's level is the highest that anything names; none is below all of them."""
    levels = at.both.levels
    effect: Effect = "unknown"
    if all(level is None or level in levels for level in (was, now)):
        ranks = [-1 if level is None else levels.index(level) for level in (was, now)]
        effect = "stricter" if ranks[1] > ranks[0] else "looser"
    yield from _plain(effect)(at, was, now)


def _zone(larger: Effect) -> Rule:
    """A zone of a line; *larger*: what it does that more numbers lie in it."""

    def rule(at: _At, was: Any, now: Any) -> Iterator[Change]:
        effect: Effect = "unknown"
        units = [document["lines"][at.newer[1]]["unit"] for document in (at.both.was, at.both.now)]
        if was and now and units[0] != units[1]:
            effect = "unknown"
        elif was is None or (now is not None and _inside(was, now)):
            effect = larger
        elif now is None or _inside(now, was):
            effect = _OTHERWISE[larger]
        yield from _plain(effect)(at, was, now)

    return rule


def _attackers(at: _At, was: Any, now: Any) -> Iterator[Change]:
    """Who must be held off: each list by itself can be read two ways, so both are looked at."""
    before, after = was or {}, now or {}
    gained = lost = silent = False
    for key in ("in_scope", "out_of_scope"):
        old, new = before.get(key, []), after.get(key, [])
        more, fewer = bool(set(new) - set(old)), bool(set(old) - set(new))
        gained |= more if key == "in_scope" else fewer
        lost |= fewer if key == "in_scope" else more
        # Where it lists none, the text need not mean that there are none.
        silent |= bool(old) != bool(new)
    effect: Effect = "stricter" if gained else "looser"
    if silent or (gained and lost):
        effect = "unknown"
    for key in ("in_scope", "out_of_scope"):
        old, new = before.get(key, []), after.get(key, [])
        for change in _set("unknown")(replace(at.field(key), subject="attackers"), old, new):
            yield change.model_copy(update={"effect": effect})


def _one(subject: Subject, added: Effect) -> Rule:
    """A thing of its own that may be absent; *added*: what it does that there is one."""

    def rule(at: _At, was: Any, now: Any) -> Iterator[Change]:
        named = replace(at, subject=subject, name=_name_of(at, subject))
        if was is None or now is None:
            yield from _whole(named, was, now, added)
        else:
            yield from _object(named, was, now)

    return rule


def _name_of(at: _At, subject: Subject) -> str:
    """The only one of the version has no name but what it is; others have that of what has them."""
    return subject if at.subject == "version" else at.name


def _inline(at: _At, was: Any, now: Any) -> Iterator[Change]:
    """A mapping that is a part of the thing, not another one: what an open threshold means."""
    for key in dict.fromkeys([*was, *now]):
        if was.get(key) != now.get(key):
            rule = _MEANING.get(key, _plain("unknown"))
            yield from rule(at.field(key), was.get(key), now.get(key))


def _named(
    subject: Subject, added: Effect | Callable[[_At, Any], Effect], *, absent_differs: bool = False
) -> Rule:
    """Things under names. *absent_differs*: none at all is not the same as none of these."""

    def rule(at: _At, was: Any, now: Any) -> Iterator[Change]:
        if absent_differs and (was is None or now is None):
            yield from _plain("unknown")(at, was, now)
            return
        before, after = was or {}, now or {}
        for name in sorted(before.keys() | after.keys()):
            old, new = before.get(name), after.get(name)
            place = at.thing(subject, name, name, name)
            if old is None or new is None:
                effect = added if isinstance(added, str) else added(at, old or new)
                yield from _whole(place, old, new, effect)
            elif isinstance(old, dict):
                yield from _object(place, old, new)
            elif old != new:
                message = f"was {_say(old)}, is now {_say(new)}"
                yield place.change("reworded", old, new, "neither", message)

    return rule


def _each(subject: Subject, added: Effect, *keys: str) -> Rule:
    """Things in a list, told apart by *keys*; those that share them, by their order."""

    def rule(at: _At, was: Any, now: Any) -> Iterator[Change]:
        before, after = _told_apart(was or [], keys), _told_apart(now or [], keys)
        for key in dict.fromkeys([*after, *before]):
            i, old = before.get(key, (0, None))
            j, new = after.get(key, (0, None))
            name = " ".join(str(part) for part in key[:-1]) or str(key[-1] + 1)
            place = at.thing(subject, name, i, j)
            if old is None or new is None:
                yield from _whole(place, old, new, added)
            else:
                yield from _object(place, old, new)

    return rule


def _told_apart(
    things: Sequence[dict[str, Any]], keys: Sequence[str]
) -> dict[tuple[Any, ...], tuple[int, dict[str, Any]]]:
    apart: dict[tuple[Any, ...], tuple[int, dict[str, Any]]] = {}
    for i, thing in enumerate(things):
        parts = [thing.get(key) for key in keys]
        known = tuple(", ".join(part) if isinstance(part, list) else part for part in parts)
        count = 0
        while (*known, count) in apart:
            count += 1
        apart[*known, count] = i, thing
    return apart


# --- conditions --------------------------------------------------------------------------------


def _ruled_out(at: _At, was: Any, now: Any) -> Iterator[Change]:
    """What permits: harder to hold is stricter.

    Two things reach beyond the tree. A ruling out that the tree names, wherever it stands in it,
    also clears what was found to be reached. And a threshold that is named here falls for all that
    rest on it when anything is found against this one.
    """
    harder, easier = _implies(now, was), _implies(was, now)
    clears = [[leaf for leaf in _leaves(tree) if _is_ruling_out(leaf)] for tree in (was, now)]
    rests = [
        {leaf["threshold_ruled_out"] for leaf in _leaves(tree) if "threshold_ruled_out" in leaf}
        for tree in (was, now)
    ]
    may_be_stricter = harder and _covered(clears[1], clears[0]) and rests[0] <= rests[1]
    may_be_looser = easier and _covered(clears[0], clears[1]) and rests[1] <= rests[0]
    yield _tree_change(at, was, now, may_be_stricter, may_be_looser)


def _counts_against(at: _At, was: Any, now: Any) -> Iterator[Change]:
    """What counts against release: easier to hold is stricter."""
    yield _tree_change(at, was, now, _implies(was, now), _implies(now, was))


def _tree_change(at: _At, was: Any, now: Any, stricter: bool, looser: bool) -> Change:
    effect: Effect = "unknown"
    if stricter or looser:
        effect = "neither" if stricter and looser else "stricter" if stricter else "looser"
    field = _key(at)
    at, was, now = _narrowed(at, was, now)
    message = f"`{field}` was {_condition(was)}, is now {_condition(now)}"
    return at.change("changed", was, now, effect, message)


def _narrowed(at: _At, was: Any, now: Any) -> tuple[_At, Any, Any]:
    """The smallest part of the tree that holds all of the change."""
    for word in ("all", "any"):
        if not (_is_group(was, word) and _is_group(now, word)):
            continue
        before, after = was[word], now[word]
        gone = [i for i, child in enumerate(before) if child not in after]
        come = [i for i, child in enumerate(after) if child not in before]
        if len(before) == len(after) and len(gone) == len(come) == 1:
            below = replace(
                at,
                older=(*at.older, word, gone[0]),
                newer=(*at.newer, word, come[0]),
            )
            return _narrowed(below, before[gone[0]], after[come[0]])
    return at, was, now


def _is_group(tree: Any, word: str) -> bool:
    return isinstance(tree, dict) and word in tree


def _group(tree: Any) -> tuple[int, list[Any]] | None:
    """How many of which children must hold; `None` for a leaf and for `not`."""
    if "all" in tree:
        return len(tree["all"]), tree["all"]
    if "any" in tree:
        return 1, tree["any"]
    if "at_least_k" in tree:
        return tree["at_least_k"]["k"], tree["at_least_k"]["of"]
    return None


def _implies(a: Any, b: Any, known: dict[tuple[int, int], bool] | None = None) -> bool:
    """Whether *b* is at least as true as *a* on all evidence. `False`: that was not shown.

    In Kleene's order NO, UNKNOWN, YES: a count of children that are each at least as true is.
    """
    known = {} if known is None else known
    key = id(a), id(b)
    if key not in known:
        known[key] = a == b or _implies_by_parts(a, b, known)
    return known[key]


def _implies_by_parts(a: Any, b: Any, known: dict[tuple[int, int], bool]) -> bool:
    of_a, of_b = _group(a), _group(b)
    if of_a is None and of_b is None:
        if "not" in a and "not" in b:
            return _implies(b["not"], a["not"], known)
        return "not" not in a and "not" not in b and _leaf_implies(a, b)
    if of_a is not None:
        needed, children = of_a
        # So many hold that one of those which imply *b* must be among them.
        if len(children) - sum(_implies(child, b, known) for child in children) < needed:
            return True
    if of_b is not None:
        needed, children = of_b
        if sum(_implies(a, child, known) for child in children) >= needed:
            return True
    if of_a is None or of_b is None:
        return False
    left = list(of_b[1])
    alone = 0
    for child in of_a[1]:
        for i, other in enumerate(left):
            if _implies(child, other, known):
                del left[i]
                break
        else:
            alone += 1
    return of_a[0] - alone >= of_b[0]


def _leaf_implies(a: Any, b: Any) -> bool:
    for word in ("bounded_by", "carried_over"):
        if word in a and word in b:
            return _found_by(a[word], b[word])
    if "finding" in a and "finding" in b:
        return a["finding"] == b["finding"] and _found_by(a, b)
    if "line" in a and "line" in b:
        same = (a["line"], a["zone"]) == (b["line"], b["zone"])
        return same and _within(a.get("max_age"), b.get("max_age"))
    if "assessment" in a and "assessment" in b:
        return a["assessment"] == b["assessment"] and _within(a["max_age"], b["max_age"])
    if "elapsed" in a and "elapsed" in b:
        one, other = a["elapsed"], b["elapsed"]
        same = one["since_assessment"] == other["since_assessment"]
        return same and _within(other["at_least"], one["at_least"])
    if "compute_ratio" in a and "compute_ratio" in b:
        one, other = a["compute_ratio"], b["compute_ratio"]
        same = one["since_assessment"] == other["since_assessment"]
        return same and Decimal(one["at_least"]) >= Decimal(other["at_least"])
    if "sign_off" in a and "sign_off" in b:
        same = (a["sign_off"], a["by"]) == (b["sign_off"], b["by"])
        return same and b.get("since_assessment") in (None, a.get("since_assessment"))
    if "fact" in a and "fact" in b:
        return a["fact"] == b["fact"] and _inside(a, b)
    return False


def _found_by(a: Any, b: Any) -> bool:
    """Whether whatever is found as *a* asks is found as *b* asks."""
    return (
        set(b.get("by", ())) <= set(a.get("by", ()))
        and b.get("in_assessment") in (None, a.get("in_assessment"))
        and _within(a.get("max_age"), b.get("max_age"))
    )


def _leaves(tree: Any) -> Iterator[Any]:
    group = _group(tree)
    if group is not None:
        for child in group[1]:
            yield from _leaves(child)
    elif "not" in tree:
        yield from _leaves(tree["not"])
    else:
        yield tree


def _is_ruling_out(leaf: Any) -> bool:
    return bool(leaf.get("finding") == "ruled-out")


def _covered(some: Iterable[Any], by: Sequence[Any]) -> bool:
    """Whether each ruling out that one of *some* takes is one that *by* takes, however old it is."""
    return all(
        any(_found_by({**one, "max_age": None}, {**other, "max_age": None}) for other in by)
        for one in some
    )


# --- durations and bounds ----------------------------------------------------------------------

_DURATION: Final = re.compile(
    r"P(?:(\d+)Y)?(?:(\d+)M)?(?:(\d+)W)?(?:(\d+)D)?(?:T(\d+)H)?", re.ASCII
)


def _within(a: str | None, b: str | None) -> bool:
    """Whether *a* never ends after *b*, from wherever both are counted; `None` never ends.

    Months and years have no fixed length, so that some durations are neither way.
    """
    if b is None or a == b:
        return True
    if a is None:
        return False
    (months, hours), (more_months, more_hours) = _length(a), _length(b)
    if months <= more_months and hours <= more_hours:
        return True
    longest = 24 * (366 * (months // 12) + 31 * (months % 12)) + hours
    shortest = 24 * (365 * (more_months // 12) + 28 * (more_months % 12)) + more_hours
    return longest <= shortest


def _length(duration: str) -> tuple[int, int]:
    """Months, and hours beside them."""
    parts = _DURATION.fullmatch(duration)
    assert parts is not None, "a version holds no other durations"
    years, months, weeks, days, hours = (int(part or 0) for part in parts.groups())
    return 12 * years + months, 24 * (7 * weeks + days) + hours


def _inside(a: Any, b: Any) -> bool:
    """Whether every number that the bound *a* lets in lies within the bound *b*."""
    for inclusive, exclusive, sign in (("at_most", "below", 1), ("at_least", "above", -1)):
        one, other = (
            next(((key, Decimal(x[key])) for key in (inclusive, exclusive) if key in x), None)
            for x in (a, b)
        )
        if one is not None and other is not None:
            if one[1] == other[1]:
                return one[0] == exclusive or other[0] == inclusive
            return sign * one[1] < sign * other[1]
    return False


# --- thresholds --------------------------------------------------------------------------------


def _thresholds(at: _At, was: Any, now: Any) -> Iterator[Change]:
    """Each with what it comes from; those of the older version that went nowhere among them."""
    pairs = at.both.pairs
    gone = pairs.left(was)
    for name in sorted({*now, *gone}):
        if name in gone:
            place = at.thing("threshold", name, name, name)
            for change in _whole(place, was[name], None, _weight(was[name])):
                why = pairs.dropped.get(name)
                said = f"{change.message}: {why}" if why else change.message
                yield change.model_copy(update={"message": said})
        if name in now:
            yield from _threshold(at, name, was, now[name])


def _threshold(at: _At, name: str, was: Any, now: Any) -> Iterator[Change]:
    olds, kind = at.both.pairs.of[name]
    place = at.thing("threshold", name, olds[0] if olds else name, name)
    if not olds:
        versions = {one["version"] for one in now["lineage"] if one["change"] != "new"}
        for change in _whole(place, None, now, _weight(now)):
            told = f"; its lineage is told from {_list(sorted(versions))}" if versions else ""
            yield change.model_copy(update={"message": change.message + told})
        return
    if kind in ("split", "merged"):
        # Only all that comes from one, or all that went into one, could be compared with it.
        verb = "is one of those into which" if kind == "split" else "is what became of"
        told = f"{verb} {_list(olds)} {'was split' if kind == 'split' else ''}".rstrip()
        yield place.change(kind, {old: was[old] for old in olds}, now, "unknown", told)
        return
    if kind == "renamed":
        told = f"is the renamed `{olds[0]}`; what was found under the old name does not count here"
        yield place.change(kind, olds[0], name, "unknown", told)
    elif kind == "reworded" and was[name]["statement"] == now["statement"]:
        told = "the later version says that it is reworded, and the statement is the same"
        yield place.change(kind, was[name]["statement"], now["statement"], "unknown", told)
    tree = _with_names(was[olds[0]]["ruled_out"], at.both.pairs.renamed())
    yield from _object(place, {**was[olds[0]], "ruled_out": tree}, now)


def _weight(threshold: Any) -> Effect:
    """What it does that there is such a threshold: nothing, where it asks for nothing."""
    asks = ("requires", "prohibits", "limits", "obligations", "level")
    return "stricter" if any(threshold.get(key) for key in asks) else "neither"


def _of_standard(_: _At, standard: Any) -> Effect:
    """By itself it is asked for by nothing, but it may stand for weaker ones."""
    return "unknown" if standard.get("subsumes") else "neither"


def _of_action(at: _At, _: Any) -> Effect:
    """An action that is not named is denied, unless it lies out of the scope."""
    return "looser" if at.both.closed else "unknown"


# --- saying it ---------------------------------------------------------------------------------


def _list(names: Iterable[object]) -> str:
    said = [f"`{name}`" for name in names]
    return said[0] if len(said) == 1 else f"{', '.join(said[:-1])} and {said[-1]}"


def _short(value: Any) -> str:
    """Fit for a line; the whole of it is beside it."""
    said = _say(value)
    return said if len(said) <= _LONGEST else f"{said[: _LONGEST - 1]}…"


_LONGEST: Final = 160


def _say(value: Any) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return ", ".join(_say(one) for one in value) or "nothing"
    if isinstance(value, dict):
        if _is_condition(value):
            return _condition(value)
        return ", ".join(f"{key} {_say(one)}" for key, one in value.items())
    return str(value)


def _is_condition(value: Mapping[str, Any]) -> bool:
    words = ("all", "any", "at_least_k", "not", "finding", "zone", "assessment", "fact")
    return any(word in value for word in words)


def _condition(tree: Any) -> str:
    if "not" in tree:
        return f"not {_condition(tree['not'])}"
    if "at_least_k" in tree:
        return f"{tree['at_least_k']['k']} of ({_joined(tree['at_least_k']['of'])})"
    for word in ("all", "any"):
        if word in tree:
            return f"{word} of ({_joined(tree[word])})"
    parts = []
    for key, value in tree.items():
        if isinstance(value, list):
            parts += [f"{key} {' and '.join(value)}"] if value else []
        else:
            parts.append(f"{key} {_say(value)}")
    return " ".join(parts)


def _joined(trees: Iterable[Any]) -> str:
    return "; ".join(_condition(tree) for tree in trees)


# --- the rules ---------------------------------------------------------------------------------

_MEANING: Final[dict[str, Rule]] = {"means": _choice("binds"), "clause": _words}
_PERMITTED: Final[dict[str, Rule]] = {
    "statement": _statement,
    "clause": _words,
    "stands_for": _set("looser"),
    "actions": _set("looser", absent_is_all=True),
    # Two callers must approve whatever the roles, so that one role more can make it easier: those
    # two may then be of any of them.
    "approved_by": _set("unknown"),
    "told": _set("unknown"),
    "at_most": _limit,
}
_EFFECT: Final[dict[str, Rule]] = {
    "statement": _statement,
    "clause": _words,
    "actions": _set("stricter"),
}
_FIELDS: Final[dict[Subject, dict[str, Rule]]] = {
    "version": {
        "policy": _plain("unknown"),
        "title": _words,
        "publisher": _words,
        "published": _plain("neither"),
        "effective": _plain("neither"),
        "supersedes": _plain("neither"),
        "source": _plain("neither"),
        "applies_to": _one("scope", "unknown"),
        "levels": _plain("unknown"),
        "confidence": _plain("unknown"),
        "roles": _named("role", "neither"),
        "facts": _named("fact", "neither"),
        "domains": _named("domain", "unknown"),
        "standards": _named("standard", _of_standard),
        "baseline": _one("baseline", "stricter"),
        "exceptions": _named("exception", "looser"),
        "lines": _named("line", "neither"),
        "thresholds": _thresholds,
        "reassess": _one("reassess", "stricter"),
        "actions": _named("action", _of_action),
    },
    "scope": {
        "developer": _set("unknown"),
        "when": _plain("unknown"),
        "actions": _set("unknown"),
    },
    "fact": {"title": _words, "unit": _plain("unknown")},
    "domain": {
        "title": _words,
        "status": _plain("unknown"),
        "clause": _words,
        "statement": _words,
    },
    "standard": {
        "title": _words,
        "clause": _words,
        "level": _level,
        "undefined": _plain("unknown"),
        "criteria": _named("criterion", "stricter", absent_differs=True),
        "attested_by": _set("stricter", none_is_silent=True),
        "subsumes": _set("looser"),
        "review": _limit,
        "attackers": _attackers,
        "on_shortfall": _each("consequence", "stricter", "do"),
        "interim_measures": _one("interim-measures", "looser"),
    },
    "criterion": {
        "statement": _statement,
        "clause": _words,
        "parts": _named("part", "stricter", absent_differs=True),
    },
    "part": {"statement": _statement, "clause": _words},
    "consequence": _EFFECT,
    "interim-measures": _PERMITTED,
    "baseline": {
        "clause": _words,
        "level": _level,
        "requires": _each("requirement", "stricter", "standard"),
    },
    "requirement": {"before": _set("stricter")},
    "exception": _PERMITTED,
    "line": {
        "title": _words,
        "unit": _plain("unknown"),
        "riskier": _plain("unknown"),
        "rule_out": _zone("looser"),
        "rule_in": _zone("stricter"),
        "point_value_suffices": _choice(strict=False),
        "status": _plain("unknown"),
        "note": _words,
    },
    "threshold": {
        "domain": _plain("unknown"),
        "kind": _plain("unknown"),
        "risk": _plain("unknown"),
        "statement": _statement,
        "clause": _words,
        "level": _level,
        "corresponds": _each("correspondence", "neither", "policy", "threshold"),
        "requires": _each("requirement", "stricter", "standard"),
        "recommends": _each("recommendation", "neither", "standard"),
        "prohibits": _each("prohibition", "stricter", "actions"),
        "limits": _each("limitation", "stricter", "id"),
        "reached": _counts_against,
        "ruled_out": _ruled_out,
        "not_ruled_out": _inline,
        "evidence": _set("neither"),
        "obligations": _each("obligation", "stricter", "id"),
    },
    "correspondence": {"confidence": _plain("neither"), "statement": _words},
    "recommendation": {"before": _set("neither"), "clause": _words},
    "prohibition": _EFFECT,
    "limitation": _EFFECT,
    "obligation": {
        "statement": _statement,
        "clause": _words,
        "by": _plain("unknown"),
        "to": _set("stricter", none_is_silent=True),
        "due": _due,
        "since_assessment": _plain("unknown"),
        "binding": _choice(strict=True),
    },
    "reassess": {"clause": _words, "when": _counts_against},
    "action": {
        "statement": _statement,
        "clause": _words,
        "needs": _set("stricter"),
        "sign_offs": _each("sign-off", "stricter", "verb", "role"),
        "may_reverse": _each("reversal", "stricter", "role"),
        "obligations": _each("obligation", "stricter", "id"),
    },
    "sign-off": {"clause": _words, "max_age": _limit},
    "reversal": {"clause": _words},
}
