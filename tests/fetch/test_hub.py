"""Weights from the hub, against a small server on this machine that speaks its protocol."""

from __future__ import annotations

import errno
import json
import time

import huggingface_hub
import pytest

from probebench.catalog import Catalog, ModelSpec
from probebench.errors import FetchError, Unreachable, WeightsError
from probebench.fetch.hub import cached, configured_folder, download, handle, needs_download, require
from tests.hub import at

CATALOG = Catalog.default()
SPEC = CATALOG.model("vit_b16")
CONTENT = bytes(range(256)) * 40


def path(name="model.safetensors", repo="timm/vit_base_patch16_224.orig_in21k"):
    return f"/{repo}/resolve/main/{name}"


def test_weights_are_downloaded_once_and_found_without_asking(hub):
    hub.files[path()] = CONTENT
    assert cached(SPEC) is None
    with pytest.raises(
        WeightsError,
        match=r"model 'vit_b16' \(343 MB\) are not on .*; run: probebench fetch vit_b16",
    ):
        require(SPEC)
    found = download(SPEC)
    assert found.read_bytes() == CONTENT
    asked = len(hub.requests)
    assert cached(SPEC) == require(SPEC) == download(SPEC) == found
    assert len(hub.requests) == asked


def test_older_repositories_have_a_torch_file(hub):
    hub.files[path("pytorch_model.bin")] = CONTENT
    assert download(SPEC).name == "pytorch_model.bin"
    assert cached(SPEC).read_bytes() == CONTENT


def test_a_source_may_name_repository_and_file(hub):
    spec = ModelSpec("own", "vit_base_patch16_224", source="someone/something:w.safetensors")
    hub.files[path("w.safetensors", "someone/something")] = CONTENT
    assert download(spec).read_bytes() == CONTENT


def test_a_source_may_be_a_url(hub, monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    hub.files["/files/w.pth"] = CONTENT
    spec = ModelSpec("own", "vit_base_patch16_224", source="https://127.0.0.1/files/w.pth")
    assert cached(spec) is None
    target = tmp_path / "torch" / "hub" / "checkpoints" / "w.pth"
    target.parent.mkdir(parents=True)
    target.write_bytes(CONTENT)
    assert cached(spec) == target


def test_progress_is_told(hub):
    class Told:
        what, total, done = "", 0, 0

        def start(self, what, total):
            self.what, self.total, self.done = what, total, 0

        def advance(self, count):
            self.done += count

    told = Told()
    hub.files[path()] = CONTENT
    download(SPEC, told)
    assert (told.what, told.total, told.done) == ("weights of vit_b16", len(CONTENT), len(CONTENT))


@pytest.mark.parametrize(
    ("status", "headers", "message"),
    [
        (401, {}, "timm/vit_base_patch16_224.orig_in21k does not exist on the hub or is private .*401.*HF_TOKEN"),
        (401, {"X-Error-Code": "GatedRepo"}, "requires its terms to be accepted; accept them at https://.*HF_TOKEN"),
        (403, {}, "is private .*403"),
        (404, {}, "is private .*404"),
        (429, {}, "too many requests .*429.*wait a few minutes"),
        (500, {}, "status 500; try again later"),
    ],
)
def test_a_hub_that_refuses_is_explained(hub, status, headers, message):
    hub.status, hub.headers = status, headers
    with pytest.raises(FetchError, match=f"weights of model 'vit_b16'.*{message}") as caught:
        download(SPEC)
    assert not isinstance(caught.value, Unreachable)
    assert cached(SPEC) is None


def test_a_repository_without_weights_is_explained(hub):
    hub.files["/something/else"] = b""
    with pytest.raises(FetchError, match=r"has no file model.safetensors or pytorch_model.bin"):
        download(SPEC)


def test_no_network_is_said_at_once(hub, monkeypatch):
    at(monkeypatch, "http://127.0.0.1:9")  # nobody listens at the discard port
    start = time.monotonic()
    with pytest.raises(Unreachable, match=r"no network \("):
        download(SPEC)
    assert time.monotonic() - start < 20  # its client by itself goes on trying for longer


def test_a_hub_that_does_not_answer_is_waited_for_shortly(hub, monkeypatch):
    monkeypatch.setattr("probebench.fetch.hub.CONNECT_SECONDS", 0.2)
    hub.delay = 1.0
    with pytest.raises(Unreachable, match="no answer within"):
        download(SPEC)


def test_offline_asks_nobody(hub, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(Unreachable, match="HF_HUB_OFFLINE disables downloads"):
        download(SPEC)
    assert hub.requests == []


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (errno.ENOSPC, "need 343 MB, but the disk of .* is full; set HF_HOME to another"),
        (errno.EROFS, "cannot be written to .*; set HF_HOME to another"),
        (errno.EACCES, "cannot be written to .*; set HF_HOME to another"),
    ],
)
def test_a_disk_that_refuses_is_explained(hub, monkeypatch, code, message):
    hub.files[path()] = CONTENT

    def refuse(*args, **kwargs):
        raise OSError(code, "no")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", refuse)
    with pytest.raises(FetchError, match=message):
        download(SPEC)


