"""Real runs, whose processes are killed. One SFT policy serves all of them."""

from pathlib import Path

import pytest

from tests.faults.training import POLICY_OVERRIDES, Training


@pytest.fixture(scope="session")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An SFT policy most of whose workflows run: what is to be killed then has something to do."""
    folder = tmp_path_factory.mktemp("faults") / "start"
    with Training(folder, POLICY_OVERRIDES) as start:
        assert start.process.wait(timeout=600) == 0, start.console()
    return folder / "sft"
