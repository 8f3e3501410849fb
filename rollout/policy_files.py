"""The files of a policy, wherever it lies: copied from a URL once for all engines here, fetched from the hub, looked at for holes."""

import fcntl
import hashlib
import json
import tempfile
from pathlib import Path
from typing import Any, cast

import fsspec

from workflow.atomic import replace_folder


def is_url(place: str) -> bool:
    """True for ``s3://bucket/run`` and the like; False for a path or a hub id."""
    return "://" in place


def local_copy(policy: str | Path, cache: Path | None = None) -> Path:
    """A folder of this machine with the policy's files; a path or a hub id comes back as it is.

    Copies are kept by what the files are, so a policy that changed at its URL is fetched again.

    Args:
        policy: path, hub id, or the URL of a Hugging Face folder in any storage that fsspec knows.
        cache: folder for copies; None: ``flowreasoner-policies`` in the system's temporary folder.

    Raises:
        ValueError: nothing is at the URL, or it cannot be read.
    """
    if not is_url(str(policy)):
        return Path(policy)
    url = str(policy)
    try:
        files, root = cast(tuple[Any, str], fsspec.url_to_fs(url))
        files.invalidate_cache()
        found = {str(name): str(files.ukey(name)) for name in sorted(files.find(root))}
    except (OSError, ImportError, ValueError) as error:
        raise ValueError(f"The policy at {url} cannot be read ({type(error).__name__}: {error}): check the URL and its keys.") from None
    if not found:
        raise ValueError(f"There is no policy at {url}: give the URL of a Hugging Face folder.")
    cache = cache or Path(tempfile.gettempdir()) / "flowreasoner-policies"
    cache.mkdir(parents=True, exist_ok=True)
    folder = cache / hashlib.sha256(repr((url, found)).encode()).hexdigest()[:20]
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # engines of one machine start at once
        if not folder.exists():
            with replace_folder(folder) as partial:
                for name in found:
                    target = partial / Path(name).relative_to(root)
                    target.parent.mkdir(parents=True, exist_ok=True)
                    files.get_file(name, str(target))
    return folder


SMALL_FILES = ["*.json", "*.jinja", "*.txt", "*.model"]
"""Config and tokenizer of a model on the hub."""


def hub_files(name: str) -> Path:
    """A folder with the small files of a model on the Hugging Face hub; its weights are not fetched.

    Raises:
        ValueError: there is no such model, it is gated, or neither the hub nor an earlier copy can be reached.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, RepositoryNotFoundError

    try:
        return Path(snapshot_download(name, allow_patterns=SMALL_FILES, ignore_patterns=["*/*"]))
    except GatedRepoError:
        raise ValueError(
            f"The policy {name!r} is gated: ask for access at https://huggingface.co/{name} and log in (`hf auth login`, or HF_TOKEN)."
        ) from None
    except (RepositoryNotFoundError, HFValidationError):
        raise ValueError(
            f"The hub has no model {name!r}, or it is private: correct model.path, or log in (`hf auth login`, or HF_TOKEN)."
        ) from None
    except LocalEntryNotFoundError as error:
        raise ValueError(
            f"The policy {name!r} is not on this machine and the Hugging Face hub cannot be reached ({_reason(error)}): "
            "correct model.path, download the model before, or give a folder."
        ) from None
    except (HfHubHTTPError, OSError, RuntimeError) as error:
        raise ValueError(f"The policy {name!r} cannot be fetched from the hub ({_reason(error)}): try again, or give a folder.") from None


def _reason(error: Exception) -> str:
    first = (str(error.__cause__ or error).strip() or "no reason given").splitlines()[0]
    return f"{type(error.__cause__ or error).__name__}: {first}"


def check_weights_at_hub(folder: Path, name: str) -> None:
    """Raises ValueError where neither ``folder``, the copy of a model's files on this machine, nor the hub has its weights."""
    from huggingface_hub import HfApi

    try:
        check_weights(folder, name)
    except ValueError:
        try:
            files = HfApi().list_repo_files(name)
        except Exception as error:
            raise ValueError(
                f"The weights of the policy {name!r} are not on this machine, and the hub cannot be reached ({_reason(error)}): "
                "download the model before, or give a folder."
            ) from None
        if not any(_holds_weights(file) for file in files):
            raise ValueError(f"The policy {name!r} has no weights (*.safetensors) on the hub: correct model.path.") from None


def check_weights(folder: Path, name: str) -> None:
    """Raises ValueError where a file of the weights is missing or cut off; their values are not read."""
    kind = "safetensors" if any(folder.glob("*.safetensors*")) else "bin"
    found = sorted(file.name for file in folder.glob(f"*.{kind}") if _holds_weights(file.name))
    index = next(iter(sorted(folder.glob(f"*.{kind}.index.json"))), None)
    wanted = sorted(set(_weight_map(index, name).values())) if index is not None else found
    if not wanted:
        raise ValueError(f"The policy {name!r} has no weights (*.safetensors): copy or download it whole.")
    if missing := [file for file in wanted if file not in found]:
        raise ValueError(f"The policy {name!r} lacks {len(missing)} of {len(wanted)} files with weights ({missing[0]}): download it whole.")
    for file in wanted:
        if kind == "safetensors":
            _check_safetensors(folder / file, name)


def _holds_weights(file: str) -> bool:
    """True for the name of a file with weights of a whole model, at the top of its folder."""
    return "/" not in file and not file.startswith("adapter_") and (file.endswith(".safetensors") or file.startswith("pytorch_model"))


def _weight_map(index: Path, name: str) -> dict[str, str]:
    try:
        return dict(json.loads(index.read_text())["weight_map"])
    except (OSError, ValueError, KeyError, TypeError):
        raise ValueError(f"{index.name} of the policy {name!r} cannot be read: copy or download the policy whole.") from None


def _check_safetensors(file: Path, name: str) -> None:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, "np"):
            return
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{file.name} of the policy {name!r} is damaged ({error}): copy or download the policy whole.") from None
