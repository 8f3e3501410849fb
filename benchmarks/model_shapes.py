"""Sizes of Qwen2.5 models, random policies of those sizes, and the floating point operations of a training step."""

from dataclasses import dataclass
from pathlib import Path

from rollout.nano.policy import make_tokenizer


@dataclass(frozen=True, slots=True)
class Shape:
    """A decoder as Qwen2.5 builds it."""

    hidden: int
    layers: int
    heads: int
    kv_heads: int
    intermediate: int
    vocabulary: int
    tied: bool = True

    @property
    def head_dim(self) -> int:
        return self.hidden // self.heads

    @property
    def body(self) -> int:
        """Weights that every token is multiplied with."""
        attention = self.hidden * self.head_dim * 2 * (self.heads + self.kv_heads)
        return self.layers * (attention + 3 * self.hidden * self.intermediate)

    @property
    def head(self) -> int:
        """Weights of the output layer."""
        return self.hidden * self.vocabulary

    def step_flops(self, tokens: int, predicted: int, positions: int) -> float:
        """Of one forward and backward pass, recomputation not counted: 6 a weight and token, and causal attention.

        Args:
            tokens: that pass through the body.
            predicted: whose logits are computed.
            positions: sum over tokens of how many tokens each attends to.
        """
        return 6.0 * (self.body * tokens + self.head * predicted) + 12.0 * self.layers * self.heads * self.head_dim * positions


SHAPES = {
    "nano": Shape(128, 4, 4, 2, 384, 1024),
    "30m": Shape(512, 8, 8, 2, 2048, 8192),
    "0.5b": Shape(896, 24, 14, 2, 4864, 151_936),
    "1.5b": Shape(1536, 28, 12, 2, 8960, 151_936),
    "3b": Shape(2048, 36, 16, 2, 11_008, 151_936),
    "7b": Shape(3584, 28, 28, 4, 18_944, 152_064, tied=False),
}
PEAK_TFLOPS = {"H100": 989.0, "H200": 989.0, "A100": 312.0}
"""Dense bfloat16 of one device, by a word in its name."""


def make_policy(folder: Path, shape: Shape, dtype: str) -> Path:
    """A Hugging Face folder with random weights of that shape and a small tokenizer.

    Args:
        dtype: of the weights, ``float32`` or ``bfloat16``.
    """
    import torch
    from huggingface_hub import save_torch_state_dict
    from transformers import Qwen2Config, Qwen2ForCausalLM

    config = Qwen2Config(
        vocab_size=shape.vocabulary,
        hidden_size=shape.hidden,
        intermediate_size=shape.intermediate,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        tie_word_embeddings=shape.tied,
        max_position_embeddings=32_768,
        architectures=["Qwen2ForCausalLM"],
        bos_token_id=None,
        eos_token_id=1,
        dtype=dtype,
    )
    torch.manual_seed(0)
    model = Qwen2ForCausalLM(config).to(getattr(torch, dtype))
    folder.mkdir(parents=True, exist_ok=True)
    config.save_pretrained(folder)
    save_torch_state_dict({name: tensor.detach() for name, tensor in model.named_parameters()}, folder)
    make_tokenizer(["Write f(xs) that drops the odd numbers."] * 4).save_pretrained(folder)
    return folder
