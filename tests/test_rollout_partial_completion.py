"""Completions that an update of the weights stops and that go on."""

from types import SimpleNamespace
from typing import Any

from rollout.engines.partial_completion import PartialCompletion
from rollout.engines.vllm.backend import stretch_of


def output(tokens: list[int], reason: str) -> Any:
    """What vLLM says about one sequence."""
    return SimpleNamespace(
        token_ids=tokens, logprobs=[{token: SimpleNamespace(logprob=-token / 10)} for token in tokens], finish_reason=reason
    )


def test_each_stretch_of_tokens_keeps_the_version_that_sampled_it() -> None:
    partial = PartialCompletion()
    partial.extend(stretch_of(output([1, 2, 3], "abort"), 2), 4)
    assert partial.finish_reason is None
    partial.extend(stretch_of(output([5, 6], "length"), 0), 5)
    done = partial.completion("text")
    assert done.spans == ((4, 3), (5, 2)) and done.weights_version == 4
    assert done.token_ids == (1, 2, 3, 5, 6) and done.logprobs == (-0.1, -0.2, -0.3, -0.5, -0.6)
    assert (done.finish_reason, done.cached_prompt_tokens, done.text) == ("length", 2, "text")


def test_a_completion_that_was_stopped_before_its_first_token_has_one_span() -> None:
    partial = PartialCompletion()
    partial.extend(stretch_of(output([], "abort"), 0), 4)
    partial.extend(stretch_of(output([7], "stop"), 0), 5)
    assert partial.completion("").spans == ((5, 1),)
