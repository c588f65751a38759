"""Find folders of transformers models: those of the user, or in the cache of the Hugging Face hub. No torch."""

from __future__ import annotations

import json
from pathlib import Path

from probebench._files import expand_path
from probebench.catalog import ModelSpec
from probebench.errors import WeightsError

PREFIX = "hf:"
CONFIG, PROCESSOR = "config.json", "preprocessor_config.json"
WEIGHTS = ("model.safetensors", "model.safetensors.index.json")


def own_folder(spec: ModelSpec) -> Path | None:
    """Return the folder that a spec names; None if it names a repository of the hub.

    Raises:
        WeightsError: if there is no such folder, or it has no configuration
    """
    name = spec.architecture.removeprefix(PREFIX)
    path = expand_path(name)
    if not path.is_dir() and not name.startswith((".", "/", "~", "$")):
        return None
    if not (path / CONFIG).is_file():
        what = "no such folder" if not path.is_dir() else f"it has no {CONFIG}; name a folder of save_pretrained"
        raise WeightsError(f"model {spec.name!r} ({path.absolute()}): {what}")
    if not any((path / each).is_file() for each in WEIGHTS):
        raise WeightsError(
            f"model {spec.name!r} ({path.absolute()}): it has no {WEIGHTS[0]}; only safetensors are read: save it "
            "again with save_pretrained"
        )
    return path


def repository(spec: ModelSpec) -> str:
    """Return the repository of the hub that a spec names."""
    return spec.architecture.removeprefix(PREFIX)


def find_folder(repo: str, names: tuple[str, ...]) -> Path | None:
    """Return the folder in the hub's cache that has one of these files of a repository; without network access."""
    from huggingface_hub import try_to_load_from_cache

    for name in names:
        if isinstance(found := try_to_load_from_cache(repo, name), str):
            return Path(found).parent
    return None


def parts_of(index: Path, where: str) -> list[str]:
    """Return the names of the files that an index of a checkpoint in parts lists.

    Args:
        where: name of the file in error messages

    Raises:
        WeightsError: if it is no such index
    """
    try:
        return sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise WeightsError(f"{where}: a JSON file that is no index of a checkpoint in parts") from error
