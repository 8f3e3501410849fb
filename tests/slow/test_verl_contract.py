"""Every piece of verl that this project uses, imported and called as it is used here: an upgrade fails here first."""

import dataclasses
import inspect
import os
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import verl
import yaml

from rollout.nano.policy import make_nano_policy
from trainer.engines.platform import select_platform, verl_environment

select_platform()

no_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="this machine's verl runs on a GPU")


def test_verl_has_the_version_that_this_was_written_for():
    assert version("verl") == "0.9.1"


@no_gpu
def test_the_cpu_platform_is_verls_platform_here():
    from verl.plugin.platform import get_platform
    from verl.utils.device import get_device_id, get_device_name, get_nccl_backend, get_torch_device

    from trainer.engines.cpu_platform import CPUPlatform

    assert isinstance(get_platform(), CPUPlatform)
    assert (get_device_name(), get_nccl_backend()) == ("cpu", "gloo")
    assert torch.ones(1).to(get_device_id()).device.type == "cpu"
    device = get_torch_device()
    assert (device.memory_allocated(), device.max_memory_allocated(), device.max_memory_reserved()) == (0, 0, 0)
    free, total = device.mem_get_info()
    assert 0 < free <= total
    state = device.get_rng_state()
    first = torch.rand(2)
    device.set_rng_state(state)
    assert torch.equal(torch.rand(2), first)


def test_a_platform_chosen_by_the_environment_is_left_alone(monkeypatch):
    monkeypatch.setenv("VERL_PLATFORM", "npu")
    select_platform()
    assert os.environ["VERL_PLATFORM"] == "npu"
    assert verl_environment("cuda")["VERL_PLATFORM"] == "", "verl detects a GPU by itself"


def test_the_platform_plug_in_implements_all_of_verls_interface():
    from verl.plugin.platform.platform_base import PlatformBase

    from trainer.engines.cpu_platform import CPUPlatform

    assert not CPUPlatform.__abstractmethods__
    assert PlatformBase.__abstractmethods__ <= set(vars(CPUPlatform))
    platform = CPUPlatform()
    with platform.nvtx_range("step"):
        platform.synchronize()
    assert platform.ray_resource_options(1.0) == {"num_gpus": 1.0}, "a driver without GPU may ask for ranks that have one"


@no_gpu
def test_the_engine_of_fsdp2_is_ours_on_cpu():
    from verl.workers.engine import EngineRegistry

    from trainer.engines.fsdp2 import PackedFSDPEngine

    assert EngineRegistry.get_engine_cls("language_model", "fsdp2") is PackedFSDPEngine


def test_on_an_nvidia_gpu_verl_looks_for_an_engine_of_that_vendor_first():
    from verl.plugin.platform.platform_cuda import PlatformCUDA
    from verl.workers.engine import EngineRegistry

    from trainer.engines.fsdp2 import PackedFSDPEngine

    vendor = inspect.getsource(PlatformCUDA.vendor_name.fget)
    assert '"nvidia"' in vendor
    assert EngineRegistry._engines["language_model"]["fsdp2"]["cuda", "nvidia"] is PackedFSDPEngine
    lookup = inspect.getsource(EngineRegistry.get_engine_cls)
    assert lookup.index("vendor_key in registry") < lookup.index("device in registry")


def test_the_engine_has_the_hooks_and_parts_that_we_use():
    from verl.workers.engine.base import BaseEngine
    from verl.workers.engine.fsdp.transformer_impl import FSDPEngineWithLMHead

    for name in ("initialize", "train_batch", "infer_batch", "eval_mode", "save_checkpoint", "load_checkpoint", "get_per_tensor_param"):
        assert callable(getattr(BaseEngine, name)), name
    assert list(inspect.signature(FSDPEngineWithLMHead.prepare_model_inputs).parameters) == ["self", "micro_batch"]
    outputs = inspect.signature(FSDPEngineWithLMHead.prepare_model_outputs).parameters
    assert list(outputs) == ["self", "output", "output_args", "micro_batch", "logits_processor_func"]
    assert list(inspect.signature(FSDPEngineWithLMHead._build_optimizer).parameters) == ["self", "module"]
    assert list(inspect.signature(FSDPEngineWithLMHead._build_lora_module).parameters) == ["self", "module"]
    initialize = inspect.getsource(FSDPEngineWithLMHead.initialize)
    for name in ("checkpoint_manager", "optimizer=self.optimizer", "lr_scheduler=self.lr_scheduler"):
        assert name in initialize, name


def test_the_training_worker_takes_a_config_and_a_loss_and_trains_a_tensordict():
    from verl.workers.engine_workers import TrainingWorker

    def parameters(method: Callable) -> list[str]:
        return [name for name in inspect.signature(method).parameters if name != "_ray_trace_ctx"]  # Ray adds it to an actor's class

    assert parameters(TrainingWorker.__init__) == ["self", "config"]
    assert parameters(TrainingWorker.set_loss_fn) == ["self", "loss_fn"]
    assert parameters(TrainingWorker.train_batch) == ["self", "data"]
    source = inspect.getsource(TrainingWorker.train_batch)
    assert 'key="update_lr_scheduler"' in source
    assert 'key="global_token_num"' in source


