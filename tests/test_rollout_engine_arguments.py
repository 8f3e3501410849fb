"""What a vLLM engine is asked for."""

from typing import Any, Literal

import pytest

from rollout.settings import ModelSettings, RolloutSettings, weights_dtype


@pytest.mark.parametrize(
    ("dtype", "engine_args", "expected"),
    [
        ("float32", {}, "float32"),
        ("bfloat16", {}, "bfloat16"),
        ("float32", {"dtype": "bfloat16"}, "bfloat16"),
        ("bfloat16", {"dtype": "half"}, "float16"),
        ("bfloat16", {"dtype": "float"}, "float32"),
        ("bfloat16", {"dtype": "auto"}, None),
        ("bfloat16", {"max_num_seqs": 4}, "bfloat16"),
    ],
)
def test_weights_are_held_in_the_type_that_the_engine_is_asked_for(
    dtype: Literal["float32", "bfloat16"], engine_args: dict[str, Any], expected: str | None
) -> None:
    assert weights_dtype(ModelSettings(dtype=dtype), RolloutSettings(engine_args=engine_args)) == expected
