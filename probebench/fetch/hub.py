"""Download pretrained weights from the Hugging Face hub, and find them in its local cache. No torch.

Files are stored in the hub's own cache, which timm and other programs share. The hub's client resumes partial
downloads and never uses an incomplete file. Checking what the models of a catalog need does not contact the hub.
"""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from probebench._format import human
from probebench._progress import Progress
from probebench.catalog import ModelSpec, builtin_models
from probebench.errors import FetchError, Unreachable, WeightsError, first_line
from probebench.fetch import snapshots
from probebench.fetch.http import download as download_file
from probebench.fetch.http import offline

CONNECT_SECONDS = 5.0
_NAMES = {
    "timm": ("model.safetensors", "pytorch_model.bin"),
    "open_clip": ("open_clip_model.safetensors", "open_clip_pytorch_model.bin"),
    "hf": snapshots.WEIGHTS,
}


def needs_download(spec: ModelSpec) -> bool:
    """Return whether the weights of a model come from the network: not from the package, a seed, a file or a function.

    Raises:
        WeightsError: if it names a folder that is not there or has no weights
    """
    if spec.weights != "timm" or spec.checkpoint is not None:
        return False
    if spec.library == "hf":
        return snapshots.own_folder(spec) is None
    return spec.library == "timm" or bool(spec.source)


def _candidates(spec: ModelSpec) -> Iterator[tuple[str, str]]:
    """Yield repository and name of the files that may hold the weights, in order of preference."""
    source = snapshots.repository(spec) if spec.library == "hf" else spec.source or f"timm/{spec.architecture}"
    repo, _, name = source.partition(":")
    for each in [name] if name else _NAMES.get(spec.library, ()):
        yield repo, each


def cached(spec: ModelSpec) -> Path | None:
    """Return the weights file of a model if it is on this machine, without network access."""
    if spec.source.startswith("https://"):
        path = _url_path(spec.source)
        return path if path.is_file() else None
    from huggingface_hub import try_to_load_from_cache

    for repo, name in _candidates(spec):
        found = try_to_load_from_cache(repo, name)
        if isinstance(found, str):
            return Path(found)
    return None


def _url_path(url: str) -> Path:
    """The path at which torch.hub, and so timm, stores the file of a URL."""
    home = os.environ.get("TORCH_HOME") or Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")) / "torch"
    return Path(os.path.expanduser(home)) / "hub" / "checkpoints" / url.rpartition("/")[2]


def handle(spec: ModelSpec) -> str:
    """The name of a model for commands outside pytest, which do not load conftest.py files."""
    if spec.name in builtin_models():
        return spec.name
    return spec.architecture if spec.library != "timm" else f"timm:{spec.architecture}"


def require(spec: ModelSpec) -> Path:
    """Return the weights file of a model, which must be on this machine.

    Raises:
        WeightsError: if it is not; the message has the command that downloads it
    """
    path = cached(spec)
    if path is None:
        size = f" ({human(spec.download_size)})" if spec.download_size else ""
        raise WeightsError(
            f"the weights of model {spec.name!r}{size} are not on this machine; run: probebench fetch {handle(spec)}"
        )
    return path


def download(spec: ModelSpec, progress: Progress | None = None) -> Path:
    """Return the weights file of a model, downloading it if it is not on this machine.

    Raises:
        FetchError: if there is no network, the hub refuses, or the disk is full or not writable; a second call resumes
    """
    path = cached(spec)
    if path is not None:
        return path
    what = f"the weights of model {spec.name!r}"
    if offline():
        raise Unreachable(f"{what} are not on this machine, and HF_HUB_OFFLINE disables downloads: unset it")
    if spec.source.startswith("https://"):
        path = _url_path(spec.source)
        download_file(spec.source, path, progress=progress)
        return path
    with _translate_errors(what, spec):
        found = _from_hub(spec, progress)
        if spec.library == "hf":
            _complete_folder(spec, found)
        return found


def configured_folder(spec: ModelSpec) -> Path:
    """Return the folder with the configuration of a model of transformers, downloading it if it is not on this machine.

    Raises:
        FetchError: if it cannot be downloaded
        WeightsError: if the folder of a spec does not exist or has no configuration
    """
    folder = snapshots.own_folder(spec)
    if folder is None:
        folder = snapshots.find_folder(snapshots.repository(spec), (snapshots.CONFIG,))
    if folder is not None:
        return folder
    what = f"the configuration of model {spec.name!r}"
    if offline():
        raise Unreachable(f"{what} is not on this machine, and HF_HUB_OFFLINE disables downloads: unset it")
    with _translate_errors(what, spec):
        return _download_configuration(spec)


