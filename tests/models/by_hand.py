"""The blocks of timm's plain vision transformers, written out by hand in float64.

Nothing here knows of `probebench.models.layouts`. Each function takes a block and the tokens that enter it, and gives
the tokens at every site by what the site means. Norms, activations and position biases are called as the block owns
them; where they stand, and every product, sum and scale, is written out.
"""

from __future__ import annotations

import torch

from probebench.catalog.taps import SITES


def linear(layer, x):
    y = x @ layer.weight.T
    return y if layer.bias is None else y + layer.bias


def scaled(owner, number, x):
    """Layer scale, whichever of its two spellings a block has."""
    gamma = getattr(owner, f"gamma_{number}", None)
    if gamma is None:
        gamma = getattr(getattr(owner, f"ls{number}", None), "gamma", None)
    return x if gamma is None else x * gamma


def heads(x, count):
    batch, length, width = x.shape
    return x.reshape(batch, length, count, width // count).permute(0, 2, 1, 3)


def rotate(x, rope, half, prefix):
    """Turn the pairs of channels of all but the first `prefix` tokens by the angles of their positions."""
    sin, cos = rope.double().chunk(2, dim=-1)
    fixed, moving = x[:, :, :prefix], x[:, :, prefix:]
    if half:
        a, b = moving.chunk(2, dim=-1)
        turned = torch.cat([-b, a], dim=-1)
    else:
        turned = torch.stack([-moving[..., 1::2], moving[..., 0::2]], dim=-1).flatten(-2)
    return torch.cat([fixed, moving * cos + turned * sin], dim=2)


def weights(q, k, bias):
    scores = torch.einsum("bhid,bhjd->bhij", q, k) / q.shape[-1] ** 0.5
    return (scores if bias is None else scores + bias).softmax(dim=-1)


def merged(x):
    return x.permute(0, 2, 1, 3).flatten(2)


def differential(attn, q, k, v, count):
    """The difference of two attention maps, of the even and of the odd heads of halved width."""
    first, second = (weights(q[:, i::2], k[:, i::2], None) for i in (0, 1))
    if attn.lambda_a is not None:
        lam = attn.lambda_a.exp() - attn.lambda_b.exp()
    else:
        lam = (attn.lambda_q1 @ attn.lambda_k1).exp() - (attn.lambda_q2 @ attn.lambda_k2).exp()
    mixed = (first - (lam + attn.lambda_init) * second) @ heads(v, count)
    return attn.sub_norm(mixed) * (1 - attn.lambda_init)


def mix(attn, x, given):
    """What enters the output projection of an attention module."""
    if getattr(attn, "qkv", None) is not None:
        y = linear(attn.qkv, x)
        if getattr(attn, "q_bias", None) is not None:
            y = y + torch.cat([attn.q_bias, torch.zeros_like(attn.q_bias), attn.v_bias])
        q, k, v = y.chunk(3, dim=-1)
    else:
        q, k, v = (linear(layer, x) for layer in (attn.q_proj, attn.k_proj, attn.v_proj))
    many = attn.num_heads
    few = getattr(attn, "num_kv_heads", many)
    norm = [getattr(attn, name, torch.nn.Identity()) for name in ("q_norm", "k_norm")]
    if type(attn).__name__ == "DiffAttention":
        out = differential(attn, norm[0](heads(q, 2 * many)), norm[1](heads(k, 2 * many)), v, many)
    else:
        q, k, v = norm[0](heads(q, many)), norm[1](heads(k, few)), heads(v, few)
        if given.get("rope") is not None:
            place = (given["rope"], attn.rotate_half, attn.num_prefix_tokens)
            q, k = rotate(q, *place), rotate(k, *place)
        shared = [torch.arange(many) // (many // few)] * 2  # which key and value each query head uses
        out = weights(q, k[:, shared[0]], bias(attn, given)) @ v[:, shared[1]]
    out = merged(out)
    out = getattr(attn, "norm", torch.nn.Identity())(out)
    if getattr(attn, "gate", None) is not None:
        out = out * linear(attn.gate, x).sigmoid()
    return out


def bias(attn, given):
    """Relative position bias: of the attention module, of the network, or of both."""
    terms = [given.get(name) for name in ("shared_rel_pos", "shared_rel_pos_bias", "attn_mask")]
    if getattr(attn, "rel_pos", None) is not None:
        terms.append(attn.rel_pos.get_bias())
    if getattr(attn, "relative_position_bias_table", None) is not None:
        terms.append(attn._get_rel_pos_bias())
    terms = [term.double() for term in terms if term is not None]
    return sum(terms) if terms else None


def feed_forward(mlp, x):
    """fc1, act and fc2 of a feed-forward network."""
    kind = type(mlp).__name__
    if kind == "GeGluMlp":
        x = mlp.norm(x)
        gate, value = linear(mlp.w0, x), linear(mlp.w1, x)
        act = mlp.act(gate) * value
        return torch.cat([gate, value], dim=-1), act, linear(mlp.w2, act)
    if kind == "SwiGLU":
        gate, value = linear(mlp.fc1_g, x), linear(mlp.fc1_x, x)
        fc1, act = torch.cat([gate, value], dim=-1), mlp.act(gate) * value
    elif kind == "GluMlp":
        fc1 = linear(mlp.fc1, x)
        gate, value = fc1.chunk(2, dim=-1)
        if mlp.gate_last:
            gate, value = value, gate
        act = mlp.act(gate) * value
    else:
        assert kind == "Mlp", kind
        fc1 = linear(mlp.fc1, x)
        act = mlp.act(fc1)
    act = mlp.norm(act)
    return fc1, act, linear(mlp.fc2, act)


def pre_norm(block, x, given):
    ln1 = block.norm1(x)
    mha = linear(block.attn.proj, mix(block.attn, ln1, given))
    rc1 = x + scaled(block, 1, mha)
    ln2 = block.norm2(rc1)
    fc1, act, fc2 = feed_forward(block.mlp, ln2)
    return ln1, mha, rc1, ln2, fc1, act, fc2, rc1 + scaled(block, 2, fc2)


def post_norm(block, x, given):
    mha = linear(block.attn.proj, mix(block.attn, x, given))
    rc1 = x + block.norm1(mha)
    fc1, act, fc2 = feed_forward(block.mlp, rc1)
    return x, mha, rc1, rc1, fc1, act, fc2, rc1 + block.norm2(fc2)


def parallel(block, x, given):
    width, hidden = x.shape[-1], block.in_proj.out_features - 3 * x.shape[-1]
    normed = block.in_norm(x)
    fc1, q, k, v = linear(block.in_proj, normed).split([hidden, width, width, width], dim=-1)
    if block.mlp_bias is not None:
        fc1 = fc1 + block.mlp_bias
    act = block.mlp_act(fc1)
    if type(block).__name__ == "DiffParallelScalingBlock":
        q, k = block.q_norm(heads(q, 2 * block.num_heads)), block.k_norm(heads(k, 2 * block.num_heads))
        mixed = merged(differential(block, q, k, v, block.num_heads))
    else:
        q, k = block.q_norm(heads(q, block.num_heads)), block.k_norm(heads(k, block.num_heads))
        mixed = merged(weights(q, k, None) @ heads(v, block.num_heads))
    if block.out_proj is None:
        mha, fc2 = linear(block.attn_out_proj, mixed), linear(block.mlp_out_proj, act)
    else:
        # One projection of both, whose bias is counted with the feed-forward network.
        mha = mixed @ block.out_proj.weight[:, :width].T
        fc2 = act @ block.out_proj.weight[:, width:].T
        fc2 = fc2 if block.out_proj.bias is None else fc2 + block.out_proj.bias
    gamma = getattr(block.ls, "gamma", 1.0)
    rc1 = x + gamma * mha
    return normed, mha, rc1, normed, fc1, act, fc2, rc1 + gamma * fc2


def paired(block, x, given):
    ln1 = [branch.norm(x) for branch in block.attns]
    mha = [linear(b.attn.proj, mix(b.attn, y, given)) for b, y in zip(block.attns, ln1, strict=True)]
    rc1 = x + sum(y * getattr(b.ls, "gamma", 1.0) for b, y in zip(block.attns, mha, strict=True))
    ln2 = [branch.norm(rc1) for branch in block.ffns]
    fc1, act, fc2 = zip(*(feed_forward(b.mlp, y) for b, y in zip(block.ffns, ln2, strict=True)), strict=True)
    rc2 = rc1 + sum(y * getattr(b.ls, "gamma", 1.0) for b, y in zip(block.ffns, fc2, strict=True))
    ln1, mha, ln2, fc1, act, fc2 = (torch.cat(list(y), dim=-1) for y in (ln1, mha, ln2, fc1, act, fc2))
    return ln1, mha, rc1, ln2, fc1, act, fc2, rc2


KINDS = {
    "Block": pre_norm,
    "DeepseekVitBlock": pre_norm,
    "EvaBlock": pre_norm,
    "RelPosBlock": pre_norm,
    "EvaBlockPostNorm": post_norm,
    "ResPostBlock": post_norm,
    "ResPostRelPosBlock": post_norm,
    "ParallelScalingBlock": parallel,
    "DiffParallelScalingBlock": parallel,
    "ParallelThingsBlock": paired,
}


@torch.no_grad()
def recompute(block, x, given):
    """Tokens at every site of a float64 block, from the tokens that enter it and what else the block is called with.

    Returns:
        for each site a float64 tensor of shape (batch, tokens, width of the site)
    """
    return dict(zip(SITES, KINDS[type(block).__name__](block, x, given), strict=True))
