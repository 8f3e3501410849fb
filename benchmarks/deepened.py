"""A policy made deeper that says the same: what a learner and an engine cost then grows, what they are asked to do stays."""

import json
import shutil
from pathlib import Path

LAYER = "model.layers."
SILENT = ("self_attn.o_proj.weight", "mlp.down_proj.weight")
"""What a decoder layer adds to the residual stream goes through these two: zero, and the layer hands its input on."""


def deepen(policy: Path, folder: Path, extra_layers: int) -> Path:
    """Copies the Hugging Face folder ``policy`` to ``folder`` with ``extra_layers`` more layers, copies of its own whose outputs are 0.

    Function-preserving growth (Net2Net, arXiv 1511.05641): logits are bitwise those of ``policy`` until the first update.

    Raises:
        ValueError: a policy whose layers are not named ``model.layers.N``, or that has them in several files.
    """
    from safetensors.torch import load_file, save_file

    shutil.copytree(policy, folder)
    config = json.loads((folder / "config.json").read_text())
    count, weights = config["num_hidden_layers"], folder / "model.safetensors"
    if not weights.exists():
        raise ValueError(f"{policy} has no model.safetensors: benchmarks/deepened.py takes small policies of one file.")
    tensors = load_file(weights)
    silent = [name for name in tensors if name.startswith(LAYER) and name.endswith(SILENT)]
    if len(silent) != len(SILENT) * count:
        raise ValueError(f"{policy} has {len(silent)} tensors {LAYER}*.{SILENT}, not {len(SILENT)} a layer: give a Llama-like policy.")
    for index in range(extra_layers):
        source = f"{LAYER}{index % count}."
        for name in [name for name in tensors if name.startswith(source)]:
            part = name.removeprefix(source)
            tensors[f"{LAYER}{count + index}.{part}"] = tensors[name].clone() if part not in SILENT else tensors[name].mul(0)
    save_file(tensors, weights, metadata={"format": "pt"})
    config["num_hidden_layers"] = count + extra_layers
    if "layer_types" in config:
        config["layer_types"] += [config["layer_types"][index % count] for index in range(extra_layers)]
    (folder / "config.json").write_text(json.dumps(config, indent=2))
    return folder
