"""``python -m launch.export RUN_DIR --to FOLDER``: a policy of a run as a Hugging Face folder that vLLM serves.

Without ``--checkpoint`` the trained policy is copied; with it a learner starts under the run's own settings and loads that checkpoint,
also while the run goes on.
"""

import argparse
import asyncio
import sys
from pathlib import Path

from launch.shell import load_run_settings, one_sentence_errors
from trainer.evaluation.export import choose_step, export


def parser() -> argparse.ArgumentParser:
    """Options of the command."""
    out = argparse.ArgumentParser(prog="python -m launch.export", description="Write a policy of a run as a Hugging Face folder.")
    out.add_argument("run_dir", type=Path, help="run folder")
    out.add_argument("--to", type=Path, required=True, metavar="FOLDER", help="new or empty folder, or an earlier export to replace")
    out.add_argument(
        "--checkpoint",
        metavar="best|latest|STEP",
        help="a checkpoint instead of the trained policy; best: by validation reward",
    )
    out.add_argument("overrides", nargs="*", help="Hydra overrides, for example cluster.device=cpu cluster.address=null")
    return out


@one_sentence_errors
def main() -> int:
    """Entry point."""
    options = parser().parse_intermixed_args()
    settings = load_run_settings(options.run_dir, options.overrides)
    step = choose_step(options.run_dir, options.checkpoint)
    asyncio.run(export(settings, options.run_dir, step, options.to))
    folder = options.to.absolute()
    size_mib = sum(file.stat().st_size for file in folder.iterdir()) / 2**20
    what = "the trained policy" if step is None else f"the policy after GRPO step {step}"
    serve = f"{sys.executable} -m vllm.entrypoints.openai.api_server --model {folder}"  # the CPU build's `vllm serve` does not start
    print(f"{folder} ({size_mib:.1f} MiB) is {what} of {options.run_dir}. To serve it:\n\n    {serve}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
