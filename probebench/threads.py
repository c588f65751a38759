"""How many threads a process takes where others share its processor cores."""

from __future__ import annotations


def limit(threads: int) -> None:
    """Let torch and the libraries under numpy take as many threads, if they do not take fewer already."""
    import torch
    from threadpoolctl import threadpool_info, threadpool_limits

    torch.set_num_threads(min(threads, torch.get_num_threads()))
    threadpool_limits({lib["prefix"]: threads for lib in threadpool_info() if lib["num_threads"] > threads})
