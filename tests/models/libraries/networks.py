"""Networks that functions build, as users write them."""

from __future__ import annotations

import timm
import torch
from torch import nn


class Attention(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, tokens):
        query, key, value = self.qkv(tokens).chunk(3, dim=-1)
        return self.proj(nn.functional.scaled_dot_product_attention(query, key, value))


class Block(nn.Module):
    """A block with timm's names of its parts; with `post`, its norms come last, which its names do not tell."""

    def __init__(self, width, post):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn = Attention(width)
        self.mlp = nn.ModuleDict({"fc1": nn.Linear(width, 2 * width), "fc2": nn.Linear(2 * width, width)})
        self.scale = nn.Parameter(torch.full((width,), 0.1))
        self.post = post

    def feed(self, tokens):
        return self.mlp["fc2"](nn.functional.gelu(self.mlp["fc1"](tokens)))

    def forward(self, tokens):
        if self.post:
            tokens = self.norm1(tokens + self.attn(tokens))
            return self.norm2(tokens + self.feed(tokens))
        tokens = tokens + self.scale * self.attn(self.norm1(tokens))
        return tokens + self.feed(self.norm2(tokens))


class Network(nn.Module):
    """A vision transformer with a class token and two registers."""

    def __init__(self, post=False, width=24, registers="register_tokens"):
        super().__init__()
        self.embed = nn.Conv2d(3, width, 8, 8)
        self.cls_token = nn.Parameter(torch.randn(1, 1, width))
        self.registers = registers
        setattr(self, registers, nn.Parameter(torch.randn(1, 2, width)))
        self.blocks = nn.ModuleList(Block(width, post) for _ in range(2))
        self.norm = nn.LayerNorm(width)

    def forward(self, images):
        tokens = [self.cls_token, getattr(self, self.registers)]
        tokens = [each.expand(len(images), -1, -1) for each in tokens]
        x = torch.cat([*tokens, self.embed(images).flatten(2).transpose(1, 2)], dim=1)
        for block in self.blocks:
            x = block(x)
        return self.norm(x)[:, 0]


class Around(nn.Module):
    """A network of timm inside another module, which scales its input first."""

    def __init__(self):
        super().__init__()
        self.backbone = timm.create_model(
            "vit_tiny_patch16_224", num_classes=0, img_size=32, patch_size=8, embed_dim=24, depth=2, num_heads=2
        )
        self.head = nn.Linear(24, 5)

    def forward(self, images):
        return self.head(self.backbone(2 * images))


def own(post=False, registers="register_tokens"):
    return Network(post, registers=registers)


def around():
    return Around()


def fixed():
    with torch.random.fork_rng():
        torch.manual_seed(5)
        return Network()


def trained(pretrained=True):
    return fixed() if pretrained else Network()


def no_network():
    return 3


def broken():
    raise RuntimeError("the file of weights is not there")
