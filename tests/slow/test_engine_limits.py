"""Which limits vLLM gives our engines on which card. No engine is started."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import AsyncMock

import pytest

from rollout.engines.interface import EngineSpec
from rollout.engines.vllm.arguments import GPU_SHARE, engine_environment
from rollout.engines.vllm.backend import VLLMBackend
from rollout.nano.policy import make_nano_policy
from rollout.settings import ModelSettings, RolloutSettings

MODEL = ModelSettings(max_prompt_tokens=3072, max_response_tokens=4096, dtype="bfloat16")


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_nano_policy(tmp_path_factory.mktemp("policy") / "nano", ["a b c"] * 8, seed=0)


async def asked_for(policy: Path, rollout: RolloutSettings, device: str, monkeypatch: pytest.MonkeyPatch) -> tuple[Any, Any]:
    """What vLLM is asked for by an engine that loads: arguments and context."""
    from vllm.v1.engine.async_llm import AsyncLLM

    asked: list[tuple[Any, Any]] = []

    def from_engine_args(args: Any, **options: Any) -> SimpleNamespace:
        asked.append((args, options.get("usage_context")))
        return SimpleNamespace(collective_rpc=AsyncMock())

    monkeypatch.setattr(AsyncLLM, "from_engine_args", from_engine_args)
    for name in engine_environment(device):
        monkeypatch.setenv(name, "")  # an engine sets them for good
    await VLLMBackend(EngineSpec(policy, MODEL, rollout, device)).load(policy)
    return asked[0]


def on_card(args: Any, context: Any, memory_gib: int, name: str, monkeypatch: pytest.MonkeyPatch) -> tuple[int, int]:
    """Sequences and tokens of a step that vLLM itself chooses on a card."""
    from vllm.engine import arg_utils

    no, yes = (lambda: False), (lambda: memory_gib * 2**30)
    card = SimpleNamespace(get_device_total_memory=yes, get_device_name=lambda: name, is_tpu=no, is_cpu=no)
    monkeypatch.setattr(arg_utils, "current_platform", card)
    args.enable_chunked_prefill = True
    model = SimpleNamespace(max_model_len=args.max_model_len, is_multimodal_model=False)
    args._set_default_max_num_seqs_and_batched_tokens_args(context, model, SimpleNamespace(use_batched_dp_moe=False))
    return args.max_num_seqs, args.max_num_batched_tokens


@pytest.mark.parametrize(
    ("memory_gib", "name", "limits"),
    [
        (79, "NVIDIA H100 80GB HBM3", (1024, 16384)),
        (139, "NVIDIA H200", (1024, 16384)),
        (178, "NVIDIA B200", (1024, 16384)),
        (79, "NVIDIA A100-SXM4-80GB", (256, 8192)),
        (23, "NVIDIA L4", (256, 8192)),
    ],
)
async def test_an_engine_on_a_gpu_has_the_limits_that_vllm_gives_offline_inference_on_that_card(
    policy: Path, memory_gib: int, name: str, limits: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    args, context = await asked_for(policy, RolloutSettings(rounds=3), "cuda", monkeypatch)
    assert on_card(args, context, memory_gib, name, monkeypatch) == limits


async def test_limits_that_the_user_gives_hold(policy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = RolloutSettings(engine_args={"max_num_seqs": 32, "max_num_batched_tokens": 4096, "gpu_memory_utilization": 0.5})
    args, context = await asked_for(policy, given, "cuda", monkeypatch)
    assert on_card(args, context, 79, "NVIDIA H100 80GB HBM3", monkeypatch) == (32, 4096) and args.gpu_memory_utilization == 0.5


async def test_an_engine_leaves_a_share_of_its_gpu_to_weights_on_their_way(policy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    args, _ = await asked_for(policy, RolloutSettings(), "cuda", monkeypatch)
    assert args.gpu_memory_utilization == GPU_SHARE == 0.85


async def test_an_engine_on_cpu_has_the_limits_that_we_set(policy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    args, _ = await asked_for(policy, RolloutSettings(), "cpu", monkeypatch)
    assert (args.max_num_seqs, args.max_num_batched_tokens) == (256, 8192)
