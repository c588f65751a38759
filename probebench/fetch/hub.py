"""Pretrained weights on the Hugging Face hub: whether they are on this machine, and how they get here. No torch.

Files lie in the hub's own cache, which timm and other programs share; a half-finished download is resumed by the hub's
client and never taken for whole. What models of a catalog need is known without asking the hub.
"""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from probebench._format import human
from probebench._progress import Progress
from probebench.catalog import ModelSpec, builtin_models
from probebench.catalog.specs import TIMM
from probebench.errors import FetchError, Unreachable, WeightsError, first_line
from probebench.fetch.http import download as download_file
from probebench.fetch.http import offline

CONNECT_SECONDS = 5.0
_NAMES = ("model.safetensors", "pytorch_model.bin")


def needs_download(spec: ModelSpec) -> bool:
    """Whether a model's weights come from elsewhere."""
    return spec.weights == "timm" and spec.checkpoint is None


def _files(spec: ModelSpec) -> Iterator[tuple[str, str]]:
    """Repository and name of the files that may hold the weights, the best first."""
    source = spec.source or f"timm/{spec.architecture}"
    repo, _, name = source.partition(":")
    for each in [name] if name else _NAMES:
        yield repo, each


def cached(spec: ModelSpec) -> Path | None:
    """The weights file of a model if it is on this machine, without asking the network."""
    if spec.source.startswith("https://"):
        path = _url_path(spec.source)
        return path if path.is_file() else None
    from huggingface_hub import try_to_load_from_cache

    for repo, name in _files(spec):
        found = try_to_load_from_cache(repo, name)
        if isinstance(found, str):
            return Path(found)
    return None


def _url_path(url: str) -> Path:
    """Where torch.hub, and so timm, keeps the file of a URL."""
    home = os.environ.get("TORCH_HOME") or Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")) / "torch"
    return Path(home).expanduser() / "hub" / "checkpoints" / url.rpartition("/")[2]


def lacking(spec: ModelSpec) -> str:
    """One line about weights that are not here: what they are, how big, how to get them."""
    size = f" ({human(spec.download_size)})" if spec.download_size else ""
    return f"model {spec.name}{size}: probebench fetch {handle(spec)}"


def handle(spec: ModelSpec) -> str:
    """What a command line outside pytest, which knows no conftest, calls a model."""
    return spec.name if spec.name in builtin_models() else f"{TIMM}{spec.architecture}"


def require(spec: ModelSpec) -> Path:
    """The weights file of a model, which must be on this machine.

    Raises:
        WeightsError: with what to do about it
    """
    path = cached(spec)
    if path is None:
        raise WeightsError(f"weights that are not on this machine: {lacking(spec)}")
    return path


def download(spec: ModelSpec, progress: Progress | None = None) -> Path:
    """The weights file of a model, downloaded if it is not on this machine.

    Raises:
        FetchError: if there is no network, the hub refuses, or the disk does; a second call resumes
    """
    path = cached(spec)
    if path is not None:
        return path
    what = f"the weights of model {spec.name!r}"
    if offline():
        raise Unreachable(f"{what} are not on this machine, and HF_HUB_OFFLINE forbids the network: unset it")
    if spec.source.startswith("https://"):
        path = _url_path(spec.source)
        download_file(spec.source, path, progress=progress)
        return path
    with _explained(what, spec):
        return _from_hub(spec, progress)


def _from_hub(spec: ModelSpec, progress: Progress | None) -> Path:
    from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url
    from huggingface_hub.errors import EntryNotFoundError

    *others, last = _files(spec)
    for repo, name in (*others, last):
        try:
            # One short question first: the client's own would be asked again and again for half a minute.
            size = get_hf_file_metadata(hf_hub_url(repo, name), timeout=CONNECT_SECONDS).size or 0
        except EntryNotFoundError:
            if (repo, name) == last:
                raise
            continue
        bar = _reporting(progress, f"weights of {spec.name}", size) if progress is not None else None
        return Path(hf_hub_download(repo, name, tqdm_class=bar, etag_timeout=CONNECT_SECONDS))
    raise AssertionError("unreachable")


