"""Send views through a network, batch by batch, and have the pooled features of all taps."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
from torch.utils.data import Dataset

from probebench._arrays import Array, allocate, count_rows_not_finite, fill
from probebench.catalog.taps import Tap
from probebench.datasets.views import Views
from probebench.errors import FeatureError
from probebench.features.batching import BatchSize, batches, out_of_memory
from probebench.features.hooks import Taps
from probebench.models.build import Model
from probebench.models.precision import dtype_of, use_precision


class Store:
    """Features of many taps, filled batch by batch.

    Args:
        device: where they are kept; the host by default

    Attributes:
        arrays: per tap float32 of shape (n, width)
    """

    def __init__(self, taps: Sequence[Tap], n: int, device: str | None = None) -> None:
        self.arrays: dict[Tap, Array] = {}
        self._taps, self._n, self._row, self._device = list(taps), n, 0, device

    def put(self, features: Sequence[Array]) -> None:
        """Append the rows of one batch: per tap float32 of shape (batch, width)."""
        if not self.arrays:
            widths = [feature.shape[1] for feature in features]
            self.arrays = allocate(dict(zip(self._taps, widths, strict=True)), self._n, self._device)
        for tap, values in zip(self._taps, features, strict=True):
            fill(self.arrays[tap], self._row, values)
        self._row += len(features[0])


class Arriving:
    """Features on their way from a GPU to the host: copied beside the work on the next batch, in their order."""

    def __init__(self, put: Callable[[Sequence[Array]], None], device: str) -> None:
        self._put = put
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._on_the_way: tuple[torch.cuda.Event, torch.Tensor, list[int]] | None = None

    def send(self, features: Sequence[torch.Tensor]) -> None:
        """Start to copy a batch, and hand over the one before."""
        # One copy for all taps: a hundred small ones would each wait for their turn.
        joined = torch.cat(list(features), dim=1)
        there = torch.empty(joined.shape, dtype=joined.dtype, pin_memory=True)
        self._stream.wait_stream(torch.cuda.current_stream(joined.device))
        with torch.cuda.stream(self._stream):
            there.copy_(joined, non_blocking=True)
            joined.record_stream(self._stream)
            copied = torch.cuda.Event()  # type: ignore[no-untyped-call]
            copied.record(self._stream)
        self.arrive()
        self._on_the_way = copied, there, [values.shape[1] for values in features]

    def arrive(self) -> None:
        """Hand over what is on its way."""
        if self._on_the_way is not None:
            copied, there, widths = self._on_the_way
            self._on_the_way = None
            copied.synchronize()
            self._put([part.numpy() for part in torch.split(there, widths, dim=1)])


def forward(
    model: Model,
    views: Dataset[torch.Tensor],
    taps: Sequence[Tap],
    put: Callable[[Sequence[Array]], None],
    *,
    pooling: str,
    mean: torch.Tensor,
    std: torch.Tensor,
    batch_size: BatchSize,
    device: str,
    stay: bool = False,
) -> None:
    """Send views through the network, batch by batch, in their order.

    Args:
        put: called with the pooled features of each batch: per tap float32 of shape (batch, width). From a GPU they
            come one batch late
        mean, std: of the pixels, float32 of shape (3, 1, 1)
        batch_size: made smaller where memory runs out
        stay: leave the features on the device

    Raises:
        FeatureError: if memory does not suffice for a single image
        LayoutError: if the network cannot be read
    """
    reader = Taps(model.net, taps, pooling)
    mean, std = mean.to(device), std.to(device)
    arriving = Arriving(put, device) if torch.device(device).type == "cuda" and not stay else None

    def read(images: torch.Tensor) -> list[torch.Tensor]:
        pixels = images.to(device, non_blocking=True).float().div_(255).sub_(mean).div_(std)
        return reader.read(pixels.to(dtype_of(model.precision)))

    with torch.inference_mode(), reader.attached(), use_precision(model.precision):
        for batch in batches(views, batch_size.now, device):
            for features in _in_parts(batch, read, batch_size, model.spec.name):
                if arriving is not None:
                    arriving.send(features)
                else:
                    put(features if stay else [values.numpy() for values in features])
        if arriving is not None:
            arriving.arrive()


def _in_parts(
    images: torch.Tensor, read: Callable[[torch.Tensor], list[torch.Tensor]], size: BatchSize, model: str
) -> Iterator[list[torch.Tensor]]:
    """The features of a batch: of all of it at once, or of as many images at a time as there is memory for."""
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
    *,
    pooling: str,
    mean: torch.Tensor,
    std: torch.Tensor,
    batch_size: BatchSize,
    device: str,
    stay: bool = False,
    progress: Callable[[int], None] | None = None,
) -> dict[Tap, Array]:
    """Pooled features of every view at every tap, from one pass over the views.

    Args:
        mean, std: of the pixels, float32 of shape (3, 1, 1)
        batch_size: made smaller where memory runs out
        stay: leave the features on the device
        progress: called with the number of images of each finished batch

    Returns:
        for each tap float32 of shape (len(views), width of the tap): an array, or a tensor on the device

    Raises:
        FeatureError: if a feature is NaN or infinite; the message names the taps
        LayoutError: if the network cannot be read
    """
    store = Store(taps, len(views), device if stay else None)

    def put(features: Sequence[Array]) -> None:
        store.put(features)
        if progress is not None:
            progress(len(features[0]))

    forward(
        model,
        views,
        taps,
        put,
        pooling=pooling,
        mean=mean,
        std=std,
        batch_size=batch_size,
        device=device,
        stay=stay,
    )
    refuse_non_finite(model, store.arrays)
    return store.arrays


def refuse_non_finite(model: Model, store: Mapping[Tap, Array]) -> None:
    """Raises FeatureError if there is a NaN or an infinity among the features of some images."""
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
