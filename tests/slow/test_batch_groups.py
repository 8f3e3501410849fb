"""Groups of episodes as tensors, and traces as SFT rows."""

import pytest
import torch

from reward.score import Score
from rollout.distil import Trace
from rollout.nano.policy import make_tokenizer
from rollout.prompt.meta_prompt import MetaPrompt
from rollout.records import Completion, Episode, Group, Round
from rollout.settings import ModelSettings
from tests.scripted_parts import SINGLE_CALL, problem
from trainer.algorithm.batch import SFTRow, policy_batch, sft_batch, sft_rows
from trainer.engines.token_rows import TokenRows
from trainer.fitting import Lessons
from trainer.settings import GRPOSettings
from workflow.nano.simulated.teacher import corpus
from workflow.outcome import Outcome

NO_WHITENING = GRPOSettings(advantage="grpo", norm_by_std=False)


def episode(reward: float | None, tokens: int = 3) -> Episode:
    score = None if reward is None else Score(reward, {}, False)
    ids = tuple(range(10, 10 + tokens))
    completion = Completion("", ids, tuple(-0.1 * token for token in range(1, tokens + 1)), 0, "stop")
    return Episode("e", (Round(completion, None, None, ()),), 0, score)


def group(*rewards: float | None, prompt: int = 4, tokens: int = 3) -> Group:
    return Group(problem(), tuple(range(1, prompt + 1)), tuple(episode(reward, tokens) for reward in rewards))


def test_every_sampled_token_counts_in_the_loss_and_nothing_else():
    batch = policy_batch([group(0.0, 1.0, tokens=2), group(0.0, 1.0, tokens=5)], GRPOSettings())
    assert batch is not None
    assert batch.rows.loss_mask_BT.tolist() == [[1, 1, 0, 0, 0]] * 2 + [[1] * 5] * 2
    assert batch.rows.response_ids_BT[0].tolist() == [10, 11, 0, 0, 0]
    assert (batch.advantages_BT[:2, 2:] == 0).all()
    assert batch.rollout_logprobs_BT[0].tolist() == pytest.approx([-0.1, -0.2, 0, 0, 0])


def test_feedback_between_rounds_is_read_but_carries_no_loss_and_no_advantage():
    def two_rounds(reward: float) -> Episode:
        first = Round(Completion("", (10, 11), (-0.1, -0.2), 3, "stop"), None, None, ())
        second = Round(Completion("", (12,), (-0.3,), 4, "stop"), None, None, (), "Again.", (20, 21))
        return Episode("e", (first, second), 1, Score(reward, {}, False))

    batch = policy_batch([Group(problem(), (1, 2), (two_rounds(0.0), two_rounds(1.0)))], NO_WHITENING)
    assert batch is not None
    assert batch.rows.response_ids_BT.tolist() == [[10, 11, 20, 21, 12]] * 2
    assert batch.rows.loss_mask_BT.tolist() == [[1, 1, 0, 0, 1]] * 2
    assert batch.rollout_logprobs_BT[1].tolist() == pytest.approx([-0.1, -0.2, 0, 0, -0.3])
    assert batch.advantages_BT.tolist() == [[-0.5, -0.5, 0, 0, -0.5], [0.5, 0.5, 0, 0, 0.5]]


def test_prompts_of_different_length_keep_their_tokens():
    batch = policy_batch([group(0.0, 1.0, prompt=2), group(0.0, 1.0, prompt=5)], GRPOSettings())
    assert batch is not None
    assert batch.rows.prompt_ids_BP.tolist() == [[1, 2, 0, 0, 0]] * 2 + [[1, 2, 3, 4, 5]] * 2
    assert batch.rows.prompt_lengths_B.tolist() == [2, 2, 5, 5]
    assert batch.rows.lengths_B.tolist() == [5, 5, 8, 8]


def test_an_unscored_episode_is_neither_in_the_loss_nor_in_the_baseline():
    batch = policy_batch([group(1.0, None, 0.0)], NO_WHITENING)
    assert batch is not None
    assert batch.rewards_B.tolist() == [1.0, 0.0]
    assert batch.advantages_BT[:, 0].tolist() == [0.5, -0.5]
    assert batch.masked_episodes == 1
    assert batch.dropped_groups == 0


def test_a_group_with_one_scored_episode_contributes_nothing():
    batch = policy_batch([group(5.0, None), group(0.0, 1.0)], NO_WHITENING)
    assert batch is not None
    assert batch.rewards_B.tolist() == [0.0, 1.0]
    assert batch.group_B.tolist() == [1, 1]
    assert (batch.masked_episodes, batch.dropped_groups) == (1, 1)


def test_no_scored_group_gives_no_batch():
    assert policy_batch([group(None, None), group(1.0, None)], GRPOSettings()) is None
    assert policy_batch([], GRPOSettings()) is None


def test_an_empty_completion_is_left_out():
    batch = policy_batch([Group(problem(), (1, 2), (episode(1.0), episode(0.0), episode(0.5, tokens=0)))], GRPOSettings())
    assert batch is not None
    assert len(batch.rows) == 2


class SplitTokenizer:
    """One token a letter."""

    eos_token_id: int | None = 99
    name_or_path = "letters"

    def decode(self, ids: list[int]) -> str:
        return "".join(chr(token + 96) for token in ids)

    def __call__(self, text: str, add_special_tokens: bool) -> dict[str, list[int]]:
        assert not add_special_tokens
        return {"input_ids": [ord(letter) - 96 for letter in text]}