def _reporting(progress: Progress, what: str, size: int) -> Any:
    """A class that the hub's client takes for a progress bar and that passes on what it is told."""
    from huggingface_hub.utils import tqdm

    class Bar(tqdm):  # type: ignore[misc]
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            progress.start(what, size)
            progress.advance(int(kwargs.get("initial") or 0))
            super().__init__(*args, **(kwargs | {"disable": True}))

        def update(self, n: float | None = 1) -> bool | None:
            progress.advance(int(n or 0))
            return None

    return Bar


@contextmanager
def _explained(what: str, spec: ModelSpec) -> Iterator[None]:
    """Turn whatever the hub's client raises into one sentence."""
    from huggingface_hub.errors import (
        EntryNotFoundError,
        GatedRepoError,
        HfHubHTTPError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
    )

    repo = next(_files(spec))[0]
    page = f"https://huggingface.co/{repo}"
    logger = logging.getLogger("huggingface_hub")
    level = logger.level
    logger.setLevel(logging.ERROR)  # its warnings about retries would stand between the dots
    try:
        yield
    except FetchError:
        raise
    except GatedRepoError as error:
        raise FetchError(
            f"{what}: the hub gives {repo} only to those who agreed to its terms; agree at {page}, then set HF_TOKEN "
            "or run `hf auth login`"
        ) from error
    except OfflineModeIsEnabled as error:
        raise Unreachable(f"{what} could not be downloaded: the environment forbids the network") from error
    except LocalEntryNotFoundError as error:
        raise Unreachable(f"{what} could not be downloaded: no answer from the hub ({_reason(error)})") from error
    except EntryNotFoundError as error:
        raise FetchError(f"{what}: {repo} has no file {' or '.join(name for _, name in _files(spec))}") from error
    except HfHubHTTPError as error:
        raise FetchError(f"{what} could not be downloaded: {_status(error, repo, page)}") from error
    except OSError as error:
        if error.errno == errno.ENOSPC:
            size = human(spec.download_size) if spec.download_size else "more room"
            raise FetchError(
                f"{what} need {size}, and the disk of {_cache()} is full; HF_HOME names another"
            ) from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise FetchError(
                f"{what} cannot be written to {_cache()} ({error.strerror}); HF_HOME names another folder"
            ) from error
        raise FetchError(f"{what} could not be downloaded ({_reason(error)})") from error
    except Exception as error:
        # The client's transport has had three names by now (requests, httpx, httpx2), and raises errors of its own.
        if type(error).__module__.partition(".")[0] not in ("requests", "httpx", "httpx2", "urllib3"):
            raise
        late = "Timeout" in type(error).__name__
        said = f"no answer within {CONNECT_SECONDS:.0f} s" if late else f"no network, it seems ({_reason(error)})"
        raise Unreachable(f"{what} could not be downloaded: {said}") from error
    finally:
        logger.setLevel(level)


def _status(error: Any, repo: str, page: str) -> str:
    code = getattr(error.response, "status_code", None)
    if code in (401, 403, 404):
        # The hub answers 401 for what does not exist as well as for what is private.
        return (
            f"the hub has no {repo}, or does not show it to you (status {code}); look at {page}, and if you have "
            "access, set HF_TOKEN or run `hf auth login`"
        )
    if code == 429:
        return "the hub asks for fewer requests (status 429); wait some minutes, or set HF_TOKEN for a higher limit"
    return f"the hub answers with status {code}; try again later" if code else _reason(error)


def _reason(error: BaseException) -> str:
    return first_line(error.__cause__ or error)


def _cache() -> str:
    from huggingface_hub.constants import HF_HUB_CACHE

    return str(HF_HUB_CACHE)
