"""Real runs, whose processes are killed. One SFT policy serves all of them."""

from pathlib import Path

import pytest
from filelock import FileLock

from tests.faults.training import POLICY_OVERRIDES, Training


@pytest.fixture(scope="session")
def policy(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """An SFT policy most of whose workflows run: what is to be killed then has something to do."""
    temporary = tmp_path_factory.getbasetemp()
    folder = (temporary if worker_id == "master" else temporary.parent) / "policy"  # the parent belongs to all workers of one session
    with FileLock(f"{folder}.lock"), Training(folder, POLICY_OVERRIDES) as start:  # finished stages are not done again
        assert start.process.wait(timeout=600) == 0, start.console()
    return folder / "sft"
