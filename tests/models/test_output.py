"""What a network returns for images; its libraries' own networks are in tests/models/libraries."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from probebench.errors import LayoutError
from probebench.models.output import output_of

VECTORS, TOKENS = torch.randn(2, 6), torch.randn(2, 5, 6)


class Network(nn.Module):
    """One that is not timm's."""


class WithClassToken(Network):
    cls_token = nn.Parameter(torch.zeros(1, 1, 6))


@pytest.mark.parametrize(
    ("result", "expected"),
    [
        (VECTORS, VECTORS),
        (VECTORS.half(), VECTORS.half().float()),
        ((TOKENS, VECTORS), VECTORS),
        ({"x_norm_patchtokens": TOKENS, "x_norm_clstoken": VECTORS}, VECTORS),
        ({"tokens": TOKENS, "features": VECTORS, "scale": 1.0}, VECTORS),
        (SimpleNamespace(last_hidden_state=TOKENS, pooler_output=VECTORS), VECTORS),
        (SimpleNamespace(last_hidden_state=TOKENS, pooler_output=None), TOKENS.mean(dim=1)),
        ([TOKENS], TOKENS.mean(dim=1)),
        (TOKENS.view(2, 5, 2, 3).transpose(1, 2), TOKENS.view(2, 5, 2, 3).mean(dim=(1, 2))),
    ],
    ids=["vectors", "half", "tuple", "names", "other names", "pooler", "no pooler", "tokens", "grid"],
)
def test_the_features_are_found_in_what_is_returned(result, expected):
    found = output_of(Network(), result)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected)


def test_of_tokens_the_class_token_is_taken():
    assert output_of(WithClassToken(), TOKENS).equal(TOKENS[:, 0])


@pytest.mark.parametrize(("result", "what"), [(None, "NoneType"), (torch.zeros(2), r"\(2,\)"), ({}, "NoneType")])
def test_what_has_no_features_is_refused(result, what):
    with pytest.raises(LayoutError, match=f"Network returns {what} for images, .* tensor of the shape"):
        output_of(Network(), result)
