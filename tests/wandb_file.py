"""Reads what an offline W&B run wrote: LevelDB's log format (32 KiB blocks of framed chunks) of protobuf records."""

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from wandb.proto import wandb_internal_pb2 as protobuf

BLOCK, FILE_HEADER, CHUNK_HEADER = 32_768, 7, 7
FULL, FIRST, MIDDLE, LAST = 1, 2, 3, 4


def records(file: Path) -> Iterator[Any]:
    """The records of a ``.wandb`` file in order."""
    data = file.read_bytes()
    assert data[:4] == b":W&B"
    place, held = FILE_HEADER, b""
    while place + CHUNK_HEADER <= len(data):
        if BLOCK - place % BLOCK < CHUNK_HEADER:  # the rest of a block is padding
            place += BLOCK - place % BLOCK
            continue
        _, length, kind = struct.unpack("<IHB", data[place : place + CHUNK_HEADER])
        if kind == 0:
            return
        chunk = data[place + CHUNK_HEADER : place + CHUNK_HEADER + length]
        place += CHUNK_HEADER + length
        held = chunk if kind in (FULL, FIRST) else held + chunk
        if kind in (FULL, LAST):
            record = protobuf.Record()
            record.ParseFromString(held)
            yield record


def history(file: Path) -> list[dict[str, Any]]:
    """The rows that ``run.log`` wrote, W&B's own columns left out."""
    rows = []
    for record in records(file):
        if record.WhichOneof("record_type") == "history":
            items = {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in record.history.item}
            rows.append({name: value for name, value in items.items() if not name.startswith("_")})
    return rows
