"""The operations that utilisation is counted with."""

import pytest

from benchmarks.model_shapes import SHAPES, Shape


@pytest.mark.parametrize(("name", "billions"), [("0.5b", 0.494), ("1.5b", 1.544), ("3b", 3.086), ("7b", 7.616)])
def test_shapes_have_the_published_sizes_of_qwen2_5(name: str, billions: float):
    shape = SHAPES[name]
    weights = shape.body + shape.head * (1 if shape.tied else 2)
    assert weights / 1e9 == pytest.approx(billions, rel=1e-3)


def test_a_step_is_six_operations_a_weight_and_token_and_its_attention():
    shape = Shape(hidden=8, layers=2, heads=2, kv_heads=1, intermediate=16, vocabulary=10)
    assert shape.body == 2 * (8 * 8 * 2 + 8 * 4 * 2 + 3 * 8 * 16)
    attended = 1 + 2 + 3  # three tokens, each with itself and those before
    scores_and_values = 2 * 2 * shape.layers * shape.heads * shape.head_dim * attended
    assert shape.step_flops(tokens=3, predicted=2, positions=attended) == 6 * (shape.body * 3 + shape.head * 2) + 3 * scores_and_values
