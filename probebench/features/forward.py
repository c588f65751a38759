"""Send views through a network, batch by batch, and collect the pooled features of all taps."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
from torch.utils.data import Dataset

from probebench._arrays import Array, allocate, count_rows_not_finite, fill, on_host
from probebench.catalog.taps import Tap
from probebench.datasets.views import Views
from probebench.errors import FeatureError
from probebench.features.batching import BatchSize, batches, out_of_memory
from probebench.features.hooks import TapReader
from probebench.features.settings import ExtractionSettings
from probebench.features.tokens import flatten
from probebench.models.build import Model
from probebench.models.precision import dtype_of, use_precision


class Store:
    """Features of many taps, filled batch by batch.

    Args:
        device: where they are kept; the host by default

    Attributes:
        arrays: per tap float32 of shape (n, width), or its tokens, see `probebench.features.tokens`
    """

    def __init__(self, taps: Sequence[Tap], n: int, device: str | None = None) -> None:
        self.arrays: dict[Tap, Array] = {}
        self._taps, self._n, self._row, self._device = list(taps), n, 0, device

    def put(self, features: Sequence[Array]) -> None:
        """Append the rows of one batch: per tap of shape (batch, width)."""
        if not self.arrays:
            widths = [feature.shape[1] for feature in features]
            self.arrays = allocate(dict(zip(self._taps, widths, strict=True)), self._n, self._device)
        for tap, values in zip(self._taps, features, strict=True):
            fill(self.arrays[tap], self._row, values)
        self._row += len(features[0])


class HostCopy:
    """Copies features from a GPU to the host while the GPU works on the next batch. Batches keep their order."""

    def __init__(self, put: Callable[[Sequence[Array]], None], device: str) -> None:
        self._put = put
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._pending: tuple[torch.cuda.Event, list[torch.Tensor], Sequence[torch.Tensor]] | None = None

    def send(self, features: Sequence[torch.Tensor]) -> None:
        """Start to copy a batch, and hand over the one before it."""
        # One copy for all taps of a type: a hundred small ones would each wait for their turn.
        joined = join_by_type(features)
        there = [torch.empty(each.shape, dtype=each.dtype, pin_memory=True) for each in joined]
        self._stream.wait_stream(torch.cuda.current_stream(joined[0].device))
        with torch.cuda.stream(self._stream):
            for target, source in zip(there, joined, strict=True):
                target.copy_(source, non_blocking=True)
                source.record_stream(self._stream)
            copied = torch.cuda.Event()  # type: ignore[no-untyped-call]
            copied.record(self._stream)
        self.finish()
        self._pending = copied, there, [_shape_of(values) for values in features]

    def finish(self) -> None:
        """Wait for the pending copy, and hand it over."""
        if self._pending is not None:
            copied, there, like = self._pending
            self._pending = None
            copied.synchronize()
            self._put([on_host(part) for part in split_by_type(there, like)])


def _shape_of(values: torch.Tensor) -> torch.Tensor:
    """A tensor without rows, of the same width and type, that holds on to no memory of the device."""
    return torch.empty(0, values.shape[1], dtype=values.dtype)


def join_by_type(features: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """Join tensors of equal length, shape (batch, width) each: one for each type, in the order the types come."""
    kinds = dict.fromkeys(values.dtype for values in features)
    return [torch.cat([values for values in features if values.dtype == kind], dim=1) for kind in kinds]


def split_by_type(joined: Sequence[torch.Tensor], like: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """Undo `join_by_type`.

    Args:
        like: tensors of the widths and types of those that were joined
    """
    parts = {
        each.dtype: iter(torch.split(each, [values.shape[1] for values in like if values.dtype == each.dtype], dim=1))
        for each in joined
    }
    return [next(parts[values.dtype]) for values in like]


def forward(
    model: Model,
    views: Dataset[torch.Tensor],
    taps: Sequence[Tap],
    put: Callable[[Sequence[Array]], None],
    settings: ExtractionSettings,
) -> None:
    """Send views through the network, batch by batch, in their order.

    Args:
        put: called with the features of each batch: per tap float32 of shape (batch, width), or its tokens, see
            `probebench.features.tokens`. From a GPU they come one batch late

    Raises:
        FeatureError: if memory does not suffice for a single image
        LayoutError: if the network cannot be read
    """
    device, stay, size = settings.device, settings.stay, settings.batch_size
    reader = TapReader(model.net, taps, settings.pooling)
    mean, std = settings.mean.to(device), settings.std.to(device)
    copy = HostCopy(put, device) if torch.device(device).type == "cuda" and not stay else None

    def read(images: torch.Tensor) -> list[torch.Tensor]:
        pixels = images.to(device, non_blocking=True).float().div_(255).sub_(mean).div_(std)
        return [flatten(values) for values in reader.read(pixels.to(dtype_of(model.precision)))]

    with torch.inference_mode(), reader.attached(), use_precision(model.precision):
        for batch in batches(views, size.now, device):
            for features in _read_in_parts(batch, read, size, model.spec.name):
                if copy is not None:
                    copy.send(features)
                else:
                    put(features if stay else [on_host(values) for values in features])
        if copy is not None:
            copy.finish()


def _read_in_parts(
    images: torch.Tensor, read: Callable[[torch.Tensor], list[torch.Tensor]], size: BatchSize, model: str
) -> Iterator[list[torch.Tensor]]:
    """Yield the features of a batch: all of it at once, or as many images at a time as there is memory for."""
    done = 0
    while done < len(images):
        part = images[done : done + size.now]
        try:
            features = read(part)
        except RuntimeError as error:
            if not out_of_memory(error):
                raise
            problem = str(error).splitlines()[0]
        else:
            done += len(part)
            yield features
            continue
        # Out of the except block, or the error would hold on to what the failed pass had made.
        if not size.halve():
            raise FeatureError(f"model {model!r}: memory does not suffice for one image ({problem})")
        torch.cuda.empty_cache()  # does nothing where there is no GPU


def extract(
    model: Model,
    views: Views,
    taps: Sequence[Tap],
    settings: ExtractionSettings,
    advance: Callable[[int], None] | None = None,
) -> dict[Tap, Array]:
    """Pooled features of every view at every tap, from one pass over the views, without a cache.

    Args:
        advance: called with the number of images of each finished batch; by default the progress of `settings` is
            advanced

    Returns:
        for each tap float32 of shape (len(views), width of the tap), or its tokens: an array, or a tensor on the
        device

    Raises:
        FeatureError: if a feature is NaN or infinite; the message names the taps
        LayoutError: if the network cannot be read
    """
    store = Store(taps, len(views), settings.device if settings.stay else None)
    advance = advance or settings.progress.advance

    def put(features: Sequence[Array]) -> None:
        store.put(features)
        advance(len(features[0]))

    forward(model, views, taps, put, settings)
    refuse_non_finite(model, store.arrays)
    return store.arrays


def refuse_non_finite(model: Model, store: Mapping[Tap, Array]) -> None:
    """Refuse features that are not finite.

    Raises:
        FeatureError: if there is a NaN or an infinity; the message names the first and the last tap
    """
    bad = {tap: count for tap, values in store.items() if (count := count_rows_not_finite(values))}
    if bad:
        first, *rest = sorted(bad)
        more = f" and {len(rest)} taps more, up to {rest[-1].id}" if rest else ""
        total = len(next(iter(store.values())))
        why = "Weights that overflow, or a damaged checkpoint, do this"
        if model.precision == "float16":
            why = "Activations beyond 65,504 overflow in fp16: use bf16, which has the range of fp32"
        raise FeatureError(
            f"features of model {model.spec.name!r} are NaN or infinite at {first.id} ({bad[first]} of {total} "
            f"images){more}. {why}; the first tap named is where it starts"
        )
