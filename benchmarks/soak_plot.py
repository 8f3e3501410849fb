"""The curves of a soak as a picture."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.process_watch import Sample, Usage

PANELS = (("anon_mib", "anonymous memory, MiB"), ("rss_mib", "resident memory, MiB"), ("fds", "open descriptors"), ("threads", "threads"))


def plot(samples: Sequence[Sample], warmup: int, file: Path) -> None:
    """Writes a PNG: a panel a measure with a line a role, then processes, /dev/shm and folders. Grey: warm-up."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    roles = sorted({role for sample in samples for role in sample.look.roles})
    colours = {role: pyplot.get_cmap("tab20")(index % 20) for index, role in enumerate(roles)}
    figure, axes = pyplot.subplots(2, 4, figsize=(22, 10), layout="constrained")
    at = [sample.at_s / 60 for sample in samples]
    begin = next((sample.at_s / 60 for sample in samples if sample.step >= warmup), at[-1])
    end = next((sample.at_s / 60 for sample in samples if sample.step >= samples[-1].step), at[-1])

    def lines(axis: Any, title: str, curves: dict[str, Callable[[Sample], float]], *, log: bool = False) -> None:
        for name, value in curves.items():
            axis.plot(at, [value(sample) for sample in samples], label=name, color=colours.get(name), linewidth=1.6)
        axis.axvspan(0, begin, color="0.93")
        axis.axvspan(end, at[-1], color="0.93")
        axis.set(title=title, xlabel="minutes", yscale="log" if log else "linear")
        axis.grid(alpha=0.3)

    def by_role(name: str, but: str = "") -> dict[str, Callable[[Sample], float]]:
        return {
            role: lambda sample, role=role: getattr(sample.look.roles.get(role, Usage()), name) or float("nan")
            for role in roles
            if role != but
        }

    flat = axes.ravel()
    for axis, (name, title) in zip(flat, PANELS, strict=False):
        lines(axis, title, by_role(name, but="box"), log=True)
    lines(flat[4], "processes", by_role("processes"))
    lines(flat[5], "/dev/shm", {"MiB": lambda sample: sample.look.shm_mib, "files": lambda sample: sample.look.shm_files})
    lines(
        flat[6],
        "folders, MiB",
        {"run folder without checkpoints": lambda sample: sample.folder_mib, "Ray's logs": lambda sample: sample.ray_mib},
    )
    lines(flat[7], "finished steps", {"steps": lambda sample: sample.step})
    for axis in flat[5:7]:
        axis.legend(fontsize=9)
    handles, labels = flat[4].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=7, fontsize=11)
    figure.suptitle(f"{samples[-1].step} GRPO steps; sums over the processes of a role; grey is not judged")
    figure.savefig(file, dpi=80)
    pyplot.close(figure)
