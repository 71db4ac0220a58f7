"""The network of lib/nn/dit.ts as one would write it in PyTorch."""
import math

import torch
import torch.nn.functional as functional

from pytorch_ops import attention, compiled, dual, dual_by_reverse, rms_norm


def scalar_embedding(p, name, t, frequencies):
    half = frequencies // 2
    omega = torch.exp(-math.log(10000) * torch.arange(half, dtype=torch.float64) / half)
    phase = t.double()[:, None] * omega
    waves = torch.cat([phase.cos(), phase.sin()], 1).to(p["pos_embed"].dtype)
    hidden = functional.silu(functional.linear(waves, p[name + ".mlp.0.weight"], p[name + ".mlp.0.bias"]))
    return functional.linear(hidden, p[name + ".mlp.2.weight"], p[name + ".mlp.2.bias"])


def tanh_gelu(x):
    return functional.gelu(x, approximate="tanh")


block_weights = [
    "attn.qkv.weight",
    "attn.qkv.bias",
    "attn.q_norm.weight",
    "attn.k_norm.weight",
    "attn.proj.weight",
    "attn.proj.bias",
    "mlp.fc1.weight",
    "mlp.fc1.bias",
    "mlp.fc2.weight",
    "mlp.fc2.bias",
    "adaLN_modulation.1.weight",
    "adaLN_modulation.1.bias",
]


def modulation(p, prefix, condition):
    weight, bias = p[prefix + "adaLN_modulation.1.weight"], p[prefix + "adaLN_modulation.1.bias"]
    vectors = functional.linear(condition, weight, bias)
    return [v[:, None] for v in vectors.split(weight.shape[1], 1)]


def block(p, heads, tokens, condition):
    """A block of adaLN-zero. tokens [B, S, D], condition [B, D] after SiLU"""
    batch, _, width = tokens.shape
    shift1, scale1, gate1, shift2, scale2, gate2 = modulation(p, "", condition)
    y = rms_norm(tokens) * (1 + scale1) + shift1
    qkv = functional.linear(y, p["attn.qkv.weight"], p["attn.qkv.bias"])
    q, k, v = qkv.reshape(batch, -1, 3, heads, width // heads).permute(2, 0, 3, 1, 4).unbind(0)
    q, k = rms_norm(q, p["attn.q_norm.weight"]), rms_norm(k, p["attn.k_norm.weight"])
    y = attention(q, k, v).transpose(1, 2).reshape(batch, -1, width)
    tokens = tokens + gate1 * functional.linear(y, p["attn.proj.weight"], p["attn.proj.bias"])
    y = rms_norm(tokens) * (1 + scale2) + shift2
    y = tanh_gelu(functional.linear(y, p["mlp.fc1.weight"], p["mlp.fc1.bias"]))
    return tokens + gate2 * functional.linear(y, p["mlp.fc2.weight"], p["mlp.fc2.bias"])


def dit(p, o, x, t, s, labels):
    """The network of lib/nn/dit.ts, as one would write it in PyTorch."""
    batch, side, patch = x.shape[0], o["imageSize"] // o["patchSize"], o["patchSize"]
    width, heads, frequencies = o["width"], o["heads"], o.get("timeFrequencies", 256)
    tokens = x.reshape(batch, o["channels"], side, patch, side, patch).permute(0, 2, 4, 1, 3, 5)
    tokens = tokens.reshape(batch, side * side, -1)
    weight = p["x_embedder.proj.weight"].reshape(width, -1)
    tokens = functional.linear(tokens, weight, p["x_embedder.proj.bias"]) + p["pos_embed"]
    rows = torch.where(labels < 0, torch.full_like(labels, o["classes"]), labels)
    condition = scalar_embedding(p, "t_embedder", t, frequencies) + scalar_embedding(p, "s_embedder", t - s, frequencies)
    condition = functional.silu(condition + functional.embedding(rows, p["y_embedder.embedding_table.weight"]))

    for i in range(o["depth"]):
        tokens = block({name: p[f"blocks.{i}.{name}"] for name in block_weights}, heads, tokens, condition)
    shift, scale = modulation(p, "final_layer.", condition)
    y = rms_norm(tokens) * (1 + scale) + shift
    y = functional.linear(y, p["final_layer.linear.weight"], p["final_layer.linear.bias"])
    y = y.reshape(batch, side, side, patch, patch, o["channels"]).permute(0, 5, 1, 3, 2, 4)
    return y.reshape(x.shape)


def block_case(tensors, options):
    """A block with the tangent along its inputs; then the gradients of both results for inputs, tangents and weights."""
    backward = options.get("backward", False)
    leaves = {n: t.requires_grad_(backward) for n, t in tensors.items() if n not in ("g", "h")}

    tangent_of = dual_by_reverse if options.get("compile", False) else dual

    def with_tangent(leaves):
        p = {name: leaves[name] for name in block_weights}
        along = lambda x, c: block(p, options["heads"], x, c)
        return tangent_of(along, [leaves["x"], leaves["c"]], [leaves["tx"], leaves["tc"]])

    function = compiled(with_tangent, options)

    def run():
        y, ty = function(leaves)
        if not backward:
            return {"y": y, "ty": ty}
        gradients = torch.autograd.grad((y, ty), list(leaves.values()), (tensors["g"], tensors["h"]))
        return {"g" + name: gradient for name, gradient in zip(leaves, gradients)}

    return run
