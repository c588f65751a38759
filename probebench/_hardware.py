"""Devices, processor cores and memory of this machine."""

from __future__ import annotations

import os
from pathlib import Path

from probebench.errors import ProbebenchError


def choose_device(name: str = "auto") -> str:
    """``cuda`` where there is one, else ``cpu``, for ``auto``; any torch device is checked and returned.

    Raises:
        ProbebenchError: if the device does not exist
    """
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ProbebenchError(f"device {name!r} cannot be used here ({reason}); try cpu, cuda or auto") from error
    return name


def available_cores() -> int:
    """Processor cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def usable_memory(device: str) -> int:
    """Bytes that a sweep may take on a device: most of what is free, and something left for the rest."""
    return int(0.8 * free_memory(device))


def free_memory(device: str) -> int:
    """Bytes that are free on a device."""
    if device != "cpu":
        import torch

        # What torch holds for later counts as taken there, and is free for tensors of this process.
        held = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(torch.cuda.mem_get_info(device)[0]) + held
    try:
        for line in Path("/proc/meminfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2


def limit_threads(threads: int) -> None:
    """Let torch and the libraries under numpy take as many threads, if they do not take fewer already."""
    import torch
    from threadpoolctl import threadpool_info, threadpool_limits

    torch.set_num_threads(min(threads, torch.get_num_threads()))
    threadpool_limits({lib["prefix"]: threads for lib in threadpool_info() if lib["num_threads"] > threads})