def test_an_sft_row_ends_with_the_end_of_text_token():
    assert sft_rows([((7, 8), "abc")], SplitTokenizer(), ModelSettings()) == [SFTRow((7, 8), (1, 2, 3, 99))]


def test_a_trace_beyond_the_models_limits_is_left_out_whole():
    limits = ModelSettings(max_prompt_tokens=8, max_response_tokens=8)
    traces = [((7,) * 9, "abc"), ((7,) * 8, "abcdefg"), ((7,), "abcdefgh")]
    said: list[str] = []
    assert sft_rows(traces, SplitTokenizer(), limits, said.append) == [SFTRow((7,) * 8, (*range(1, 8), 99))]
    (line,) = said
    assert line.startswith("2 of 3 passed traces are left out of SFT: 1 with a prompt longer than model.max_prompt_tokens=8, 1 with a")
    assert line.endswith("1 with a reply longer than model.max_response_tokens=8.")


def test_a_distillation_counts_the_traces_that_can_be_learnt_from_alone():
    settings = ModelSettings(max_prompt_tokens=4096, max_response_tokens=200)
    prompt = MetaPrompt(make_tokenizer([*corpus(), problem().query]), settings)
    lessons = Lessons([problem(0)], prompt, settings)
    traces = [
        Trace(0, "scripted/0", "q", SINGLE_CALL, Outcome.PASSED),
        Trace(1, "scripted/0", "q", SINGLE_CALL, Outcome.PASSED, reasoning="It may be hard. " * 200),
        Trace(2, "scripted/0", "q", SINGLE_CALL, Outcome.WRONG_ANSWER),
        Trace(3, "scripted/9", "q", SINGLE_CALL, Outcome.PASSED),
    ]
    assert [lessons.add(trace) for trace in traces] == [True, False, False, False]
    assert lessons.useful == {0} and lessons.why_left_out == "1 with a reply longer than model.max_response_tokens=200"


def test_rows_that_all_fit_are_not_spoken_of():
    said: list[str] = []
    sft_rows([((7, 8), "abc")], SplitTokenizer(), ModelSettings(), said.append)
    assert said == []


@pytest.mark.parametrize("text", [f"<think>\nIt is easy.\n</think>\n\n{SINGLE_CALL}", f"It is easy.\n{SINGLE_CALL}"])
def test_a_policy_whose_template_opens_its_thoughts_learns_to_close_them_before_the_code(text: str):
    tokenizer = make_tokenizer([*corpus(), problem().query])
    tokenizer.chat_template = "{{ '<|user|>' + messages[0]['content'] + '<|assistant|><think>\n' }}"
    settings = ModelSettings(max_prompt_tokens=4096, max_response_tokens=1024)
    (row,) = sft_rows([(MetaPrompt(tokenizer, settings).render(problem()), text)], tokenizer, settings)
    assert tokenizer.decode(row.prompt_ids).endswith("<|assistant|><think>\n")
    assert tokenizer.decode(row.response_ids) == f"It is easy.\n</think>\n\n{SINGLE_CALL}{tokenizer.eos_token}"


LONG_PROMPT, LONG_REPLY = ((7,) * 9, "abc"), ((7,), "abcdefghij")
HIDDEN = ((7,), "class Workflow")


@pytest.mark.parametrize(
    ("traces", "needed"),
    [
        (
            [LONG_REPLY],
            r"1 passed traces .*1 with a reply .*max_response_tokens=8\): raise model.max_response_tokens, in",
        ),
        ([LONG_PROMPT] * 2, r"2 passed traces is left for SFT \(2 with a prompt [^,]*\): raise model.max_prompt_tokens, in a new trainer"),
        (
            [HIDDEN],
            r"1 passed .*\(1 with a workflow that its reasoning hides\): ask another teacher \(distil.model\), in",
        ),
        (
            [HIDDEN, LONG_PROMPT],
            r"\(1 with a workflow .*, 1 with a prompt .*\): ask .* and raise model.max_prompt_tokens, in",
        ),
    ],
)
def test_traces_of_which_none_is_left_are_refused_with_each_reason_and_its_remedy(traces, needed: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("trainer.algorithm.batch.policy_turn", lambda text, end: "abc" if text == HIDDEN[1] else text)
    monkeypatch.setattr("trainer.algorithm.batch.find_source", lambda text: text)
    with pytest.raises(ValueError, match=needed):
        sft_rows(traces, SplitTokenizer(), ModelSettings(max_prompt_tokens=8, max_response_tokens=8))


def test_a_tokenizer_without_end_of_text_is_refused():
    tokenizer = SplitTokenizer()
    tokenizer.eos_token_id = None
    with pytest.raises(ValueError, match="letters has no eos_token"):
        sft_rows([((7,), "a")], tokenizer, ModelSettings())


def test_an_sft_batch_counts_every_response_token():
    rows = sft_batch([SFTRow((1, 2, 3), (4, 5)), SFTRow((1,), (6,))])
    assert rows.loss_mask_BT.tolist() == [[1, 1], [1, 0]]


@pytest.mark.parametrize("pairs", [[], [((), (1,))], [((1,), ())]])
def test_rows_without_tokens_are_refused(pairs):
    with pytest.raises(ValueError, match="at least one"):
        TokenRows.of(pairs)


def test_selected_rows_keep_their_tokens():
    rows = TokenRows.of([((1,), (2, 3)), ((4, 5), (6,)), ((7,), (8,))])
    chosen = rows.select(torch.tensor([2, 0]))
    assert chosen.prompt_ids_BP.tolist() == [[7, 0], [1, 0]]
    assert chosen.loss_mask_BT.tolist() == [[1, 0], [1, 1]]
