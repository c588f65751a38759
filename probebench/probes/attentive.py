"""The probe of `attentive@1`: attention pooling with learned queries, trained by gradient descent on tokens.

The pooling is that of `probebench.probes.attention_pool`. It is trained with AdamW (Loshchilov and Hutter, ICLR 2019,
arXiv 1711.05101) on batches in an order that depends on the seed alone, with a learning rate that rises over the first
twentieth of the steps and then falls along a cosine. The rate, and the number of epochs, are those of the best accuracy
on the held-out part of train, smoothed over neighbouring epochs; then the probe is trained again on all of train with
that rate for that many epochs. The linear probes that it is compared with are fitted on all of train as well.

On a CPU each tap is trained on one core, by operations whose order is fixed: the same tokens give the same bits,
however many threads the machine has.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from probebench._arrays import Array
from probebench.catalog.protocols import Protocol
from probebench.catalog.taps import Tap
from probebench.errors import DataError, FeatureError
from probebench.probes.attention_pool import AttentiveClassifier, count_parameters
from probebench.probes.base import Fit, FitSize, ProbeInfo
from probebench.probes.memory import path_bytes
from probebench.probes.operations import chosen_path_operations
from probebench.probes.parallel import Features, Results, encode, run_on_cores
from probebench.probes.token_rows import Scale, TokenRows

WARM_UP = 0.05
"""The share of the steps in which the learning rate rises."""

TOKEN_VALUE, QUERY_VALUE, WEIGHT, CLASS_WEIGHT, STEP = 130.0, 8.0, 13.0, 30.0, 2e8
"""Operations of a float32 matrix product that take as long as the part of an image in a step that grows with the
features of its tokens, with these times queries, with the weights of the projection and of the classifier, and a step
of no images. Measured on a CPU from 17 tokens of 64 features to 257 of 1,024."""

TRAINED = 0.7
"""The part of all epochs that is left where images are held out, and training ends early."""


@dataclass(frozen=True)
class _Epochs:
    """The accuracies on held-out images, epoch by epoch.

    Attributes:
        accuracy: in [0, 1], after each epoch
        steps: of the optimiser
    """

    accuracy: list[float]
    steps: int

    def best(self) -> tuple[float, int]:
        """The best smoothed accuracy, and after how many epochs it was reached, the fewest among equals."""
        values = smooth(self.accuracy)
        index = int(np.argmax(values))
        return float(values[index]), index + 1


@dataclass(frozen=True)
class Attentive:
    """The trained probe of one tap.

    Attributes:
        classes: int64, shape (C,), the class of each score
        net, scale: on the device that it was trained on
        rate, epochs: those that were chosen
        steps: of the optimiser, those of the choice included
        held_out_accuracy: of that rate after those epochs, in [0, 1]; None if nothing was held out
    """

    classes: npt.NDArray[np.int64]
    net: AttentiveClassifier
    scale: Scale
    rate: float
    epochs: int
    steps: int
    held_out_accuracy: float | None

    def scores(self, tokens: Array) -> npt.NDArray[np.float32]:
        """Return logits, shape (n, C), of tokens of shape (n, tokens, width), as `TokenRows` has them."""
        rows = TokenRows(tokens, np.arange(len(tokens)), str(self.scale.mean.device))
        return np.asarray(predict(self.net, rows, self.scale).cpu().numpy(), dtype=np.float32)

    def tensors(self) -> dict[str, torch.Tensor]:
        """Return the weights by name, float32 on the CPU: those of `AttentiveClassifier`, and those of `Scale` under
        the names of `probebench.probes.linear.Linear`, ``mean`` and ``scale``."""
        found = dict(self.net.state_dict()) | {"mean": self.scale.mean, "scale": self.scale.deviation}
        return {name: values.detach().cpu().float().contiguous() for name, values in found.items()}


def smooth(values: list[float]) -> npt.NDArray[np.float64]:
    """Average values with their neighbours, with weights 1, 2, 1; at an end, where there is one neighbour, 2, 1."""
    weights = np.array([1.0, 2.0, 1.0])
    total = np.convolve(values, weights)[1:-1]
    return total / np.convolve(np.ones(len(values)), weights)[1:-1]


def learning_rate(step: int, steps: int) -> float:
    """The share of the full learning rate at a step, counted from 0."""
    warm = max(1, math.ceil(WARM_UP * steps))
    return min((step + 1) / warm, 0.5 * (1 + math.cos(math.pi * step / steps)))


def train_probe(
    rows: TokenRows,
    labels: torch.Tensor,
    classes: int,
    scale: Scale,
    protocol: Protocol,
    rate: float,
    *,
    unseen: tuple[TokenRows, torch.Tensor] | None = None,
    epochs: int | None = None,
) -> tuple[AttentiveClassifier, _Epochs]:
    """Train the probe of one tap.

    Args:
        rows, labels: of the training images; int64, in 0 .. classes - 1, on the device
        rate: the largest learning rate
        unseen: held-out images and their labels. The training ends once `Protocol.epoch_patience` epochs in a row have
            been no better on them
        epochs: after which it ends in any case, while the learning rate goes on falling for `Protocol.epochs`; by
            default these
    """
    assert protocol.queries is not None
    assert protocol.epochs is not None
    assert protocol.batch is not None
    assert protocol.epoch_patience is not None
    assert protocol.weight_decay is not None
    generator = torch.Generator().manual_seed(protocol.seed)
    net = AttentiveClassifier(rows.width, protocol.queries, classes, generator).to(rows.device)
    optimiser = torch.optim.AdamW(net.parameters(), lr=rate, weight_decay=protocol.weight_decay)
    steps, step = protocol.epochs * math.ceil(len(rows) / protocol.batch), 0
    seen: list[float] = []
    for _ in range(epochs or protocol.epochs):
        for chosen in torch.split(torch.randperm(len(rows), generator=generator), protocol.batch):
            for group in optimiser.param_groups:
                group["lr"] = rate * learning_rate(step, steps)
            scores = net(scale.apply(rows[chosen.numpy()]))
            loss = nn.functional.cross_entropy(scores, labels[chosen.to(labels.device)])
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            step += 1
        if unseen is not None:
            found = predict(net, unseen[0], scale).argmax(dim=1)
            seen.append(float((found == unseen[1]).float().mean()))
            if len(seen) - 1 - int(np.argmax(seen)) >= protocol.epoch_patience:
                break
    return net, _Epochs(seen, step)


@torch.no_grad()
def predict(net: AttentiveClassifier, rows: TokenRows, scale: Scale) -> torch.Tensor:
    """The scores of images, float32 of shape (n, classes), on the device."""
    return torch.cat([net(scale.apply(rows[part])) for part in rows.chunks()])


def fit(
    train: Mapping[Tap, Array],
    train_labels: npt.NDArray[Any],
    test: Mapping[Tap, Array],
    held_out: npt.NDArray[np.bool_] | None,
    protocol: Protocol,
    device: str,
    jobs: int,
) -> Iterator[tuple[Tap, Fit]]:
    """See `probebench.probes.Probe`, with tokens of shape (images, tokens, width) as `ProbeInfo.tokens` says.

    Raises:
        DataError: if there are fewer than two classes
        FeatureError: if the tokens of a tap are not finite
    """
    if len(np.unique(train_labels)) < 2:
        raise DataError("a probe needs training images of at least two classes")

    def fit_one(train: Features, test: Features) -> Results:
        ((tap, tokens),) = train.items()
        try:
            return [(tap, _fit_tap(tokens, train_labels, test[tap], held_out, protocol, device))]
        except FeatureError as error:
            raise FeatureError(f"probe at {tap.id}: {error}") from error

    parts = (({tap: train[tap]}, {tap: test[tap]}) for tap in train)
    # Tokens stay where they are, and go to the device a batch at a time.
    for results in run_on_cores(fit_one, parts, jobs if device == "cpu" else 1, "cpu"):
        yield from results


def _fit_tap(
    tokens: Array,
    train_labels: npt.NDArray[np.int64],
    test: Array,
    held_out: npt.NDArray[np.bool_] | None,
    protocol: Protocol,
    device: str,
) -> Fit:
    clock = time.thread_time if device == "cpu" else time.perf_counter
    start = clock()
    probe = choose_and_train(tokens, train_labels, held_out, protocol, device)
    scores = probe.scores(test)
    return Fit(
        predictions=probe.classes[scores.argmax(axis=1)],
        classes=probe.classes,
        scores=scores,
        probabilities=True,
        seconds=clock() - start,
        iterations=probe.steps,
        C=None,
        held_out_accuracy=probe.held_out_accuracy,
    )


def choose_and_train(
    tokens: Array,
    train_labels: npt.NDArray[np.int64],
    held_out: npt.NDArray[np.bool_] | None,
    protocol: Protocol,
    device: str,
) -> Attentive:
    """Choose the rate and the epochs for a tap on held-out images, and train its probe on all of train.

    Args:
        tokens: of the training images, shape (n, tokens, width), as `TokenRows` has them
        train_labels, held_out, device: as in `fit`

    Raises:
        FeatureError: if the tokens are not finite
    """
    assert protocol.rates is not None
    assert protocol.epochs is not None
    known, labels = encode(train_labels)
    labels = labels.to(device)
    everything = TokenRows(tokens, np.arange(len(train_labels)), device)
    scale = Scale.of(everything) if protocol.standardize else Scale.none(everything)
    mask = np.zeros(len(train_labels), dtype=bool) if held_out is None else held_out
    rate, epochs, steps, accuracy = protocol.rates[len(protocol.rates) // 2], protocol.epochs, 0, None
    if mask.any():
        inside, outside = (TokenRows(tokens, np.flatnonzero(part), device) for part in (~mask, mask))
        unseen = outside, labels[torch.from_numpy(outside.index).to(device)]
        seen = labels[torch.from_numpy(inside.index).to(device)]
        best = -1.0
        for each in protocol.rates:  # rising: of equals the smallest
            _, found = train_probe(inside, seen, len(known), scale, protocol, each, unseen=unseen)
            steps += found.steps
            smoothed, after = found.best()
            if smoothed > best:
                best, rate, epochs, accuracy = smoothed, each, after, found.accuracy[after - 1]
    net, found = train_probe(everything, labels, len(known), scale, protocol, rate, epochs=epochs)
    return Attentive(known, net, scale, rate, epochs, steps + found.steps, accuracy)


def _memory(size: FitSize) -> int:
    """Return the bytes of the training, or of the linear probe on the mean of the tokens, whichever is more."""
    weights = count_parameters(size.width, size.queries, size.classes)
    # Tokens as they are gathered, in float32, and their attention and what it gathers with their gradients.
    image = 8 * size.tokens * size.width + 16 * size.queries * (size.tokens + size.width)
    chunk = max(size.batch * image, 20 * (1 << 21))
    own = 4 * 5 * weights + 2 * chunk + 4 * size.n_test * size.classes
    linear = path_bytes(size.n_train, size.width, size.classes, size.strengths, size.n_test, together=1)
    return max(own, linear)


def _operations(size: FitSize) -> float:
    """Return the operations of the training and of the linear probe on the mean of the tokens."""
    image = (TOKEN_VALUE + QUERY_VALUE * size.queries) * size.tokens * size.width
    image += WEIGHT * size.width**2 + CLASS_WEIGHT * size.classes * size.width + STEP / max(1, size.batch)
    return TRAINED * size.n_train * size.epochs * image + chosen_path_operations(size)


PROBE = ProbeInfo(
    fit,
    memory=_memory,
    operations=_operations,
    on_device=True,
    needs={
        "queries": "a number of queries",
        "epochs": "a number of epochs",
        "batch": "a number of images per step",
        "rates": "learning rates to choose from",
        "weight_decay": "a weight decay",
        "epoch_patience": "when to end the training",
    },
    tokens=True,
)
