"""The channel into the box: what is not a frame, what comes too late, too large, too often or twice."""

import asyncio
import contextlib
import json
import socket
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox.channel import Channel
from sandbox.guest.frames import MAX_FRAME_BYTES, FrameError, decode_body, encode_frame
from sandbox.records import Execution
from sandbox.settings import BudgetSettings, SandboxSettings
from tests.sandbox_parts import PROBLEM, ScriptedWorker, box, raw
from workflow.outcome import Outcome

FRAME = """import json, struct
def frame(message):
    body = json.dumps(message).encode()
    return struct.pack('>I', len(body)) + body
"""


async def received(data: bytes, *, timeout_s: float = 10.0, close: bool = True):
    ours, theirs = socket.socketpair()
    channel = Channel(ours, timeout_s=timeout_s)
    with theirs:
        theirs.sendall(data)
        if close:
            theirs.shutdown(socket.SHUT_WR)
        try:
            return await channel.receive()
        finally:
            channel.close()


async def test_a_frame_arrives_as_it_was_sent():
    assert await received(encode_frame({"id": 1, "text": "ä\n"})) == {"id": 1, "text": "ä\n"}


async def test_a_close_between_frames_is_no_fault():
    assert await received(b"") is None


@pytest.mark.parametrize(
    "data",
    [b"\0", b"\0\0\0\x05{}", b"garbage " * 9, struct.pack(">I", 2) + b"[]", struct.pack(">I", 2) + b"\xff\xff", struct.pack(">I", 0)],
)
async def test_what_is_no_frame_is_refused(data: bytes):
    with pytest.raises(FrameError):
        await received(data)


async def test_a_frame_over_the_limit_is_refused_before_it_is_read():
    with pytest.raises(FrameError, match="over the limit"):
        await received(struct.pack(">I", MAX_FRAME_BYTES + 1), close=False)


async def test_half_a_frame_has_a_deadline():
    with pytest.raises(FrameError, match="not complete"):
        await received(b"\0\0\0\x09{", timeout_s=0.1, close=False)


@pytest.mark.parametrize("depth", [300, 900, 200_000])
def test_deeply_nested_json_is_refused(depth: int):
    with pytest.raises(FrameError):
        decode_body(b'{"a":' + b"[" * depth + b"]" * depth + b"}")


def test_wide_json_is_accepted():
    assert decode_body(b'{"a":[' + b"[],{}," * 300 + b"1]}")["a"][-1] == 1


async def test_a_peer_that_does_not_read_is_dropped():
    ours, theirs = socket.socketpair()
    channel = Channel(ours, timeout_s=0.2)
    with theirs, pytest.raises(FrameError, match="does not read"):
        await channel.send({"text": "x" * (2 << 20)})
    channel.close()


def test_a_lone_surrogate_is_spelt_out():
    message = decode_body(b'{"answer": ["\\ud800 x", {"\\udfff": 1}]}')
    assert message == {"answer": ["\\ud800 x", {"\\udfff": 1}]}
    assert decode_body(json.dumps({"a": "\U0001f600"}).encode()) == {"a": "\U0001f600"}


@given(st.binary(max_size=200))
def test_any_body_is_an_object_or_refused(body: bytes):
    with contextlib.suppress(FrameError):
        assert isinstance(decode_body(body), dict)


async def run(body: str, *, budget: BudgetSettings | None = None, worker: ScriptedWorker | None = None) -> Execution:
    settings = SandboxSettings(budget=budget or BudgetSettings())
    async with box("landlock", settings, worker) as sandbox:
        return await sandbox.execute(raw(FRAME + body), PROBLEM, 1)


async def test_the_first_of_two_finish_frames_counts():
    execution = await run("os.write(3, frame({'finish': {'answer': 'a'}}) + frame({'finish': {'answer': 'b'}}))\nreturn 'c'")
    assert execution.outcome is Outcome.ANSWERED and execution.answer == "a"


async def test_a_finish_frame_without_an_object_is_a_crash():
    assert (await run("os.write(3, frame({'finish': 'answer'}))\nawait asyncio.sleep(9)")).outcome is Outcome.CRASHED


async def test_an_exhausted_budget_is_believed_only_where_the_host_said_so():
    claimed = "os.write(3, frame({'finish': {'error': 'BudgetExceeded', 'kind': 'budget'}}))\nawait asyncio.sleep(9)"
    assert (await run(claimed)).outcome is Outcome.CRASHED


async def test_a_flood_of_calls_ends_the_run():
    flood = "while True:\n    try:\n        await self.generate(problem)\n    except Exception:\n        pass"
    execution = await run(flood, budget=BudgetSettings(calls=2))
    assert execution.outcome is Outcome.CRASHED and "flood" in execution.error and len(execution.trace) <= 1002


async def test_a_flood_of_unanswered_calls_ends_the_run():
    flood = "await asyncio.gather(*[self.generate(problem) for _ in range(1000)])\nreturn 'x'"
    worker = ScriptedWorker(latency_s=5)
    execution = await run(flood, budget=BudgetSettings(calls=1000), worker=worker)
    assert execution.outcome is Outcome.CRASHED and "flood" in execution.error and worker.most_in_flight <= 8


