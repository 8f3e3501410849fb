"""Packed rows with shared prompts give what separate rows give."""

import itertools

import pytest
import torch
import torch.nn.functional as F
from transformers import LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM, Qwen3Config, Qwen3ForCausalLM

from trainer.engines.packed_logprobs import token_figures
from trainer.engines.shared_prompt import NAME, attend_flash, attend_padded, pack

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


def flash_kernel(query, key, value, starts_q, starts_k, longest_q, longest_k, *, scale, window_size, enable_gqa):
    """What torch's ``varlen_attn`` promises, row by row; a causal window ends at each row's last key."""
    assert (window_size, starts_q.dtype, starts_k.dtype) == ((-1, 0), torch.int32, torch.int32)
    outputs = []
    for (start_q, end_q), (start_k, end_k) in zip(pairs(starts_q), pairs(starts_k), strict=True):
        assert end_q - start_q <= longest_q and end_k - start_k <= longest_k
        heads = [states.transpose(0, 1) for states in (query[start_q:end_q], key[start_k:end_k], value[start_k:end_k])]
        sees = torch.ones(end_q - start_q, end_k - start_k).tril(end_k - start_k - (end_q - start_q)).bool()
        output = F.scaled_dot_product_attention(*heads, attn_mask=sees, scale=scale, enable_gqa=enable_gqa)
        outputs.append(output.transpose(0, 1))
    return torch.cat(outputs)


def pairs(starts: torch.Tensor) -> list[tuple[int, int]]:
    bounds = starts.tolist()
    return list(itertools.pairwise(bounds))


def test_flash_kernels_are_given_the_same_rows_as_padded_attention():
    prompts, responses = jagged([prompt for prompt, _ in ROWS]), jagged([response for _, response in ROWS])
    padded, flash = pack(prompts, responses), pack(prompts, responses, flash=True)
    assert padded.flash is None and flash.flash is not None and flash.key_bias_B1TL is None
    torch.manual_seed(0)
    query, key, value = torch.randn(21, 4, 8), torch.randn(21, 2, 8), torch.randn(21, 2, 8)
    expected = attend_padded(query, key, value, padded, 0.3)
    torch.testing.assert_close(attend_flash(query, key, value, flash.flash, 0.3, kernel=flash_kernel), expected)


def test_torchs_kernel_takes_what_is_passed_to_it():
    """By name on CPU, where it cannot run: a change of its signature fails here first."""
    import inspect

    from torch.nn.attention.varlen import varlen_attn

    parameters = inspect.signature(varlen_attn).parameters
    assert list(parameters)[:7] == ["query", "key", "value", "cu_seq_q", "cu_seq_k", "max_q", "max_k"]
    assert {"scale", "window_size", "enable_gqa"} <= set(parameters)


@pytest.mark.gpu
def test_torchs_kernel_on_a_gpu_attends_as_padded_attention_does():
    prompts, responses = (jagged([row[part] for row in ROWS]).cuda() for part in (0, 1))
    padded, flash = pack(prompts, responses), pack(prompts, responses, flash=True)
    assert flash.flash is not None
    shapes = [(21, 4, 64), (21, 2, 64), (21, 2, 64)]
    states = [torch.randn(shape, device="cuda", dtype=torch.bfloat16, requires_grad=True) for shape in shapes]
    outputs = [attend_padded(*states, padded, 0.3), attend_flash(*states, flash.flash, 0.3)]
    torch.testing.assert_close(outputs[1], outputs[0], rtol=2e-2, atol=2e-2)
    gradients = [torch.autograd.grad(output.float().pow(2).sum(), states) for output in outputs]
    for actual, expected in zip(gradients[1], gradients[0], strict=True):
        torch.testing.assert_close(actual, expected, rtol=5e-2, atol=5e-2)


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_short_logits_become_float32_chunk_by_chunk_with_the_same_figures_and_gradients(temperature):
    torch.manual_seed(0)
    logits, targets = torch.randn(5000, 11).bfloat16(), torch.randint(11, (5000,))
    results = []
    for given in (logits.float(), logits):
        leaf = given.clone().requires_grad_()
        logprobs, entropies = token_figures(leaf, targets, temperature, entropy=True)
        (gradient,) = torch.autograd.grad((logprobs + 0.1 * entropies).sum(), leaf)
        results.append((logprobs, entropies, gradient.float()))
    for actual, expected in zip(results[1], results[0], strict=True):
        torch.testing.assert_close(actual, expected, rtol=1e-2, atol=1e-2)
