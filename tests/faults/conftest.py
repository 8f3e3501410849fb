"""Everything in this folder is slow: real runs, whose processes are killed. One SFT policy serves all of them."""

from pathlib import Path

import pytest

from tests.faults.training import POLICY_OVERRIDES, Training

FOLDER = Path(__file__).parent


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks the tests of this folder and gives them time."""
    for item in items:
        if FOLDER in item.path.parents:
            item.add_marker(pytest.mark.slow)
            item.add_marker(pytest.mark.timeout(900))


@pytest.fixture(scope="session")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An SFT policy most of whose workflows run: what is to be killed then has something to do."""
    folder = tmp_path_factory.mktemp("faults") / "start"
    with Training(folder, POLICY_OVERRIDES) as start:
        assert start.process.wait(timeout=600) == 0, start.console()
    return folder / "sft"
