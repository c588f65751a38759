from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from probebench._arrays import on_host, to_device
from probebench.catalog.protocols import ATTENTIVE, DEFAULT, get_protocol
from probebench.catalog.taps import Tap, all_taps
from probebench.errors import FeatureError, ProbebenchError
from probebench.features.cache import FeatureCache
from probebench.features.cache.entry import Entry
from probebench.features.cache.writer import Writer
from probebench.features.forward import extract, join_by_type, refuse_non_finite, split_by_type
from probebench.features.hooks import TapReader
from probebench.features.tokens import check_tokens, count_tokens, flatten, tokens_of
from tests.features.conftest import same
from tests.features.test_hooks import DEPTH, make_net, recompute

WITH_TOKENS = [tap for tap in all_taps(DEPTH) if tap.pools]
ACT, RC2 = Tap(1, "act"), Tap(2, "rc2")
BOTH = [ACT, RC2, tokens_of(ACT, "mean"), tokens_of(RC2, "mean")]


def read(net, taps, images, pooling="mean"):
    reader = TapReader(net, taps, pooling)
    with torch.inference_mode(), reader.attached():
        return dict(zip(taps, reader.read(images), strict=True))


@pytest.mark.parametrize("pooling", ["mean", "patch_mean"])
def test_tokens_are_those_of_an_independent_computation_and_their_mean_is_what_is_pooled(pooling):
    images = torch.randn(3, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    net = make_net(init_values=0.5)
    taps = [tokens_of(tap, pooling) for tap in WITH_TOKENS]
    found = read(net, [*WITH_TOKENS, *taps], images, pooling)
    expected = recompute(make_net(init_values=0.5), images)
    for tap, kept in zip(WITH_TOKENS, taps, strict=True):
        tokens = expected[tap][:, 0 if pooling == "mean" else 1 :]
        torch.testing.assert_close(found[kept].double(), tokens, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(found[kept].mean(dim=1), found[tap], rtol=1e-4, atol=1e-5)


def test_tokens_behind_a_norm_that_timm_moved_behind_the_pooling_are_normed_one_by_one():
    net = make_net(global_pool="avg", fc_norm=True)
    images = torch.randn(2, 3, 16, 16)
    final = Tap("final", "final")
    found = read(net, [tokens_of(final, "mean")], images)
    torch.testing.assert_close(found[tokens_of(final, "mean")], net.fc_norm(net.forward_features(images)))


def test_last4_has_the_tokens_of_four_layers_side_by_side():
    net, images, last4 = make_net(depth=5), torch.randn(2, 3, 16, 16), Tap("last4", "last4")
    found = read(net, [tokens_of(last4, "mean")], images)[tokens_of(last4, "mean")]
    blocks = net.forward_intermediates(images, norm=True, intermediates_only=True, output_fmt="NLC")
    prefixed = found.reshape(2, 5, 4, 12)[:, 1:]  # timm's intermediates are without the class token
    torch.testing.assert_close(prefixed, torch.stack(blocks[-4:], dim=2))


def test_tokens_are_read_in_the_same_pass_and_kept_in_bfloat16(asked):
    found = asked.plain(BOTH)
    assert same({tap: found[tap] for tap in BOTH[:2]}, asked.plain(BOTH[:2]))
    for tap in (ACT, RC2):
        bits = found[tokens_of(tap, "mean")]
        assert bits.dtype == np.uint16
        assert bits.shape == (40, 5 * found[tap].shape[1])
        means = to_device(bits, "cpu").float().reshape(40, 5, -1).mean(dim=1).numpy()
        np.testing.assert_allclose(means, found[tap], rtol=0, atol=2**-8 * np.abs(means).max())


def test_bits_of_bfloat16_come_back():
    values = torch.randn(4, 3, 5)
    rows = flatten(values)
    assert torch.equal(to_device(on_host(rows), "cpu"), rows)
    assert torch.equal(rows.view(4, 3, 5), values.to(torch.bfloat16))
    assert torch.equal(flatten(values[0]), values[0])


def test_batches_of_both_types_are_joined_and_split():
    parts = [torch.randn(3, 2), torch.randn(3, 4).bfloat16(), torch.randn(3, 1), torch.randn(3, 6).bfloat16()]
    joined = join_by_type(parts)
    assert [tuple(each.shape) for each in joined] == [(3, 3), (3, 10)]
    assert all(torch.equal(*pair) for pair in zip(split_by_type(joined, parts), parts, strict=True))


def test_tokens_that_stay_on_the_device_are_the_same(asked):
    expected, settings = asked.plain(BOTH), replace(asked.settings, stay=True)
    found = extract(asked.model, asked.views, BOTH, settings)
    assert found[BOTH[2]].dtype == torch.bfloat16
    assert same({tap: on_host(values) for tap, values in found.items()}, expected)


def test_the_cache_gives_tokens_back_beside_pooled_features_that_other_protocols_share(asked, cache):
    expected = asked.plain(BOTH)
    assert same(asked(cache, BOTH[:2], keep=True), {tap: expected[tap] for tap in BOTH[:2]})
    first = asked(cache, BOTH, keep=True)
    assert same(first, expected)
    again = asked(FeatureCache(cache.root), BOTH)
    assert same(again, expected)
    assert again.images == 0
    assert isinstance(again[tokens_of(RC2, "mean")], np.memmap)
    sizes = {path.name.rpartition(".")[2]: path.stat().st_size for path in cache.root.glob("*/L02-rc2.*")}
    assert sizes == {"f32": 4 * 40 * 8, "bf16": 2 * 40 * 5 * 8}


def test_damaged_tokens_are_extracted_again(asked, cache):
    expected = asked.plain(BOTH)
    asked(cache, BOTH, keep=True)
    path = next(cache.root.glob("*/L01-act.tokens.*.bf16"))
    data = bytearray(path.read_bytes())
    data[100] ^= 1
    path.write_bytes(data)
    fresh = FeatureCache(cache.root)
    assert same(asked(fresh, BOTH), expected)
    assert len(fresh.ledger.damaged) == 1


def test_an_extraction_goes_on_where_it_was_stopped(asked, cache, monkeypatch):
    expected = asked.plain(BOTH)
    monkeypatch.setattr("probebench.features.cache.writer.SHARD_BYTES", 1)
    put = Writer.put

    def stop(self, row, addresses, features):
        if row >= 16:
            raise KeyboardInterrupt
        put(self, row, addresses, features)

    monkeypatch.setattr(Writer, "put", stop)
    with pytest.raises(KeyboardInterrupt):
        asked(cache, BOTH, keep=True)
    monkeypatch.setattr(Writer, "put", put)
    resumed = asked(FeatureCache(cache.root), BOTH, keep=True)
    assert same(resumed, expected)
    assert resumed.images == 24


def test_a_full_disk_costs_the_cache_and_no_tokens(asked, cache, monkeypatch):
    monkeypatch.setattr("probebench.features.cache.writer.SHARD_BYTES", 1)
    note, calls = Entry.note, []

    def full(*args):
        calls.append(args)
        if len(calls) > 2:
            raise OSError(28, "No space left on device")
        note(*args)

    monkeypatch.setattr(Entry, "note", full)
    assert same(asked(cache, BOTH, keep=True), asked.plain(BOTH))
    assert "No space left" in str(cache.ledger.warnings)


def test_tokens_that_are_not_finite_are_refused(tiny):
    bits = on_host(torch.tensor([[1.0, 2.0], [float("nan"), 0.0], [float("inf"), 1e38]]).bfloat16())
    with pytest.raises(FeatureError, match=r"L01-act.tokens \(2 of 3 images\)"):
        refuse_non_finite(tiny, {tokens_of(ACT, "mean"): bits})
    refuse_non_finite(tiny, {tokens_of(ACT, "mean"): bits[:1]})


def test_the_most_tokens_of_an_image_are_counted(tiny):
    taps = [Tap("embed", "embed"), ACT, Tap("final", "final")]
    assert count_tokens(tiny, taps, pooling="mean", device="cpu") == 5
    assert count_tokens(tiny, taps, pooling="patch_mean", device="cpu") == 4


@pytest.mark.parametrize(
    ("tap", "protocol", "said"),
    [
        ("output", ATTENTIVE, "output has none, as it is what the network returns: leave it out"),
        ("pair", ATTENTIVE, "pair has none, as it is made of pooled taps"),
        ("triple", ATTENTIVE, "triple has none"),
        ("L01-act.cls", ATTENTIVE, "cannot read L01-act.cls: name L01-act"),
        ("L01-act.tokens", ATTENTIVE, "L01-act.tokens is no case: name L01-act"),
        ("L01-act.tokens", DEFAULT, "L01-act.tokens is no case: name L01-act"),
    ],
)
def test_taps_without_tokens_are_refused_by_name(tap, protocol, said):
    with pytest.raises(ProbebenchError, match=said.replace(".", "[.]")):
        check_tokens([ACT, Tap.parse(tap)], protocol)


def test_taps_with_tokens_are_not_refused():
    check_tokens([*WITH_TOKENS, Tap("last4", "last4")], ATTENTIVE)
    check_tokens([*all_taps(2, ["cls"]), Tap("pair", "pair")], DEFAULT)


@pytest.mark.parametrize("name", ["attentive@1+cls", "attentive@1+cls+patch_mean"])
def test_poolings_that_are_no_mean_of_tokens_are_refused(name):
    with pytest.raises(ProbebenchError, match="pooling must be mean or patch_mean"):
        get_protocol(name)
    assert get_protocol("attentive@1+patch_mean").reads_tokens
