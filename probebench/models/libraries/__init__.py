"""The libraries that networks come from. Each is a module with the three functions of `Library`.

`ModelSpec.library` names the module.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

from probebench.catalog import ModelSpec
from probebench.catalog.specs import LIBRARIES, id_name
from probebench.errors import ProbebenchError

if TYPE_CHECKING:
    from torch import nn

_MODULES = {
    "timm": "probebench.models.timm_spec",
    "hf": "probebench.models.libraries.huggingface",
    "open_clip": "probebench.models.libraries.open_clip",
    "torchvision": "probebench.models.libraries.torchvision",
    "function": "probebench.models.libraries.function",
}


class Library(Protocol):
    """What a library must be able to do."""

    def complete_spec(self, spec: ModelSpec) -> ModelSpec:
        """Return a spec with missing fields filled in from the library."""
        ...

    def create_network(self, spec: ModelSpec) -> nn.Module:
        """Build the network without pretrained weights, from torch's global generator."""
        ...

    def load_network(self, spec: ModelSpec, path: Path | None) -> nn.Module:
        """Build the network with its pretrained weights, from the file that `probebench.fetch.hub` keeps, if any."""
        ...


def find_library(spec: ModelSpec) -> Library:
    """Return the library that the network of a spec comes from."""
    return cast("Library", import_module(_MODULES[spec.library]))


def import_extra(module: str, needs: str, extra: str) -> Any:
    """Import a library that an extra of the package installs.

    Raises:
        ProbebenchError: if it is not installed; the message has the command
    """
    try:
        return import_module(module)
    except ImportError as error:
        if error.name not in (None, module.partition(".")[0]):
            raise ProbebenchError(f"{needs} cannot be imported ({error})") from error
        raise ProbebenchError(f"{extra}: models need {needs}: pip install 'probebench[{extra}]'") from error


def is_library_id(name: str) -> bool:
    """Return whether ids call a model of a library so, which has cases only where a command line names it."""
    if name.startswith(id_name("timm:")):
        from probebench.models.timm_spec import is_timm_id

        return is_timm_id(name)
    return name.startswith(tuple(id_name(f"{library}:") for library in LIBRARIES))
