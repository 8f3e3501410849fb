"""Credit for parts of an episode: what a round earns, and whether parts tell siblings apart.

Credit by round (the paper's figure 3 scores each round): what the tokens of round k of episode i earn is the mean of what the round is
worth by itself and of what the episode is worth,

    R[i, k] = (r[i, k] + R[i]) / 2,

compared with R[j, k] of the siblings j that have a round k. Up to the factor that is MT-GRPO's sum of turn-level and outcome-level
advantages with a weight of 1 (arXiv 2505.11821). The round's own part tells which round was good; the episode's lets a round answer for
what came after it. Rewards of later rounds are not summed up: an episode ends once its public tests pass, so a sum would pay for
rounds. An episode of one round earns its reward, as with credit by episode.
"""

from dataclasses import replace

from reward.attempt import Attempt
from reward.group import score_group
from reward.settings import RewardSettings
from rollout.records import Episode, Group, Round


def with_round_scores(group: Group, settings: RewardSettings) -> Group:
    """The group with ``Round.score`` set: the round's performance and its own costs by the weights of the reward, the floor for a refused
    one. None where a machine failed."""
    scores: dict[tuple[int, int], Round] = {}
    for number in range(max((len(episode.rounds) for episode in group.episodes), default=0)):
        reached = [(place, episode.rounds[number]) for place, episode in enumerate(group.episodes) if number < len(episode.rounds)]
        for (place, part), score in zip(
            reached, score_group([_attempt(part) for _, part in reached], group.problem, settings), strict=True
        ):
            scores[place, number] = replace(part, score=score)
    episodes = tuple(
        replace(episode, rounds=tuple(scores[place, number] for number in range(len(episode.rounds))))
        for place, episode in enumerate(group.episodes)
    )
    return replace(group, episodes=episodes)


def round_reward(episode: Episode, number: int, total: float) -> float:
    """What the tokens of one round of an episode earn, whose reward is ``total``; just that where the round has no score of its own."""
    own = episode.rounds[number].score
    return (own.total + total) / 2 if own is not None else total


def _attempt(part: Round) -> Attempt:
    return Attempt(part.workflow, part.runs, (), (part.completion.text,), len(part.completion.token_ids))