@pytest.mark.parametrize(
    "call",
    [
        "{'id': 1, 'op': 'no_such_operator', 'args': [], 'kwargs': {}}",
        "{'id': 1, 'op': ['generate'], 'args': [], 'kwargs': {}}",
        "{'id': 1, 'op': 'generate', 'args': {}, 'kwargs': []}",
        "{'id': 1, 'op': 'generate', 'args': [1, 2, 3, 4, 5], 'kwargs': {'x': 1}}",
        "{'op': 'generate'}",
        "{'id': {'a': []}, 'op': '__class__', 'args': [None], 'kwargs': {}}",
    ],
)
async def test_a_call_that_means_nothing_is_answered_and_costs_no_worker_call(call: str):
    worker = ScriptedWorker()
    execution = await run(f"os.write(3, frame({call}))\nawait asyncio.sleep(0.1)\nreturn 'fine'", worker=worker)
    assert execution.outcome is not Outcome.INFRA_ERROR and worker.seeds == [], execution


async def test_a_text_with_a_lone_surrogate_reaches_the_worker_spelt_out():
    execution = await run("await self.custom('\\ud800', 'instruction')\nreturn '\\udfff'")
    assert execution.outcome is Outcome.ANSWERED and execution.answer == "\\udfff"


async def test_calls_of_a_finished_run_are_given_up():
    worker = ScriptedWorker(latency_s=3600)
    body = "asyncio.ensure_future(self.generate(problem))\nawait asyncio.sleep(0.1)\nreturn 'done'"
    execution = await run(body, worker=worker)
    assert execution.answer == "done" and len(worker.seeds) == 1


TICKS = """ticks = []
async def tick():
    while True:
        ticks.append(1)
        await asyncio.sleep(0.02)
task = asyncio.create_task(tick())
await self.generate(problem)
return str(len(ticks) > 3)"""
READY = """done = []
asyncio.get_running_loop().call_soon(done.append, 1)
await self.generate(problem)
return str(done == [1])"""
IMPATIENT = """try:
    await asyncio.wait_for(self.generate(problem), 0.05)
except TimeoutError:
    report = await self.custom(problem, 'a hint')
    return str('sum' in report)"""
IN_PARTS = """others = [asyncio.create_task(self.custom(problem, text)) for text in 'ab']
await asyncio.sleep(0)
own = await self.generate(problem)
return str('sum' in own and all(['sum' in await other for other in others]))"""


@pytest.mark.parametrize("body", [TICKS, READY, IMPATIENT, IN_PARTS])
async def test_what_else_a_workflow_has_to_do_goes_on_while_a_call_waits(body: str):
    execution = await run(body, worker=ScriptedWorker(latency_s=1.0))
    assert (execution.outcome, execution.answer) == (Outcome.ANSWERED, "True"), execution.error


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner, max_size=4),
)


@given(_VALUES, st.sampled_from([None, 1]))
def test_frames_are_json_as_the_library_writes_and_reads_it(value: object, indent: int | None):
    message = {"value": value}
    assert encode_frame(message)[4:] == json.dumps(message, separators=(",", ":")).encode()
    assert decode_body(f"\n{json.dumps(message, indent=indent)} ".encode()) == message


@pytest.mark.parametrize(
    "body",
    [
        "return (await self.custom('a' * 4_000_000, 'b'))[:1]",
        "try:\n    await self.ensemble(problem, ['\\ud800' * 690_000])\nexcept Exception as error:\n    return str(error)",
        "body = json.dumps({'id': 'é' * 1_600_000, 'op': 'x', 'args': [], 'kwargs': {}}, ensure_ascii=False).encode()\n"
        "view = memoryview(struct.pack('>I', len(body)) + body)\nwhile view:\n    view = view[os.write(3, view):]\nawait asyncio.sleep(9)",
    ],
)
async def test_no_size_of_a_call_or_of_its_result_makes_the_run_a_fault_of_ours(body: str):
    execution = await asyncio.wait_for(run(body), 300)
    assert execution.outcome is not Outcome.INFRA_ERROR, execution.error


async def test_large_unanswered_calls_are_a_flood():
    flood = "await asyncio.gather(*[self.custom('x' * 3_000_000, 'y') for _ in range(20)])\nreturn 'z'"
    budget = BudgetSettings(tokens=10**9, dollars=100.0)
    execution = await run(flood, budget=budget, worker=ScriptedWorker(latency_s=5))
    assert execution.outcome is Outcome.CRASHED and "flood" in execution.error


async def test_frames_of_many_senders_arrive_whole_however_slowly_they_are_read():
    ours, theirs = socket.socketpair()
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    channel, peer = Channel(ours), Channel(theirs)

    async def sender(number: int) -> None:
        for _ in range(30):
            await channel.send({"id": number, "text": "x" * (3000 * number)})
            await asyncio.sleep(0)

    sending = asyncio.gather(*map(sender, range(1, 9)))
    for _ in range(8 * 30):
        frame = await peer.receive()
        assert frame is not None and len(frame["text"]) == 3000 * frame["id"]
    await sending
    channel.close()
    peer.close()