def test_what_needs_no_download():
    assert needs_download(SPEC)
    for name in ("glyphvit", "glyphvit_random", "vit_b16_random"):
        assert not needs_download(CATALOG.model(name))
    assert not needs_download(ModelSpec("own", "vit_base_patch16_224", checkpoint="w.safetensors"))


def test_what_a_command_line_calls_a_model():
    assert handle(SPEC) == "vit_b16"
    assert handle(ModelSpec("own", "vit_base_patch16_224.mae")) == "timm:vit_base_patch16_224.mae"


@pytest.mark.parametrize("parts", [1, 2])
def test_a_model_of_transformers_is_downloaded_with_its_configuration(hub, parts):
    config = b'{"model_type": "vit"}'
    hub.files["/someone/net/resolve/main/config.json"] = config
    hub.files["/someone/net/resolve/main/pytorch_model.bin"] = b"never downloaded"
    spec = ModelSpec("own", "hf:someone/net")
    assert needs_download(spec)
    assert cached(spec) is None
    assert (configured_folder(spec) / "config.json").read_bytes() == config
    asked = len(hub.requests)
    configured_folder(spec)
    assert len(hub.requests) == asked
    with pytest.raises(FetchError, match=r"someone/net has no file model\.safetensors or model\.safetensors\.index"):
        download(spec)
    if parts == 1:
        hub.files["/someone/net/resolve/main/model.safetensors"] = CONTENT
    else:
        names = {"a": "model-1.safetensors", "b": "model-2.safetensors"}
        index = json.dumps({"weight_map": names}).encode()
        hub.files["/someone/net/resolve/main/model.safetensors.index.json"] = index
        for name in names.values():
            hub.files[f"/someone/net/resolve/main/{name}"] = CONTENT
    hub.files["/someone/net/resolve/main/preprocessor_config.json"] = b"{}"
    folder = download(spec).parent
    assert {path.name for path in folder.iterdir()} >= {"config.json", "preprocessor_config.json"}
    assert len(list(folder.glob("*.safetensors"))) == parts
    assert cached(spec) == require(spec) == download(spec)
    assert handle(spec) == "hf:someone/net"


def test_a_configuration_that_cannot_be_had(hub, monkeypatch):
    spec = ModelSpec("own", "hf:someone/net")
    with pytest.raises(FetchError, match="someone/net does not exist on the hub or is private"):
        configured_folder(spec)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(Unreachable, match="configuration of model 'own' is not on this machine, and HF_HUB_OFFLINE"):
        configured_folder(spec)


def test_weights_of_open_clip_have_names_of_their_own(hub):
    spec = ModelSpec("own", "open_clip:ViT-B-32/tag", source="laion/clip")
    hub.files["/laion/clip/resolve/main/open_clip_model.safetensors"] = CONTENT
    assert download(spec).read_bytes() == CONTENT
    assert handle(spec) == "open_clip:ViT-B-32/tag"
