"""Packed rows with shared prompts give what separate rows give."""

import pytest
import torch
import torch.nn.functional as F
from transformers import LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM, Qwen3Config, Qwen3ForCausalLM

from trainer.shared_prompt import NAME, pack

SMALL = {
    "vocab_size": 50,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
}
ROWS = [([1, 2, 3], [4, 5]), ([1, 2, 3], [6, 7, 8, 9]), ([10], [11, 12, 13]), ([1, 2, 3], [14]), ([15, 16, 17, 18, 19], [20, 21])]


def model(kind: str) -> torch.nn.Module:
    torch.manual_seed(0)
    if kind == "qwen2":
        return Qwen2ForCausalLM(Qwen2Config(**SMALL, tie_word_embeddings=True))
    if kind == "qwen3":
        return Qwen3ForCausalLM(Qwen3Config(**SMALL, head_dim=8))
    return LlamaForCausalLM(LlamaConfig(**SMALL))


def jagged(rows: list[list[int]]) -> torch.Tensor:
    return torch.nested.as_nested_tensor([torch.tensor(row) for row in rows], layout=torch.jagged)


def separate(policy: torch.nn.Module) -> torch.Tensor:
    """Log-probabilities of the response tokens, one row at a time."""
    policy.config._attn_implementation = "sdpa"
    parts = []
    for prompt, response in ROWS:
        ids = torch.tensor([prompt + response])
        logits = policy(input_ids=ids, use_cache=False).logits[0, len(prompt) - 1 : -1]
        parts.append(-F.cross_entropy(logits, ids[0, len(prompt) :], reduction="none"))
    return torch.cat(parts)


def packed(policy: torch.nn.Module) -> torch.Tensor:
    """The same from one sequence."""
    policy.config._attn_implementation = NAME
    rows = pack(jagged([prompt for prompt, _ in ROWS]), jagged([response for _, response in ROWS]))
    output = policy(
        input_ids=rows.ids_1N,
        attention_mask=None,
        position_ids=rows.positions_1N,
        logits_to_keep=rows.sources,
        packed_rows=rows,
        use_cache=False,
    )
    return -F.cross_entropy(output.logits[0], rows.targets, reduction="none")


@pytest.mark.parametrize("kind", ["qwen2", "qwen3", "llama"])
def test_packed_rows_have_the_log_probabilities_and_gradients_of_separate_rows(kind):
    policy = model(kind)
    weights = torch.arange(1.0, 13.0)
    results = []
    for forward in (separate, packed):
        policy.zero_grad()
        logprobs = forward(policy)
        (logprobs * weights).sum().backward()
        results.append((logprobs.detach(), [parameter.grad.clone() for parameter in policy.parameters()]))
    (expected, expected_gradients), (actual, gradients) = results
    torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-5)
    for gradient, expected_gradient in zip(gradients, expected_gradients, strict=True):
        torch.testing.assert_close(gradient, expected_gradient, rtol=1e-4, atol=1e-5)


def test_a_prompt_that_siblings_share_is_computed_once():
    rows = pack(jagged([prompt for prompt, _ in ROWS]), jagged([response for _, response in ROWS]))
    assert rows.ids_1N.shape == (1, 3 + 1 + 5 + 12)
    assert rows.positions_1N[0].tolist() == [0, 1, 2, 0, 0, 1, 2, 3, 4, 3, 4, 3, 4, 5, 6, 1, 2, 3, 3, 5, 6]


def test_rows_longer_than_a_sliding_window_are_refused():
    config = Qwen2Config(**SMALL, use_sliding_window=True, sliding_window=4, max_window_layers=0)
    with pytest.raises(ValueError, match="sliding window of 4"):
        packed(Qwen2ForCausalLM(config))
