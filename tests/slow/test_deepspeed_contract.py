"""Every piece of DeepSpeed that this project relies on beyond its documented interface: an upgrade fails here first."""

import inspect
import os
import socket
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

from trainer.engines.platform import select_platform

select_platform()

ROOT = Path(__file__).resolve().parent.parent.parent


def test_deepspeed_has_the_version_that_this_was_written_for():
    assert version("deepspeed") == "0.19.8"


def test_deepspeed_is_loaded_only_by_its_engine():
    """Its import takes seconds and says what it thinks of the machine."""
    program = (
        "from trainer.engines.platform import select_platform\nselect_platform()\n"
        "import sys, trainer.learner.worker, rollout.nano.policy\nprint('deepspeed' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=100)
    assert done.stdout.split()[-1] == "False", done.stderr


def test_no_operator_is_compiled_when_ranks_meet():
    import trainer.engines.deepspeed as engine

    assert vars(engine.deepspeed.ops)["__compatible_ops__"] == {}
    from deepspeed.comm.torch import build_shm_op

    assert "__compatible_ops__.get(builder.NAME, False)" in inspect.getsource(build_shm_op)
    assert build_shm_op() is None


def test_the_optimizer_of_a_stage_is_chosen_by_the_method_that_we_override():
    from deepspeed.runtime.engine import DeepSpeedEngine
    from deepspeed.runtime.zero.config import ZERO_OPTIMIZATION

    assert list(inspect.signature(DeepSpeedEngine._do_optimizer_sanity_check).parameters) == ["self", "basic_optimizer"]
    source = inspect.getsource(DeepSpeedEngine._configure_optimizer)
    assert "self._do_optimizer_sanity_check(basic_optimizer)" in source
    assert ZERO_OPTIMIZATION == "zero_optimization"


def test_the_optimizers_keep_their_parts_where_we_read_them():
    from deepspeed.runtime.zero.stage3 import DeepSpeedZeroOptimizer_Stage3
    from deepspeed.runtime.zero.stage_1_and_2 import DeepSpeedZeroOptimizer

    flat = inspect.getsource(DeepSpeedZeroOptimizer)
    for name in ("single_partition_of_fp32_groups", "parallel_partitioned_bit16_groups", "bit16_groups_flat", "self.clip_grad"):
        assert name in flat, name
    sharded = inspect.getsource(DeepSpeedZeroOptimizer_Stage3)
    for name in ("fp32_partitioned_groups_flat", "fp16_partitioned_groups_flat", "def empty_partition_cache", "self.clip_grad"):
        assert name in sharded, name


def test_a_model_born_in_shards_has_the_type_of_the_configuration():
    """With ``dtype=`` given, ``zero.Init`` takes bfloat16 on CPU whatever was given; it is left to the configuration."""
    import deepspeed

    source = inspect.getsource(deepspeed.zero.Init._set_dtype)
    assert "ds_config is not None and dtype is None" in source
    assert "self.dtype = torch.float\n" in source


STEPS = """
from trainer.engines.platform import select_platform
select_platform()
import torch
torch.distributed.init_process_group("gloo")
import trainer.engines.deepspeed as engine
from trainer.engines.deepspeed_config import DeepSpeedEngineConfig, make_deepspeed_config
from trainer.engines.zero_shards import ZeroShards
engine.deepspeed.init_distributed(dist_init_required=False)
for bf16, stage in [(bf16, stage) for bf16 in (False, True) for stage in (1, 2, 3)]:
    layer = torch.nn.Linear(4, 4)
    config = make_deepspeed_config(DeepSpeedEngineConfig(zero_stage=stage, bf16=bf16), clip_grad=1.0, parameters=20)
    adam = torch.optim.AdamW(layer.parameters(), lr=0.1, fused=True)
    zero = engine._ZeroEngine(None, layer, adam, dist_init_required=False, config=config, config_class=engine.DeepSpeedConfig(config))
    shards = ZeroShards(zero.optimizer, stage, [])
    moved = []
    for scale in (1.0, float("nan"), 0.0):
        before = [master.clone() for master in shards.masters]
        zero.backward(zero(torch.ones(2, 4, dtype=torch.bfloat16 if bf16 else torch.float32)).float().sum() * scale)
        zero.step()
        moved.append(any((now != then).any() for now, then in zip(shards.masters, before)))
    print("moved", bf16, stage, *moved)
"""


def test_a_gradient_that_is_not_finite_is_left_out_and_one_of_0_stops_nothing_in_every_stage_and_type():
    """AdamW's momentum moves the weights on where the gradient is 0."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    ranks = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0"}
    done = subprocess.run([sys.executable, "-c", STEPS], cwd=ROOT, capture_output=True, text=True, timeout=300, env=os.environ | ranks)
    lines = [line for line in done.stdout.splitlines() if line.startswith("moved")]
    assert lines == [f"moved {bf16} {stage} True False True" for bf16 in (False, True) for stage in (1, 2, 3)], done.stderr
