"""Devices, processor cores and memory of this machine."""

from __future__ import annotations

import os
from pathlib import Path

from probebench.errors import ProbebenchError, first_line


def choose_device(name: str = "auto") -> str:
    """Return a torch device: for ``auto``, ``cuda`` if there is a GPU and ``cpu`` otherwise.

    Raises:
        ProbebenchError: if the device does not exist on this machine
    """
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:
        raise ProbebenchError(
            f"device {name!r} is not available on this machine ({first_line(error)}); use cpu, cuda or auto"
        ) from error
    return name


def available_cores() -> int:
    """Return the number of processor cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def usable_memory(device: str) -> int:
    """Return how many bytes a sweep may take on a device: four fifths of the free memory."""
    return int(0.8 * free_memory(device))


def free_memory(device: str) -> int:
    """Return how many bytes are free on a device."""
    if device != "cpu":
        import torch

        # Memory in torch's cache counts as used there, but is free for tensors of this process.
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
    """Limit the threads of torch and of the libraries under numpy, unless they use fewer already."""
    import torch
    from threadpoolctl import threadpool_info, threadpool_limits

    torch.set_num_threads(min(threads, torch.get_num_threads()))
    threadpool_limits({lib["prefix"]: threads for lib in threadpool_info() if lib["num_threads"] > threads})
