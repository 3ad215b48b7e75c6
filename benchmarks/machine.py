"""Facts about the machine and the software of a run."""

import platform
import subprocess
from importlib.metadata import version
from pathlib import Path

import psutil
import torch


def software() -> dict[str, str]:
    """Versions and the commit of the checkout, empty outside one, `+` if it was changed."""
    return {
        "suite_version": version("psan"),
        "torch_version": torch.__version__,
        "python_version": platform.python_version(),
        "git_commit": git_commit(),
    }


def git_commit() -> str:
    """Commit of the code that runs."""
    here = Path(__file__).parent
    try:
        command = ["git", "describe", "--always", "--abbrev=12", "--dirty=+", "--exclude=*"]
        return subprocess.run(
            command, cwd=here, capture_output=True, text=True, check=True
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def device_name(on_gpu: bool, devices: int) -> str:
    """The GPU's name, or "cpu", and how many there were if several."""
    name = torch.cuda.get_device_name() if on_gpu else "cpu"
    return name if devices == 1 else f"{devices} x {name}"


def reset_peak_memory() -> None:
    """Forgets the peak so far, where the system allows it."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return


def peak_memory_mb(on_gpu: bool) -> float:
    """Peak memory since the last reset, of the GPU or of the process."""
    if on_gpu:
        return round(torch.cuda.max_memory_allocated() / 2**20, 1)
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return round(psutil.Process().memory_info().rss / 2**20, 1)
    line = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    return round(int(line.split()[1]) / 1024, 1)
