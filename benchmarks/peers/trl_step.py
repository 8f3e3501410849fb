"""TRL's GRPOTrainer on a job file of ``benchmarks.step`` or ``benchmarks.overlap``; run by the Python of TRL's own environment.

    .venv-trl/bin/python benchmarks/peers/trl_step.py JOB.json

The reward is a constant that takes ``reward_s`` seconds a step, so a step is sampling, reward, log-probabilities of the reference,
one update. Prints one JSON line.
"""

import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

import torch
import transformers
import trl
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
from trl import GRPOConfig, GRPOTrainer


class Clock(TrainerCallback):
    """Wall seconds from the end of one step to the end of the next; the first step counts from the start of training."""

    def __init__(self):
        self.last = 0.0
        self.step_s = []

    def on_train_begin(self, args, state, control, **kwargs):
        self.last = time.monotonic()

    def on_step_end(self, args, state, control, **kwargs):
        now = time.monotonic()
        self.step_s.append(now - self.last)
        self.last = now


class TimedTrainer(GRPOTrainer):
    """Notes how long generation alone takes."""

    generate_s: list

    def _generate(self, prompts):
        start = time.monotonic()
        out = super()._generate(prompts)
        self.generate_s.append(time.monotonic() - start)
        return out


def config(job: dict, folder: str) -> GRPOConfig:
    """The same batch, lengths, loss and optimizer as our step."""
    return GRPOConfig(
        output_dir=folder,
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        per_device_train_batch_size=job["problems"] * job["group_size"],
        gradient_accumulation_steps=1,
        num_generations=job["group_size"],
        num_iterations=1,
        max_steps=job["warmup"] + job["steps"],
        max_completion_length=job["max_response_tokens"],
        temperature=job["temperature"],
        top_p=1.0,
        beta=job["kl_coef"],
        epsilon=job["clip_low"],
        epsilon_high=job["clip_high"],
        scale_rewards="batch",
        loss_type="dapo",  # mean over the batch's tokens
        learning_rate=job["lr"],
        lr_scheduler_type="constant",
        adam_beta1=job["betas"][0],
        adam_beta2=job["betas"][1],
        weight_decay=0.0,
        max_grad_norm=job["clip_grad"],
        shuffle_dataset=False,
        dataloader_pin_memory=False,
        logging_strategy="no",
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        seed=job["seed"],
    )


def main() -> int:
    """Entry point."""
    job = json.loads(Path(sys.argv[1]).read_text())
    torch.set_num_threads(job["threads"])
    tokenizer = AutoTokenizer.from_pretrained(job["policy"])
    prompts = [tokenizer.decode(ids, skip_special_tokens=False) for step in job["prompt_ids"] for ids in step]
    wanted = [ids for step in job["prompt_ids"] for ids in step]
    if tokenizer(prompts)["input_ids"] != wanted:
        raise ValueError("The prompts do not survive decoding and encoding: the peer would see other tokens than ours.")
    tokens: list[int] = []

    def no_reward(completion_ids, **kwargs):
        tokens.append(sum(len(ids) for ids in completion_ids))
        time.sleep(job["reward_s"])
        return [0.0] * len(completion_ids)

    clock = Clock()
    model = AutoModelForCausalLM.from_pretrained(job["policy"], dtype=torch.float32)
    with tempfile.TemporaryDirectory() as folder:
        trainer = TimedTrainer(
            model=model,
            reward_funcs=no_reward,
            args=config(job, folder),
            train_dataset=Dataset.from_dict({"prompt": prompts}),
            processing_class=tokenizer,
            callbacks=[clock],
        )
        trainer.generate_s = []
        trainer.train()
    skip = job["warmup"]
    print(
        json.dumps(
            {
                "step_s": statistics.median(clock.step_s[skip:]),
                "step_mean_s": statistics.fmean(clock.step_s[skip:]),
                "sample_s": statistics.median(trainer.generate_s[skip:]),
                "tokens": statistics.median(tokens[skip:]),
                "steps": len(clock.step_s[skip:]),
                "threads": torch.get_num_threads(),
                "trl": trl.__version__,
                "torch": torch.__version__,
                "transformers": transformers.__version__,
            }
        ),
        flush=True,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