def _download_configuration(spec: ModelSpec) -> Path:
    from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url
    from huggingface_hub.errors import EntryNotFoundError

    repo = snapshots.repository(spec)
    get_hf_file_metadata(hf_hub_url(repo, snapshots.CONFIG), timeout=CONNECT_SECONDS)
    with suppress(EntryNotFoundError):  # then the user gives the preprocessing
        hf_hub_download(repo, snapshots.PROCESSOR, etag_timeout=CONNECT_SECONDS)
    return Path(hf_hub_download(repo, snapshots.CONFIG, etag_timeout=CONNECT_SECONDS)).parent


def _complete_folder(spec: ModelSpec, weights: Path) -> None:
    """Download what is beside the weights of a model of transformers: its configuration, parts that an index lists."""
    from huggingface_hub import hf_hub_download

    _download_configuration(spec)
    if weights.suffix == ".json":
        for name in snapshots.parts_of(weights, f"{weights}"):
            hf_hub_download(snapshots.repository(spec), name, etag_timeout=CONNECT_SECONDS)


def _from_hub(spec: ModelSpec, progress: Progress | None) -> Path:
    from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url
    from huggingface_hub.errors import EntryNotFoundError

    *others, last = _candidates(spec)
    for repo, name in (*others, last):
        try:
            # One short request first: the client itself retries its own for half a minute.
            size = get_hf_file_metadata(hf_hub_url(repo, name), timeout=CONNECT_SECONDS).size or 0
        except EntryNotFoundError:
            if (repo, name) == last:
                raise
            continue
        bar = _progress_bar_class(progress, f"weights of {spec.name}", size) if progress is not None else None
        return Path(hf_hub_download(repo, name, tqdm_class=bar, etag_timeout=CONNECT_SECONDS))
    raise AssertionError("unreachable")


def _progress_bar_class(progress: Progress, what: str, size: int) -> Any:
    """Create a class that the hub's client uses as a progress bar and that forwards to `progress`."""
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
def _translate_errors(what: str, spec: ModelSpec) -> Iterator[None]:
    """Turn errors of the hub's client into FetchError with cause and remedy."""
    from huggingface_hub.errors import (
        EntryNotFoundError,
        GatedRepoError,
        HfHubHTTPError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
    )

    repo = next(_candidates(spec))[0]
    page = f"https://huggingface.co/{repo}"
    logger = logging.getLogger("huggingface_hub")
    level = logger.level
    logger.setLevel(logging.ERROR)  # its warnings about retries would interrupt pytest's dots
    try:
        yield
    except FetchError:
        raise
    except GatedRepoError as error:
        raise FetchError(
            f"{what}: {repo} requires its terms to be accepted; accept them at {page}, then set HF_TOKEN or run "
            "`hf auth login`"
        ) from error
    except OfflineModeIsEnabled as error:
        raise Unreachable(
            f"{what} could not be downloaded: an environment variable such as HF_HUB_OFFLINE disables the network"
        ) from error
    except LocalEntryNotFoundError as error:
        raise Unreachable(f"{what} could not be downloaded: no answer from the hub ({_reason(error)})") from error
    except EntryNotFoundError as error:
        raise FetchError(f"{what}: {repo} has no file {' or '.join(name for _, name in _candidates(spec))}") from error
    except HfHubHTTPError as error:
        raise FetchError(f"{what} could not be downloaded: {_status(error, repo, page)}") from error
    except OSError as error:
        if error.errno == errno.ENOSPC:
            size = human(spec.download_size) if spec.download_size else "more room"
            raise FetchError(
                f"{what} need {size}, but the disk of {_cache_folder()} is full; set HF_HOME to another folder"
            ) from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise FetchError(
                f"{what} cannot be written to {_cache_folder()} ({error.strerror}); set HF_HOME to another folder"
            ) from error
        raise FetchError(f"{what} could not be downloaded ({_reason(error)})") from error
    except Exception as error:
        # The client's HTTP library has changed (requests, httpx, httpx2), and each raises errors of its own.
        if type(error).__module__.partition(".")[0] not in ("requests", "httpx", "httpx2", "urllib3"):
            raise
        timeout = "Timeout" in type(error).__name__
        cause = f"no answer within {CONNECT_SECONDS:.0f} s" if timeout else f"no network ({_reason(error)})"
        raise Unreachable(f"{what} could not be downloaded: {cause}") from error
    finally:
        logger.setLevel(level)


def _status(error: Any, repo: str, page: str) -> str:
    code = getattr(error.response, "status_code", None)
    if code in (401, 403, 404):
        # The hub answers 401 for repositories that do not exist as well as for private ones.
        return (
            f"{repo} does not exist on the hub or is private (status {code}); see {page}, and if you have access, "
            "set HF_TOKEN or run `hf auth login`"
        )
    if code == 429:
        return "too many requests to the hub (status 429); wait a few minutes, or set HF_TOKEN for a higher limit"
    return f"the hub answers with status {code}; try again later" if code else _reason(error)


def _reason(error: BaseException) -> str:
    return first_line(error.__cause__ or error)


def _cache_folder() -> str:
    from huggingface_hub.constants import HF_HUB_CACHE

    return str(HF_HUB_CACHE)
