"""The attack suite: nothing gets out of the box and no forgery passes, and outside of the box the attacks work."""

import os

import pytest

from sandbox.backend import LEVELS
from tests.attack_pairs import PAIRS, talk_outside
from tests.attack_suite import (
    ESCAPES,
    FORGERIES,
    escapes_through,
    forgeries_through,
    pairs_through,
    passes_a_shared_interpreter,
    succeeds_outside,
)

DOCUMENTED = {"landlock": {name for name, attack in ESCAPES.items() if attack.landlock_lets_through}, "namespace": set[str]()}


@pytest.mark.parametrize("level", LEVELS[1:])
async def test_no_escape_gets_through_but_the_documented_ones(level: str):
    try:
        through = await escapes_through(level)
    except ValueError as error:
        pytest.skip(str(error))
    assert set(through) <= DOCUMENTED[level]


@pytest.mark.parametrize("level", LEVELS[1:])
async def test_no_run_tells_another_anything(level: str):
    try:
        assert await pairs_through(level) == []
    except ValueError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("name", PAIRS)
def test_without_a_box_two_programs_talk(name: str):
    assert talk_outside(PAIRS[name], f"fr-pair-{os.getpid()}")


@pytest.mark.parametrize("level", LEVELS[1:])
async def test_no_forgery_passes_a_test(level: str):
    try:
        assert await forgeries_through(level) == []
    except ValueError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("name", [name for name, attack in ESCAPES.items() if attack.control])
def test_without_a_box_the_escape_succeeds(name: str):
    assert succeeds_outside(ESCAPES[name])


@pytest.mark.parametrize("name", FORGERIES)
def test_in_one_interpreter_with_its_tests_the_forgery_passes(name: str):
    assert passes_a_shared_interpreter(FORGERIES[name])


def test_the_suite_has_at_least_80_attacks():
    assert len(ESCAPES) + len(FORGERIES) >= 80
