"""Describe the hardware of this process for run records."""

from __future__ import annotations

import os
import platform
from pathlib import Path

from probebench.records.types import HardwareRecord


def hardware(devices: list[str]) -> HardwareRecord:
    """Describe the hardware of this process.

    Args:
        devices: torch devices of the forward passes; GPUs that are another machine's have no name here
    """
    import torch

    here = [device for device in devices if device.startswith("cuda") and torch.cuda.is_available()]
    gpus = [torch.cuda.get_device_name(device) for device in here]
    return {
        "platform": platform.platform(),
        "cpu": _cpu_name(),
        "cores": os.cpu_count() or 1,
        "threads": torch.get_num_threads(),
        "devices": devices,
        "gpus": gpus,
    }


def _cpu_name() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
