"""LoRA adapters: added before an engine shards the model, merged into the weights that leave it."""

from collections.abc import Iterator
from typing import Any, Protocol

import torch
from peft import LoraConfig, TaskType, get_peft_model
from peft.tuners.lora import LoraLayer
from verl.utils.model import convert_weight_keys
from verl.workers.config import HFModelConfig
from verl.workers.engine.fsdp.utils import unfuse_moe_params

PREFIX = "base_model.model."


class FullTensor(Protocol):
    """An engine's way from a parameter to the whole tensor."""

    def __call__(self, parameter: torch.Tensor, dtype: torch.dtype | None = None) -> torch.Tensor:
        """The parameter gathered from all ranks, in ``dtype`` where that is a shorter type than its own."""
        ...


def add_adapter(module: torch.nn.Module, config: HFModelConfig, seed: int) -> torch.nn.Module:
    """The model with a fresh adapter in the dtype of its weights; everything else is frozen.

    Raises:
        ValueError: the model has no layer of the names in ``learner.lora_targets``, or one that is not linear.
    """
    torch.manual_seed(seed)
    module.enable_input_require_grads()  # pyright: ignore[reportCallIssue]  a transformers model has it
    adapter = LoraConfig(
        task_type=TaskType.CAUSAL_LM, r=config.lora_rank, lora_alpha=config.lora_alpha, target_modules=config.target_modules
    )
    adapted = get_peft_model(module, adapter, autocast_adapter_dtype=False)  # pyright: ignore[reportArgumentType]
    dtype = next(parameter.dtype for parameter in adapted.parameters() if not parameter.requires_grad)
    for name, parameter in adapted.named_parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.to(dtype)
            if not (".lora_A." in name or ".lora_B." in name):
                raise ValueError(f"learner.lora_targets={config.target_modules} reaches {name}, which is no linear layer: leave it out.")
    if any(getattr(layer, "fan_in_fan_out", False) for layer in find_adapted_layers(adapted).values()):
        raise ValueError(
            f"{config.path} keeps its linear layers transposed, which learner.lora_rank={config.lora_rank} does not support: use 0."
        )
    return adapted


def find_adapted_layers(module: torch.nn.Module) -> dict[str, LoraLayer]:
    """Layers with an adapter, by name."""
    return {name: layer for name, layer in module.named_modules() if isinstance(layer, LoraLayer)}


def adapter_of(layer: LoraLayer) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, float]:
    """Weight W, down projection A, up projection B and scale s of a layer, which computes with W + s B A."""
    (name,) = layer.active_adapters
    return layer.get_base_layer().weight, layer.lora_A[name].weight, layer.lora_B[name].weight, layer.scaling[name]  # pyright: ignore


def merge_weights(
    module: torch.nn.Module, full_tensor: FullTensor, model: HFModelConfig, dtype: torch.dtype | None = None
) -> Iterator[tuple[str, torch.Tensor]]:
    """(Hugging Face name, full tensor with its adapter merged) of each weight, gathered one at a time.

    Weights of a longer type than ``dtype`` are cast to it before they are gathered, those with an adapter after it was merged.
    A tied output layer appears once, as the embedding. Every rank must draw every item, since gathering needs all.
    """
    tied = getattr(model.hf_config, "tie_word_embeddings", False)
    for name, tensor in unfuse_moe_params(_merge(module, full_tensor, dtype), model.hf_config.model_type):
        if not (tied and name == "lm_head.weight"):
            yield name, tensor


def _merge(module: torch.nn.Module, full_tensor: FullTensor, dtype: torch.dtype | None) -> Iterator[tuple[str, torch.Tensor]]:
    parameters = dict(module.named_parameters())
    published: Any = convert_weight_keys({name: name for name in parameters}, module)  # pyright: ignore[reportArgumentType]
    adapted = find_adapted_layers(module)
    for public, name in published.items():
        if ".lora_" in name:
            continue
        owner, _, rest = name.rpartition(".base_layer.")
        if owner in adapted and rest == "weight":
            tensor = shorten(_with_adapter(full_tensor(parameters[name]), adapted[owner], full_tensor), dtype)
        else:
            tensor = full_tensor(parameters[name], dtype)
        yield public.removeprefix(PREFIX).replace(".base_layer.", "."), tensor


@torch.no_grad()
def _with_adapter(weight: torch.Tensor, layer: LoraLayer, full_tensor: FullTensor) -> torch.Tensor:
    """The weight with its adapter added, in float32."""
    _, down, up, scale = adapter_of(layer)
    return (weight.float() + scale * (full_tensor(up).float() @ full_tensor(down).float())).to(weight.dtype)


def shorten(tensor: torch.Tensor, dtype: torch.dtype | None) -> torch.Tensor:
    """The tensor in ``dtype`` where that is a shorter type of numbers; else as it is."""
    shorter = dtype is not None and tensor.is_floating_point() and dtype.itemsize < tensor.dtype.itemsize
    return tensor.to(dtype) if shorter else tensor
