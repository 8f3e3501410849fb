"""Whether a policy can be loaded, from its small files before anything is paid for: config, weights' files, tokenizer, context.

Of a hub id only configuration and tokenizer are fetched, not the weights.
"""

import os
from pathlib import Path
from typing import Any

from rollout.policy_files import check_weights, check_weights_at_hub, hub_files
from rollout.prompt.facts import PromptFacts
from rollout.prompt.meta_prompt import DEFAULT_FACTS, MetaPrompt
from rollout.settings import ModelSettings, RolloutSettings, context_tokens
from workflow.problem import Problem

PROBE = Problem("probe", "Write f(xs).", "f", (), ())
WRITES = "class Workflow"
"""What every policy must be able to write."""
CONTEXT_KEYS = ("max_position_embeddings", "n_positions", "max_seq_len", "seq_length", "max_sequence_length", "max_seq_length", "seq_len")
"""Where vLLM looks for the context length of a model; the smallest counts."""
ALREADY_SCALED = ("default", "su", "longrope", "llama3", "yarn", "deepseek_yarn", "deepseek_llama_scaling")
"""Kinds of rotary embeddings whose ``factor`` is in ``max_position_embeddings`` already."""


def check_prompt(policy: str | Path, model: ModelSettings, rollout: RolloutSettings, facts: PromptFacts = DEFAULT_FACTS) -> MetaPrompt:
    """The meta-prompt of a policy that engines and learner can load, as far as its small files tell.

    Args:
        policy: a Hugging Face folder or a hub id.
        facts: what its prompts say of the run.

    Raises:
        ValueError: it cannot be loaded or used; one sentence that says why, and the remedy.
    """
    name = str(policy)
    folder = Path(policy) if Path(policy).is_dir() else hub_files(name)
    config = _config(folder, name)
    if folder == Path(policy):
        check_weights(folder, name)
    else:
        check_weights_at_hub(folder, name)
    _check_context(context_of(config), name, model, rollout)
    tokenizer = _tokenizer(folder, name)
    prompt = MetaPrompt(tokenizer, model, rollout.max_feedback_tokens, facts)
    _check_turns(prompt, tokenizer.eos_token_id, config, name, rounds=rollout.rounds)
    return prompt


def _config(folder: Path, name: str) -> Any:
    """The config of a causal language model."""
    from transformers import AutoConfig
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    if not (folder / "config.json").is_file():
        raise ValueError(
            f"The policy {name!r} has no config.json: give a Hugging Face folder (config.json, weights, tokenizer) or a hub id."
        )
    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    except Exception as error:
        raise ValueError(
            f"The config.json of the policy {name!r} cannot be read: {_first(error)} Give a model that transformers knows."
        ) from None
    kinds = config.architectures or []
    if not set(kinds) & set(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.values()):
        raise ValueError(
            f"The policy {name!r} is no causal language model that transformers knows (architectures: {', '.join(kinds) or 'none'}): "
            "give one, for example a Qwen3ForCausalLM."
        )
    return config


def context_of(config: Any) -> float:
    """Tokens that a model's positions reach, as vLLM reckons them; infinite where the config does not say."""
    text = config.get_text_config()
    lengths = [length for key in CONTEXT_KEYS if (length := getattr(text, key, None)) is not None]
    longest = getattr(text, "model_max_length", None) or min(lengths, default=float("inf"))
    rope = getattr(text, "rope_parameters", None) or {}
    layers = [rope] if "rope_type" in rope else [layer for layer in rope.values() if isinstance(layer, dict)]
    factors = [layer.get("factor") or 1.0 for layer in layers if layer.get("rope_type", "default") not in ALREADY_SCALED]
    return longest * (factors[-1] if factors and "gemma3" not in text.model_type else 1.0)


def longest_prompt(policy: Path, model: ModelSettings, rollout: RolloutSettings) -> float:
    """Tokens of the longest prompt beside which the model's context holds all responses."""
    return context_of(_config(policy, str(policy))) - context_tokens(model, rollout) + model.max_prompt_tokens


def _check_context(context: float, name: str, model: ModelSettings, rollout: RolloutSettings) -> None:
    needed, given = context_tokens(model, rollout), rollout.engine_args.get("max_model_len")
    if isinstance(given, int) and 0 < given < needed:
        raise ValueError(
            f"rollout.engine_args.max_model_len={given} holds no episode of {needed} tokens (model.max_prompt_tokens, responses and "
            "feedback): leave it out, the engine is given the right one."
        )
    if needed <= context or "hf_overrides" in rollout.engine_args or os.environ.get("VLLM_ALLOW_LONG_MAX_MODEL_LEN") == "1":
        return
    rounds = rollout.rounds
    responses = "model.max_response_tokens" if rounds == 1 else f"{rounds} x model.max_response_tokens"
    turns = "" if rounds == 1 else f" + {rounds - 1} x rollout.max_feedback_tokens={rollout.max_feedback_tokens}"
    raise ValueError(
        f"The policy {name!r} has a context of {context:.0f} tokens, and an episode may take {needed} (model.max_prompt_tokens="
        f"{model.max_prompt_tokens} + {responses}={model.max_response_tokens}{turns}): lower these, or choose another model.path."
    )


def _tokenizer(folder: Path, name: str) -> Any:
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        writes = WRITES in tokenizer.decode(tokenizer.encode(WRITES, add_special_tokens=False))
    except Exception as error:
        raise ValueError(
            f"The tokenizer of the policy {name!r} cannot be read: {_first(error)} Its files (tokenizer.json, tokenizer_config.json) "
            "belong beside config.json."
        ) from None
    if not writes:
        raise ValueError(
            f"The policy {name!r} has no tokenizer that can write {WRITES!r}: put its files (tokenizer.json, tokenizer_config.json) "
            "beside config.json."
        )
    if not tokenizer.chat_template:
        raise ValueError(
            f"The tokenizer of the policy {name!r} has no chat template: use an instruction-tuned model, or add chat_template to its "
            "tokenizer_config.json."
        )
    if tokenizer.eos_token_id is None:
        raise ValueError(
            f"The tokenizer of the policy {name!r} has no eos_token, so the policy could never end a completion: set one in its "
            "tokenizer_config.json."
        )
    return tokenizer


def _check_turns(prompt: MetaPrompt, end: int, config: Any, name: str, *, rounds: int) -> None:
    """Renders a prompt, and feedback where there are several rounds; every token must be one that the model knows."""
    try:
        ids = [*prompt.ids([PROBE])[0], end]
        if rounds > 1:
            ids += prompt.feedback("Again.", ended=False)
    except ValueError:
        raise
    except Exception as error:
        raise ValueError(f"The chat template of the policy {name!r} fails on a question: {_first(error)} Correct or replace it.") from None
    words = config.get_text_config().vocab_size
    if max(ids) >= words:
        raise ValueError(
            f"The tokenizer of the policy {name!r} uses token {max(ids)}, and the model has {words}: put the model's own tokenizer "
            "beside config.json."
        )


def _first(error: Exception) -> str:
    text = (str(error).strip() or type(error).__name__).splitlines()[0]
    return text if text.endswith((".", "!", "?")) else f"{text}."
