"""A plugin for runs that ask only whether code is reached, or whether a change to it is seen.

`-p tests.quick`: each property test tries a few examples, the same in every run, so that what one run
finds is found again; and tests that take as long as hundreds of others are left out. The laws
themselves are held by the runs without it.
"""

import pytest
from hypothesis import settings

FEW = 25

SLOW = (
    "test_any_recorded_version_is_read_back_as_it_was",
    "test_every_shipped_version_is_proved_and_its_proof_is_current",
    "test_no_small_change_goes_untold",
    "test_no_version_is_looser_than_itself",
    "test_one_of_many_clauses_may_deny_alone",
    "test_what_is_never_allowed_is_not_allowed_on_other_evidence_either",
    "test_what_is_said_to_be_stricter_never_permits_more",
)


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Whole functions are run where single cases are named: names of cases may hold what pytest does
    not read back, and a mutant for which no test is found would count as killed.
    """
    config.args = sorted({name.partition("[")[0] for name in config.args})


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    left_out = [item for item in items if item.name.startswith(SLOW)]
    items[:] = [item for item in items if not item.name.startswith(SLOW)]
    config.hook.pytest_deselected(items=left_out)
    # Texts that are kept whole see most changes at once, and a run may end at the first.
    items.sort(key=lambda item: "kept" not in item.name)
    for item in items:
        test = getattr(item, "obj", None)
        # Hypothesis has no other place for what a decorator has said already.
        stated = getattr(test, "_hypothesis_internal_use_settings", None)
        if stated is not None:
            few = min(stated.max_examples, FEW)
            again = settings(stated, max_examples=few, derandomize=True, database=None)
            test._hypothesis_internal_use_settings = again  # type: ignore[union-attr]
