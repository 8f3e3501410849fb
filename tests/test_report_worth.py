"""What each operator is worth, as the report says it."""

import pytest

from launch.report.worth import Worth, worth_table

STEPS = [
    {"step": 0, "worth/revise": 0.5, "edited/revise": 3.0, "worth/test": -0.1, "edited/test": 1.0},
    {"step": 1, "worth/revise": 0.1, "edited/revise": 1.0},
    {"step": 2, "reward/mean": 0.5},
]


def test_operators_are_ordered_by_worth_with_edits_counted_over_all_steps():
    # (3 x 0.5 + 0.1) / 4 = 0.4; by steps 3 x 0.1 and 1 x -0.3 apart: sqrt((0.09 + 0.09) x 2) / 4 x 1.96 = 0.294.
    assert worth_table(STEPS) == [Worth("revise", "+0.400", "+0.106 to +0.694", 4), Worth("test", "-0.100", "", 1)]


@pytest.mark.parametrize("rows", [[], [{"step": 0, "reward/mean": 0.5}]])
def test_a_run_without_counterfactual_runs_has_no_table(rows):
    assert worth_table(rows) == []