def test_a_method_registered_for_all_ranks_carries_its_dispatch_mode():
    from verl.single_controller.base.decorator import MAGIC_ATTR, Dispatch

    from trainer.learner.worker import LearnerWorker

    attributes = getattr(LearnerWorker.update, MAGIC_ATTR)
    assert attributes["dispatch_mode"] == Dispatch.ONE_TO_ALL
    assert attributes["blocking"] is False


def test_a_worker_group_takes_placement_groups_of_our_own():
    from verl.single_controller.ray import RayClassWithInitArgs, RayResourcePool, RayWorkerGroup

    pool = RayResourcePool(process_on_nodes=[2], use_gpu=False, max_colocate_count=1)
    placed = object()
    pool.pgs = [placed]
    assert pool.get_placement_groups(device_name="cpu") == [placed]
    assert pool.world_size == 2
    assert "resource_pool" in inspect.signature(RayWorkerGroup.__init__).parameters
    assert "worker_env" in inspect.getsource(RayWorkerGroup.__init__)
    assert RayClassWithInitArgs(object, 1).args == (1,)


def test_the_process_group_is_made_with_a_backend_of_our_choice():
    from verl.utils.distributed import initialize_global_process_group_ray

    assert "backend" in inspect.signature(initialize_global_process_group_ray).parameters
    assert "if not torch.distributed.is_initialized()" in inspect.getsource(initialize_global_process_group_ray)


def test_configurations_have_the_fields_that_we_set(tmp_path):
    from verl.trainer.config import CheckpointConfig
    from verl.workers.config import FSDPEngineConfig, HFModelConfig, TrainingWorkerConfig

    from trainer.learner.config import optimizer_config
    from trainer.settings import OptimizerSettings

    settings = OptimizerSettings(lr=1e-3, betas=(0.8, 0.9), clip_grad=2.0)
    optimizer = optimizer_config(settings, total_steps=7)
    assert (optimizer.lr, optimizer.betas, optimizer.clip_grad, optimizer.total_training_steps) == (1e-3, (0.8, 0.9), 2.0, 7)
    wanted = {
        TrainingWorkerConfig: {"model_type", "model_config", "engine_config", "optimizer_config", "checkpoint_config"},
        HFModelConfig: {"path", "use_remove_padding", "enable_gradient_checkpointing", "override_config"}
        | {"lora_rank", "lora_alpha", "target_modules"},
        FSDPEngineConfig: {
            "strategy",
            "model_dtype",
            "mixed_precision",
            "use_torch_compile",
            "use_dynamic_bsz",
            "seed",
            "optimizer_offload",
        }
        | {"max_token_len_per_gpu", "infer_max_token_len_per_gpu"},
    }
    for config, names in wanted.items():
        assert names <= {field.name for field in dataclasses.fields(config)}
    assert CheckpointConfig().save_contents == ["model", "optimizer", "extra"]


def differences(config: Any, yaml_file: str) -> set[str]:
    """Names of the plain values of a configuration that are not those of the yaml file that verl's own users start from."""
    theirs = yaml.safe_load((Path(verl.__file__).parent / "trainer/config" / yaml_file).read_text())
    plain = {name: value for name, value in theirs.items() if not isinstance(value, dict | list) and "${" not in str(value)}
    ours = {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}
    return {name for name, value in plain.items() if name in ours and ours[name] != value} - {"_target_"}


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_what_we_do_not_set_has_the_value_that_verls_own_users_get(tmp_path, device):
    """verl's dataclasses and its yaml do not agree everywhere: nothing that nobody chose may be the dataclass's alone."""
    from trainer.algorithm.losses import actor_config
    from trainer.learner.config import optimizer_config, worker_config
    from trainer.learner.spec import LearnerSpec
    from trainer.settings import GRPOSettings, LearnerSettings, OptimizerSettings

    policy = make_nano_policy(tmp_path / "nano", ["a b c"] * 8, seed=0)
    worker = worker_config(LearnerSpec(str(policy), LearnerSettings(), device, seed=7))
    assert differences(worker.engine_config, "engine/fsdp.yaml") == {"strategy", "seed", "use_torch_compile"}
    of_the_policy = {"path", "hf_config_path", "tokenizer_path"}
    assert differences(worker.model_config, "model/hf_model.yaml") == of_the_policy | {"lora_alpha", "use_remove_padding"}
    of_its_schedule = {"total_training_steps", "min_lr_ratio"}  # the learner has one of its own
    optimizer = differences(optimizer_config(OptimizerSettings(), 1), "optim/fsdp.yaml")
    assert optimizer == {"lr", "weight_decay", "override_optimizer_config"} | of_its_schedule
    loss = differences(actor_config(GRPOSettings(), 8), "actor/actor.yaml")
    assert loss == {"strategy", "use_dynamic_bsz", "clip_ratio_high", "use_kl_loss", "kl_loss_type"}


