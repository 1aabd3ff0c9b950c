"""How much a decision table watches: changes that no case notices survive."""

from app.determination.cases import Case, read_cases
from app.determination.coverage import coverage, mutants
from app.errors import InvalidDocument
from app.policy.language import checked_policy
from app.policy.version import PolicyVersion
from tests.determination.test_reading import LINES, RULED_OUT, policy, threshold

NOTHING = """
policy: p@1
cases:
  - name: nothing-is-known
    note: A model of which nothing is known.
    at: 2025-01-10T00:00:00Z
    action: deploy
    model: {model: m@1, developer: dev}
    want: {}
"""
WATCHES = NOTHING.replace("want: {}", "want: {decision: deny, level: null}")
ALSO = (
    WATCHES
    + """
  - name: ruled-out
    note: Both roles ruled it out.
    like: nothing-is-known
    evidence:
      assessments:
        - kind: comprehensive
          conducted_at: 2025-01-02T00:00:00Z
          assessor: a
          findings: [{threshold: T, outcome: ruled-out, by: [ceo, rso], reason: r}]
    want: {decision: allow}
"""
)


def cases(text: str) -> tuple[Case, ...]:
    return read_cases(text.replace(", level: null", "").encode()).cases


def accepted(version: PolicyVersion) -> int:
    """How many mutants the language takes."""
    count = 0
    for mutant in mutants(version):
        try:
            checked_policy(mutant.document)
        except InvalidDocument:
            continue
        count += 1
    return count


def test_a_table_that_watches_nothing_lets_every_mutant_live() -> None:
    found = coverage(policy(), cases(NOTHING))

    assert found.killed == 0
    assert len(found.survivors) == found.mutants > 20


def test_each_case_more_leaves_fewer_survivors() -> None:
    none, one, two = (coverage(policy(), cases(text)) for text in (NOTHING, WATCHES, ALSO))

    assert 0 == none.killed < one.killed < two.killed
    for found in (none, one, two):
        assert found.killed + len(found.survivors) == found.mutants
    assert {m.pointer for m in two.survivors} < {m.pointer for m in none.survivors}


def test_a_mutant_that_the_language_refuses_is_not_counted() -> None:
    version = policy()
    found = coverage(version, cases(WATCHES))

    assert found.mutants == accepted(version) < sum(1 for _ in mutants(version))


def test_a_mutant_says_where_and_what_it_changed() -> None:
    turned = ("/thresholds/T/not_ruled_out/means", "binds", "does-not-bind")
    made = [(m.pointer, m.was, m.now) for m in mutants(policy())]
    survivors = coverage(policy(), cases(ALSO)).survivors

    assert turned in made
    assert turned not in [(m.pointer, m.was, m.now) for m in survivors]


def changed(version: PolicyVersion, pointer: str) -> list[object]:
    """What the mutants say instead of what stands there."""
    return [m.now for m in mutants(version) if m.pointer == pointer]


def test_a_number_is_halved_and_doubled_and_nought_is_moved_both_ways() -> None:
    line = LINES["up"] | {"rule_out": {"at_most": "0"}}
    version = policy(lines=LINES | {"up": line})

    assert changed(version, "/lines/up/rule_in/at_least")[:2] == ["2.5", "10"]
    assert changed(version, "/lines/up/rule_out/at_most")[:2] == ["-1", "1"]


def test_all_of_one_is_any_of_one_so_it_is_not_turned() -> None:
    """A change that cannot matter would survive every table."""
    pair = {"all": [RULED_OUT, {"finding": "ruled-out"}]}
    one, two = (
        policy(thresholds={"T": threshold(ruled_out=tree)}) for tree in ({"all": [RULED_OUT]}, pair)
    )
    place = "/thresholds/T/ruled_out"

    assert not [now for now in changed(one, place) if isinstance(now, dict) and "any" in now]
    assert [now for now in changed(two, place) if isinstance(now, dict) and "any" in now]
