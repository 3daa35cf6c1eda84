"""Devices: names, use of GPUs, and facts that results can depend on."""

from __future__ import annotations

import os
import shutil
import subprocess
import warnings
from functools import lru_cache

import torch


@lru_cache(maxsize=1)
def driver() -> str:
    """Return the version of the NVIDIA driver if it sees a GPU, else ""."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return ""
    asked = [program, "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        told = subprocess.run(asked, capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return told.stdout.split("\n")[0].strip() if told.returncode == 0 else ""


def find_gpu() -> bool:
    """Return True if torch can use a GPU; warn about a GPU that it cannot use."""
    if torch.cuda.is_available():
        return True
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES", "all") in ("", "-1")
    if not hidden and (found := driver()):
        built = torch.version.cuda
        reason = f"is built for CUDA {built}: update the driver" if built else "is built without CUDA: install another"
        warnings.warn(
            f"there is a GPU with NVIDIA driver {found}, but torch {torch.__version__} cannot use it and {reason}. "
            f"The CPU is used instead; device='cpu' says that you want it.",
            stacklevel=2,
        )
    return False


def describe_device(device: str | torch.device) -> dict[str, object]:
    """Return the facts about a device that results can depend on.

    Parameters
    ----------
    device : str or torch.device

    Returns
    -------
    dict
        device (its name), n_multiprocessors, memory (bytes), capability, driver, cuda, cudnn, torch; for a CPU, all but
        the first and last are "".
    """
    device = torch.device(device)
    facts: dict[str, object] = dict.fromkeys(
        ("device", "n_multiprocessors", "memory", "capability", "driver", "cuda", "cudnn"), ""
    )
    if device.type == "cuda":
        found = torch.cuda.get_device_properties(device)
        facts |= {"device": found.name, "n_multiprocessors": found.multi_processor_count, "memory": found.total_memory}
        facts |= {"capability": f"{found.major}.{found.minor}", "driver": driver(), "cuda": torch.version.cuda or ""}
        facts["cudnn"] = torch.backends.cudnn.version() or ""
    else:
        facts["device"] = "CPU"
    return facts | {"torch": str(torch.__version__)}


def resolve(device: str) -> torch.device:
    """Convert a name to a device; "auto" is the first GPU, or the CPU without a GPU.

    It warns if "auto" is the CPU because torch cannot use the GPU.
    """
    if device == "auto":
        device = "cuda" if find_gpu() else "cpu"
    try:
        found = torch.device(device)
    except RuntimeError:
        raise ValueError(f"torch knows no device {device!r}: use 'auto', 'cpu' or 'cuda'") from None
    if found.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"device is {device!r}, but torch finds no GPU here: use 'auto' or 'cpu'")
    return found
