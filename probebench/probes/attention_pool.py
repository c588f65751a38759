"""Attention pooling with several learned queries, and a linear classifier on what they find.

Efficient probing (Psomas et al., "Attention, Please! Revisiting Attentive Probing Through the Lens of Efficiency",
arXiv 2506.10178): each query attends over the tokens of an image, which are the keys themselves, without a projection.
One projection makes values of the tokens; its outputs are divided among the queries, and what the queries gather is
concatenated.
"""

from __future__ import annotations

import torch
from torch import nn

QUERY_DEVIATION = 0.02
"""Standard deviation of the first queries, as in the code of the paper: attention begins nearly uniform."""


class AttentiveClassifier(nn.Module):
    """Pools tokens by attention, and classifies the result.

    Query q attends to token x with the softmax over tokens of ``q x / sqrt(width)``. The values are linear in the
    tokens, so each query's tokens are averaged first and projected afterwards, which is the same and takes less work
    than a projection of every token.

    Args:
        width: features of a token
        queries: their number
        classes: of the labels
        generator: of the first weights, drawn on the CPU

    Attributes:
        queries: shape (queries, width)
        values: shape (queries, width, part), the columns of the projection that belong to each query; ``part`` is the
            width divided by the number of queries, rounded up
        weight, bias: of the classifier, shapes (classes, queries * part) and (classes,); zero at first
    """

    def __init__(self, width: int, queries: int, classes: int, generator: torch.Generator) -> None:
        super().__init__()
        part = -(-width // queries)
        first = torch.randn(queries, width, generator=generator) * QUERY_DEVIATION
        bound = width**-0.5  # as of a linear layer of that many inputs
        projection = (torch.rand(queries, width, part, generator=generator) * 2 - 1) * bound
        self.queries, self.values = nn.Parameter(first), nn.Parameter(projection)
        self.weight, self.bias = nn.Parameter(torch.zeros(classes, queries * part)), nn.Parameter(torch.zeros(classes))

    def attend(self, tokens: torch.Tensor) -> torch.Tensor:
        """The attention of each query to each token, shape (batch, tokens, queries); adds up to one over the tokens.

        Args:
            tokens: float32, shape (batch, tokens, width)
        """
        return torch.softmax(tokens @ self.queries.T * tokens.shape[2] ** -0.5, dim=1)

    def pool(self, tokens: torch.Tensor) -> torch.Tensor:
        """The parts of all queries, one behind the other: shape (batch, queries * part)."""
        gathered = self.attend(tokens).transpose(1, 2) @ tokens
        return (gathered.transpose(0, 1) @ self.values).transpose(0, 1).flatten(1)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """The score of each class, shape (batch, classes)."""
        return nn.functional.linear(self.pool(tokens), self.weight, self.bias)


def count_parameters(width: int, queries: int, classes: int) -> int:
    """The number of weights of an `AttentiveClassifier`."""
    part = -(-width // queries)
    return queries * width * (1 + part) + classes * (queries * part + 1)
