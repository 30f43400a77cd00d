"""Where a number comes from: commit, machine, versions."""

import platform
import subprocess
from datetime import datetime, timezone
from functools import cache
from pathlib import Path

import torch


@cache
def commit() -> str:
    """The checkout's commit, marked ``-dirty`` where files differ from it; ``unknown`` outside a checkout.

    It is what it was at the first call: a long grid goes on with the code that it loaded, whatever is committed.
    """
    root = Path(__file__).resolve().parents[2]
    try:
        answer = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"],
            cwd=root,
            capture_output=True,
            text=True,
            check=True,
            timeout=10,
        )
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return answer.stdout.strip() if (root / ".git").exists() else "unknown"


def record(command: str, device: torch.device) -> dict[str, str]:
    """All that a result must say of its making.

    Args:
        command: the command line.
        device: where it computes.
    """
    return {
        "command": command,
        "commit": commit(),
        "hardware": hardware(device),
        "torch": torch.__version__,
        "date": f"{datetime.now(timezone.utc):%Y-%m-%d}",
    }


def hardware(device: torch.device) -> str:
    """The processor with the threads in use, or the GPU, in words."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        models = [line.partition(":")[2].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        name = models[0] if models else name
    threads = torch.get_num_threads()
    return f"{name}, {threads} thread{'s' if threads > 1 else ''}"
