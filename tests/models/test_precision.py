from __future__ import annotations

from contextlib import suppress

import pytest
import torch

from probebench.catalog import builtin_models, precision
from probebench.catalog.protocols import DEFAULT, PROTOCOLS, get_protocol
from probebench.errors import ProbebenchError, UnknownName
from probebench.models.build import build_model
from probebench.models.precision import use_precision


@pytest.mark.parametrize("name", ["default@2", "paper@1", "few_shot_4@1"])
@pytest.mark.parametrize("short", ["tf32", "bf16", "fp16"])
def test_each_protocol_has_one_for_each_precision(name, short):
    found = get_protocol(f"{name}+{short}")
    assert (found.name, found.precision) == (f"{name}+{short}", precision.PRECISIONS[short])
    assert found.fingerprint != PROTOCOLS[name].fingerprint
    assert found.path == PROTOCOLS[name].path


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("default@2+bfp16", "unknown precision or pooling of protocol default@2 'bfp16'"),
        ("default@2+", "unknown precision or pooling"),
        (
            "default@2+fp32",
            "unknown precision or pooling of protocol default@2 'fp32'",
        ),  # that is default@2, and has one name
        ("defalt@2+bf16", "unknown protocol 'defalt@2'. Did you mean 'default@2'"),
    ],
)
def test_a_precision_that_is_not_known_gets_the_nearest_name(name, message):
    with pytest.raises(UnknownName) as caught:
        get_protocol(name)
    assert message in str(caught.value)


def test_every_precision_is_explained():
    assert precision.MEANING.keys() == precision.PRECISIONS.keys()


@pytest.mark.parametrize(("name", "dtype"), [("bfloat16", torch.bfloat16), ("float16", torch.float16)])
def test_a_network_is_brought_to_its_precision_and_keeps_its_digest(name, dtype):
    spec = builtin_models()["glyphvit"]
    exact, lower = build_model(spec), build_model(spec, precision=name)
    assert {parameter.dtype for parameter in lower.net.parameters()} == {dtype}
    assert (exact.precision, lower.precision) == ("float32", name)
    assert exact.weights_digest == lower.weights_digest


def test_tf32_is_refused_where_there_is_none():
    with pytest.raises(ProbebenchError, match="tf32 needs a GPU, but the device is cpu: use fp32 or bf16"):
        build_model(builtin_models()["glyphvit"], precision="tf32")


@pytest.mark.parametrize(("name", "inside"), [("float32", "highest"), ("tf32", "high"), ("bfloat16", "highest")])
def test_torch_is_as_before_once_it_is_over(name, inside):
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    torch.set_float32_matmul_precision("medium")
    try:
        with use_precision(name):
            assert torch.get_float32_matmul_precision() == inside
            assert torch.backends.cudnn.allow_tf32 == (name == "tf32")
        assert torch.get_float32_matmul_precision() == "medium"
        with suppress(KeyError), use_precision(name):
            raise KeyError
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision(before[0])
    assert torch.backends.cudnn.allow_tf32 == before[1]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_tf32_rounds_products_and_fp32_does_not():
    torch.manual_seed(0)
    rows, exact = torch.randn(256, 1024, device="cuda"), {}
    for name in ("float32", "tf32"):
        with use_precision(name):
            exact[name] = float((rows @ rows.T - (rows.double() @ rows.double().T)).abs().max())
    assert exact["float32"] < 1e-3 < exact["tf32"]


def test_the_default_is_float32():
    assert DEFAULT.precision == "float32"
