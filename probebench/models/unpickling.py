"""Read pickled tensors, and run nothing of the file: every other object becomes an inert stand-in.

A pickle names functions and classes, and says what to call them with. Here only those that make tensors, arrays of
numpy and plain containers are looked up. Each other name gives a class that takes anything, does nothing, and
remembers its state. So objects beside the weights, such as configurations, do not keep a file from being read.
"""

from __future__ import annotations

import io
import pickle
from collections import OrderedDict
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch


class StandIn:
    """In place of an object that is not built. Calls, items and state of it have no effect.

    Attributes:
        state: what the file gives as the state of the object
    """

    state: Any = None

    def __new__(cls, *args: object, **kwargs: object) -> StandIn:
        return object.__new__(cls)

    def __init__(self, *args: object, **kwargs: object) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        self.state = state

    def __call__(self, *args: object, **kwargs: object) -> StandIn:
        return StandIn()

    def __setitem__(self, key: object, value: object) -> None:
        pass

    def append(self, value: object) -> None:
        """Ignore an item of a list."""

    def extend(self, values: object) -> None:
        """Ignore items of a list."""

    def add(self, value: object) -> None:
        """Ignore an item of a set."""


def _array(subtype: object, shape: object, dtype: object) -> np.ndarray[Any, Any]:
    """An empty array, which its state fills. Only of numpy's own class, whatever the file asks for."""
    return np.ndarray.__new__(np.ndarray, (0,), "b")


def _from_buffer(data: object, dtype: object, shape: Any, order: Any) -> object:
    """An array in pickles of protocol 5."""
    if isinstance(dtype, np.dtype) and not dtype.hasobject and isinstance(data, bytes | bytearray):
        return np.frombuffer(data, dtype).reshape(shape, order=order)
    return StandIn()


def _scalar(dtype: object, data: object = b"") -> object:
    if isinstance(dtype, np.dtype) and not dtype.hasobject and isinstance(data, bytes) and data:
        return np.frombuffer(data, dtype)[0]
    return StandIn()


def _encode(text: object, encoding: object = "latin1") -> object:
    """The bytes in pickles of protocol 2, which are written as text in Latin-1."""
    return text.encode("latin1") if isinstance(text, str) and encoding == "latin1" else StandIn()


def _parameter(data: torch.Tensor, *rest: object) -> torch.Tensor:
    return data


def _tensor(storage: Any, offset: int, size: Any, stride: Any, *rest: object) -> torch.Tensor:
    """A tensor of a storage; gradients, hooks and attributes are left out."""
    made: torch.Tensor = torch._utils._rebuild_tensor(storage, offset, size, stride)  # type: ignore[no-untyped-call]
    return made


def _of_type(make: object, kind: object, args: tuple[Any, ...], state: object) -> object:
    """A tensor of a subclass, as a plain tensor."""
    return make(*args) if make in (_tensor, _parameter) else StandIn()


def _dictionary(*args: object) -> dict[Any, Any]:
    return {}


_NUMPY = ("numpy.core.multiarray", "numpy._core.multiarray")
_MADE: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("collections", "defaultdict"): _dictionary,
    ("torch._utils", "_rebuild_tensor"): _tensor,
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch._utils", "_rebuild_parameter"): _parameter,
    ("torch._utils", "_rebuild_parameter_with_state"): _parameter,
    ("torch._tensor", "_rebuild_from_type_v2"): _of_type,
    ("torch", "Size"): torch.Size,
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("_codecs", "encode"): _encode,
    **{(module, "_reconstruct"): _array for module in _NUMPY},
    **{(module, "scalar"): _scalar for module in _NUMPY},
    ("numpy.core.numeric", "_frombuffer"): _from_buffer,
    ("numpy._core.numeric", "_frombuffer"): _from_buffer,
}


class Unpickler(pickle.Unpickler):
    """Builds tensors and plain containers, and stand-ins of everything else."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in _MADE:
            return _MADE[module, name]
        found = getattr(torch, name, None) if module == "torch" and name.isidentifier() else None
        if isinstance(found, torch.dtype):
            return found
        return type(name, (StandIn,), {"__module__": module})


class _Pickle:
    """Stands for the module `pickle` in `torch.load`, with all that it needs."""

    Unpickler = Unpickler
    UnpicklingError = pickle.UnpicklingError

    @staticmethod
    def load(file: IO[bytes], **kwargs: Any) -> Any:
        return Unpickler(file, **kwargs).load()


def load_torch(path: Path) -> Any:
    """Load a file of `torch.save`, in today's or in the old format, with tensors on the CPU.

    It must not be a TorchScript archive, which `torch.load` would run.
    """
    with path.open("rb") as file:  # by its path, torch would go by its name
        return torch.load(file, map_location="cpu", pickle_module=_Pickle, weights_only=False)


def load_pickle(path: Path) -> Any:
    """Load a file of `pickle.dump`, such as the ``.pkl`` of detectron2."""
    with path.open("rb") as file:
        return Unpickler(file, encoding="latin1").load()


def load_torchscript(path: Path) -> dict[str, torch.Tensor]:
    """Return the parameters and buffers of a TorchScript archive by their names. Its code is neither read nor run."""
    archive: Any = torch._C.PyTorchFileReader(str(path))
    storages: Any = torch.storage

    class OfArchive(Unpickler):
        def persistent_load(self, saved: Any) -> Any:
            _, kind, key, _, count = saved
            size = count * torch.empty((), dtype=kind.dtype).element_size()
            storage = archive.get_storage_from_record(f"data/{key}", size, torch.UntypedStorage)._typed_storage()
            return storages.TypedStorage(wrap_storage=storage._untyped_storage, dtype=kind.dtype, _internal=True)

        def find_class(self, module: str, name: str) -> Any:
            if module == "torch" and name.endswith("Storage"):
                kind: Any = torch.serialization.StorageType
                return kind(name)
            return super().find_class(module, name)

    root = OfArchive(io.BytesIO(archive.get_record("data.pkl"))).load()
    return dict(_tensors_below(root, ""))


def _tensors_below(value: Any, name: str) -> list[tuple[str, torch.Tensor]]:
    """The tensors of a module in a TorchScript archive, whose state is a dictionary of its attributes."""
    if isinstance(value, torch.Tensor):
        return [(name, value)]
    state = value.state if isinstance(value, StandIn) else None
    if not isinstance(state, dict):
        return []
    return [pair for key, each in state.items() for pair in _tensors_below(each, f"{name}.{key}" if name else str(key))]
