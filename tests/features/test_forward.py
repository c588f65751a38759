from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from timm.layers import Mlp

from probebench.catalog import ModelSpec
from probebench.catalog.taps import Tap, all_taps
from probebench.datasets import Split
from probebench.datasets.views import Views
from probebench.errors import FeatureError
from probebench.features.batching import BatchSize
from probebench.features.forward import extract
from probebench.features.settings import ExtractionSettings
from probebench.models.build import Model
from tests.features.test_hooks import DEPTH, make_net


def model_and_views(n=20, **kwargs):
    spec = ModelSpec("net", "VisionTransformer", DEPTH, "random", 16, (0.5,) * 3, (0.5,) * 3, seed=0)
    images = np.random.default_rng(0).integers(0, 256, (n, 16, 16)).astype(np.uint8)
    split = Split(images, np.zeros(n, np.int64))
    return Model(spec, make_net(**kwargs), ""), Views(split, np.arange(n), "resize_center_crop", 16, 0)


def run_extract(model, views, taps, advance=None, **changes):
    half = torch.full((3, 1, 1), 0.5)
    settings = ExtractionSettings("mean", half, half, BatchSize(8), "cpu")
    return extract(model, views, taps, replace(settings, **changes), advance)


def test_extract_gives_one_row_per_image_whatever_the_batch_size():
    model, views = model_and_views()
    done = []
    whole = run_extract(model, views, all_taps(DEPTH), batch_size=BatchSize(64))
    parts = run_extract(model, views, all_taps(DEPTH), batch_size=BatchSize(3), advance=done.append)
    assert done == [3] * 6 + [2]
    for tap, values in whole.items():
        assert values.dtype == np.float32
        assert values.shape == (20, 48 if tap.site in ("fc1", "act") else 12)
        np.testing.assert_allclose(values, parts[tap], rtol=1e-5, atol=1e-6)


def test_features_that_stay_on_the_device_are_tensors_there():
    model, views = model_and_views()
    expected = run_extract(model, views, all_taps(DEPTH))
    for tap, values in run_extract(model, views, all_taps(DEPTH), stay=True).items():
        assert isinstance(values, torch.Tensor)
        assert values.dtype == torch.float32
        assert np.array_equal(values.numpy(), expected[tap])


@pytest.mark.parametrize("stay", [False, True])
def test_features_that_are_not_finite_are_refused_from_the_tap_where_they_start(stay):
    model, views = model_and_views()
    model.net.blocks[1].mlp.fc1.weight[0, 0] = float("nan")
    with pytest.raises(FeatureError, match=r"'net' are NaN or infinite at L02-fc1 \(20 of 20 images\).*up to output"):
        run_extract(model, views, all_taps(DEPTH), stay=stay)


def test_an_overflow_in_fp16_is_told_with_what_to_use_instead():
    model, views = model_and_views()
    model.net.patch_embed.proj.bias += 60_000.0
    model.net.pos_embed += 60_000.0
    run_extract(model, views, all_taps(DEPTH))
    half = Model(model.spec, model.net.half(), "", "float16")
    with pytest.raises(FeatureError, match="fp16: use bf16"):
        run_extract(half, views, all_taps(DEPTH))


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_features_of_a_lower_precision_are_float32_and_close(precision):
    model, views = model_and_views()
    exact = run_extract(model, views, all_taps(DEPTH))
    lower = Model(model.spec, model.net.to(getattr(torch, precision)), "", precision)
    for tap, values in run_extract(lower, views, all_taps(DEPTH)).items():
        assert values.dtype == np.float32
        assert 0 < np.abs(values - exact[tap]).max() < 0.1


class Small:
    """Memory for so many images and no more, as torch says it."""

    def __init__(self, net, most, error):
        self.most, self.error, self.seen = most, error, []
        net.patch_embed.register_forward_pre_hook(self)

    def __call__(self, module, args):
        if len(args[0]) > self.most:
            raise self.error
        self.seen.append(len(args[0]))


OUT = [
    torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB."),
    RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes."),
]


@pytest.mark.parametrize("error", OUT, ids=["device", "host"])
def test_batches_get_smaller_where_memory_runs_out(error):
    model, views = model_and_views(30)
    expected = run_extract(model, views, all_taps(DEPTH))
    memory, size, done = Small(model.net, 5, error), BatchSize(16), []
    found = run_extract(model, views, all_taps(DEPTH), batch_size=size, advance=done.append)
    assert memory.seen == done == [4] * 4 + [4, 4, 4, 2]
    assert (size.asked, size.now) == (16, 4)
    for tap, values in expected.items():
        np.testing.assert_allclose(found[tap], values, rtol=1e-5, atol=1e-6)


def test_memory_that_does_not_suffice_for_one_image_is_an_error():
    model, views = model_and_views()
    Small(model.net, 0, OUT[0])
    with pytest.raises(FeatureError, match=r"'net': memory does not suffice for one image \(CUDA out of memory"):
        run_extract(model, views, all_taps(DEPTH))


def test_other_errors_of_a_network_pass_through():
    model, views = model_and_views()
    memory = Small(model.net, 0, RuntimeError("shapes cannot be multiplied"))
    with pytest.raises(RuntimeError, match="shapes"):
        run_extract(model, views, all_taps(DEPTH))
    assert memory.seen == []


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_a_gpu_gives_the_features_of_the_cpu():
    model, views = model_and_views()
    on_cpu = run_extract(model, views, all_taps(DEPTH))
    there = Model(model.spec, model.net.cuda(), "")
    on_gpu = run_extract(there, views, all_taps(DEPTH), device="cuda")
    staying = run_extract(there, views, all_taps(DEPTH), device="cuda", stay=True)
    for tap, values in on_cpu.items():
        np.testing.assert_allclose(on_gpu[tap], values, rtol=1e-3, atol=1e-4, err_msg=tap.id)
        assert staying[tap].is_cuda
        assert np.array_equal(staying[tap].cpu().numpy(), on_gpu[tap])


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_many_batches_come_from_a_gpu_in_their_order():
    model, views = model_and_views(101)
    on_gpu = Model(model.spec, model.net.cuda(), "")
    whole = run_extract(on_gpu, views, all_taps(DEPTH), device="cuda", batch_size=BatchSize(101))
    done = []
    parts = run_extract(on_gpu, views, all_taps(DEPTH), device="cuda", batch_size=BatchSize(4), advance=done.append)
    assert done == [4] * 25 + [1]
    for tap, values in whole.items():
        np.testing.assert_allclose(parts[tap], values, rtol=1e-3, atol=1e-4, err_msg=tap.id)


def test_references_need_no_layout():
    class OddMlp(Mlp):
        pass

    model, views = model_and_views(mlp_layer=OddMlp)
    features = run_extract(model, views, [Tap("embed", "embed"), Tap("final", "final")])
    assert {tap.id: values.shape for tap, values in features.items()} == {"embed": (20, 12), "final": (20, 12)}
