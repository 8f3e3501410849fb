"""Credit by span: what an operator call is worth is seen by running its workflow without it (LEMON, arXiv 2605.14483; the difference to
what would have happened otherwise as an advantage: COMA, arXiv 1705.08926).

The edited workflow meets the seeds of the original, so calls before the edit get the replies that they got, out of the worker's cache
where the pool has room on the problem's own sandbox, and the difference is what the edit makes. It never enters a reward.
"""

import asyncio
import json
import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import islice

from reward.group import score_group
from reward.terms import DIVERSITY, PERFORMANCE
from rollout.groups.collect import Collector, SharedRuns, cancel_all, stable_seed
from rollout.groups.token_spans import WrittenTokens
from rollout.records import Edit, Group, Span
from sandbox.records import OperatorCall, Run
from workflow.language.edits import CallEdit, call_lines, edit_call
from workflow.outcome import Outcome
from workflow.program import Workflow


@dataclass(frozen=True, slots=True)
class _Written:
    """A workflow of a group with the episodes that wrote it."""

    number: int
    """The round in which they did."""
    places: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class _Planned:
    """An edit that may be run."""

    written: _Written
    call: int
    """Which of the workflow's calls, in the order of ``call_lines``."""
    edit: CallEdit


async def with_edits(group: Group, tag: str, collector: Collector, limit: int) -> Group:
    """The group with ``Group.edits``: for ``limit`` operator calls of its judged workflows, chosen by chance, what they are worth.

    Args:
        tag: under which the group was collected; with the problem it gives the seeds.
        limit: each takes as many runs as a workflow has.
    """
    calls = [
        (written, call)
        for written in _workflows(group, share=collector.rollout.share_runs)
        for call in range(len(call_lines(_workflow(group, written).source)))
    ]
    random.Random(stable_seed(collector.seed, tag, group.problem.id, "edits")).shuffle(calls)
    edits = ((written, call, edit_call(_workflow(group, written), call)) for written, call in calls)
    chosen = islice((_Planned(written, call, edit) for written, call, edit in edits if edit is not None), limit)
    spans = _SpanFinder(group, collector.renderer.decode)
    tasks = [asyncio.ensure_future(_measure(group, tag, collector, one, spans)) for one in chosen]
    try:
        return replace(group, edits=tuple(await asyncio.gather(*tasks)))
    finally:
        await cancel_all(tasks)


def _workflows(group: Group, *, share: bool) -> list[_Written]:
    """The judged workflows of which all is known; siblings that shared their runs count once."""
    found: dict[tuple[object, ...], list[int]] = {}
    for place, episode in enumerate(group.episodes):
        runs = [run for part in episode.rounds for run in part.runs]
        if episode.score is not None and episode.workflow is not None and all(run.outcome is not Outcome.INFRA_ERROR for run in runs):
            found.setdefault((episode.judged, episode.workflow.fingerprint if share else place), []).append(place)
    return [_Written(group.episodes[places[0]].judged, tuple(places)) for places in found.values()]


def _workflow(group: Group, written: _Written) -> Workflow:
    workflow = group.episodes[written.places[0]].workflow
    assert workflow is not None
    return workflow


async def _measure(group: Group, tag: str, collector: Collector, planned: _Planned, spans: "_SpanFinder") -> Edit:
    written, edit = planned.written, planned.edit
    first = written.places[0]
    shared = SharedRuns(collector, group.problem, tag, collector.rollout, public=collector.rollout.rounds > 1)
    try:
        runs = await shared.runs(written.number, first, edit.workflow)
    finally:
        await cancel_all(shared.tasks.values())
    lost = any(run.outcome is Outcome.INFRA_ERROR for run in runs)
    worth = None if lost else _worth(group, first, edit, runs, collector)
    found = [spans.find(place, planned.call) for place in written.places]
    return Edit(
        operator=edit.operator,
        kind=edit.kind,
        difference=None if worth is None else worth[0],
        performance=None if worth is None else worth[1],
        spans=tuple(span for span in found if span is not None),
        unplaced=found.count(None),
        worker_calls=sum(run.execution.worker_calls for run in runs),
        repeated_calls=sum(map(_repeated, group.episodes[first].runs, runs)),
        cost_dollars=sum(run.cost_dollars for run in runs),
    )


def _worth(group: Group, place: int, edit: CallEdit, runs: Sequence[Run], collector: Collector) -> tuple[float, float] | None:
    """Reward and performance of the episode at ``place`` less what they would be with the edited workflow.

    Without what compares it with its siblings (diversity): they do not become more or less alike by what a run of ours leaves out.
    """
    original = group.episodes[place].attempt
    assert original.workflow is not None
    edited = replace(original, workflow=replace(original.workflow, units=edit.workflow.units), runs=tuple(runs))
    weights = collector.reward.weights.model_copy(update={DIVERSITY: 0.0})
    alone = collector.reward.model_copy(update={"weights": weights})
    (before,), (after,) = (score_group([attempt], group.problem, alone) for attempt in (original, edited))
    if before is None or after is None:
        return None
    return before.total - after.total, before.terms[PERFORMANCE] - after.terms[PERFORMANCE]


def _repeated(original: Run, edited: Run) -> int:
    """Worker calls of operator calls that both runs made with the same arguments and result."""

    def calls(run: Run) -> Counter[str]:
        counts: Counter[str] = Counter()
        for call in run.execution.trace:
            counts[_key(call)] += call.worker_calls
        return counts

    return (calls(original) & calls(edited)).total()


def _key(call: OperatorCall) -> str:
    return json.dumps((call.operator, call.arguments, call.reply, call.error))


class _SpanFinder:
    """Finds the tokens of operator calls."""

    def __init__(self, group: Group, decode: Callable[[Sequence[int]], str]) -> None:
        self._group = group
        self._decode = decode
        self._tokens: dict[int, WrittenTokens] = {}

    def find(self, place: int, call: int) -> Span | None:
        """The tokens of the ``call``-th operator call of the episode at ``place``; None where they cannot be told."""
        episode = self._group.episodes[place]
        completion, workflow = episode.completion, episode.workflow
        assert workflow is not None
        if place not in self._tokens:
            self._tokens[place] = WrittenTokens(completion.token_ids, completion.text, self._decode)
        span = self._tokens[place].span(workflow.source, call_lines(workflow.source)[call])
        start = episode.round_spans[episode.judged][0]
        return Span(place, start + span[0], start + span[1]) if span is not None else None
