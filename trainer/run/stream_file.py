"""The stream's state in a checkpoint: positions as JSON, collected groups (worker calls that were paid for) beside them."""

import json
import pickle
from pathlib import Path

from rollout.groups.stream import StreamState

POSITIONS = "stream.json"
GROUPS = "groups.pkl"
"""Written and read by this program alone; of another version of it, the groups are collected again."""


def write_stream(folder: Path, state: StreamState) -> None:
    """Writes both files."""
    positions = {
        "next_position": state.next_position,
        "ready": [ready.position for ready in state.ready],
        "under_way": list(state.under_way),
        "flat_in_a_row": dict(state.flat_in_a_row),
    }
    (folder / GROUPS).write_bytes(pickle.dumps(state.ready))
    (folder / POSITIONS).write_text(json.dumps(positions))


def read_stream(folder: Path) -> StreamState:
    """What ``write_stream`` wrote. Groups that cannot be read any more become positions that start anew."""
    positions = json.loads((folder / POSITIONS).read_text())
    flat = positions.get("flat_in_a_row", {})  # checkpoints of earlier versions have none
    try:
        ready = pickle.loads((folder / GROUPS).read_bytes())
        assert [one.position for one in ready] == positions["ready"]
    except Exception:
        return StreamState(positions["next_position"], (), tuple(sorted(positions["under_way"] + positions["ready"])), flat)
    return StreamState(positions["next_position"], ready, tuple(positions["under_way"]), flat)