def test_the_optimizer_is_built_from_that_configuration():
    from verl.workers.config.optimizer import build_optimizer

    from trainer.learner.config import optimizer_config
    from trainer.settings import OptimizerSettings

    built = build_optimizer([torch.nn.Parameter(torch.ones(2))], optimizer_config(OptimizerSettings(lr=1e-3), total_steps=1))
    assert isinstance(built, torch.optim.AdamW)
    assert built.defaults["fused"] is True


def test_estimators_take_rewards_mask_and_groups():
    from verl.trainer.config import AlgoConfig
    from verl.trainer.ppo.core_algos import ADV_ESTIMATOR_REGISTRY, get_adv_estimator_fn

    rewards_BT, mask_BT = torch.tensor([[0.0, 1.0], [0.0, 0.0]]), torch.ones(2, 2)
    for name in ("grpo", "reinforce_plus_plus_baseline", "rloo", "grpo_passk"):
        assert name in ADV_ESTIMATOR_REGISTRY
        advantages_BT, _ = get_adv_estimator_fn(name)(
            token_level_rewards=rewards_BT, response_mask=mask_BT, index=np.array([0, 0]), config=AlgoConfig(adv_estimator=name)
        )
        assert advantages_BT.shape == (2, 2)
        assert advantages_BT[0, 0] > advantages_BT[1, 0]


def batch():
    from trainer.engines.token_rows import TokenRows
    from trainer.engines.verl_data import to_tensordict

    rows = TokenRows.of([((1, 2), (3, 4, 5)), ((6,), (7,))])
    dense = {name: torch.zeros(2, 3) for name in ("old_log_probs", "rollout_log_probs", "advantages", "ref_log_prob")}
    dense["advantages"][0] = 1.0
    data = to_tensordict(rows, dense, {"global_batch_size": 2, "dp_size": 1, "batch_num_tokens": 4})
    logprobs = torch.full((7,), -0.5, requires_grad=True)
    return data, logprobs, {"log_probs": torch.nested.nested_tensor_from_jagged(logprobs, data["input_ids"].offsets())}


def test_the_sft_loss_is_the_mean_over_response_tokens():
    from verl.workers.utils.losses import sft_loss

    data, logprobs, output = batch()
    loss, _ = sft_loss(None, output, data)
    loss.backward()
    assert loss.item() == pytest.approx(0.5)
    assert logprobs.grad is not None
    assert logprobs.grad.tolist() == pytest.approx([0, -0.25, -0.25, -0.25, 0, -0.25, 0]), "each token is predicted by the one before"


def test_the_policy_loss_has_the_kl_and_the_metrics_that_we_report():
    from trainer.algorithm.losses import actor_config, policy_loss
    from trainer.learner.metrics import step_metrics
    from trainer.settings import GRPOSettings

    data, logprobs, output = batch()
    loss, metrics = policy_loss(actor_config(GRPOSettings(kl_coef=0.1), 3), output, data)
    loss.backward()
    named = step_metrics({name: [metric] if name != "kl_coef" else [[metric]] for name, metric in metrics.items()}, "actor")
    assert named["actor/kl"] == pytest.approx(np.exp(0.5) - 0.5 - 1, rel=1e-4), "low-variance k3 estimator"
    assert named["actor/entropy"] == pytest.approx(0.5)
    assert named["actor/rollout_gap_mean"] == named["actor/rollout_gap_max"] == pytest.approx(0.5)
    assert {"actor/policy_loss", "actor/ppo_kl", "actor/clip_fraction"} <= set(named)
    assert logprobs.grad is not None
    assert logprobs.grad[1:4].ne(0).all()


def test_log_probabilities_of_responses_are_read_from_whole_rows():
    from verl.workers.utils.padding import no_padding_2_padding

    data, _, _ = batch()
    whole = torch.nested.nested_tensor_from_jagged(torch.arange(7.0), data["input_ids"].offsets())
    assert no_padding_2_padding(whole, data).tolist() == [[1.0, 2.0, 3.0], [5.0, 0.0, 0.0]]


def test_dynamic_micro_batches_keep_every_row_and_the_order_is_known():
    from verl.utils import tensordict_utils as tu
    from verl.workers.engine.utils import prepare_micro_batches

    data, _, _ = batch()
    tu.assign_non_tensor(data, use_dynamic_bsz=True, max_token_len_per_gpu=5, sp_size=1)
    parts, indices = prepare_micro_batches(data, dp_group=None)
    assert sorted(index for part in indices for index in part) == [0, 1]
    assert [part["input_ids"].values().numel() for part in parts] == [[5, 2][part[0]] for part in indices]
