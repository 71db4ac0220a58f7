"""The network of lib/nn/dit.ts as one would write it in PyTorch."""
import math

import torch
import torch.nn.functional as functional

from pytorch_ops import attention, rms_norm


def scalar_embedding(p, name, t, frequencies):
    half = frequencies // 2
    omega = torch.exp(-math.log(10000) * torch.arange(half, dtype=torch.float64) / half)
    phase = t.double()[:, None] * omega
    waves = torch.cat([phase.cos(), phase.sin()], 1).to(p["pos_embed"].dtype)
    hidden = functional.silu(functional.linear(waves, p[name + ".mlp.0.weight"], p[name + ".mlp.0.bias"]))
    return functional.linear(hidden, p[name + ".mlp.2.weight"], p[name + ".mlp.2.bias"])


def tanh_gelu(x):
    return functional.gelu(x, approximate="tanh")


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

    def modulation(name):
        vectors = functional.linear(condition, p[name + ".adaLN_modulation.1.weight"], p[name + ".adaLN_modulation.1.bias"])
        return [v[:, None] for v in vectors.split(width, 1)]

    for i in range(o["depth"]):
        name = f"blocks.{i}"
        shift1, scale1, gate1, shift2, scale2, gate2 = modulation(name)
        y = rms_norm(tokens) * (1 + scale1) + shift1
        qkv = functional.linear(y, p[name + ".attn.qkv.weight"], p[name + ".attn.qkv.bias"])
        q, k, v = qkv.reshape(batch, -1, 3, heads, width // heads).permute(2, 0, 3, 1, 4).unbind(0)
        q, k = rms_norm(q, p[name + ".attn.q_norm.weight"]), rms_norm(k, p[name + ".attn.k_norm.weight"])
        y = attention(q, k, v).transpose(1, 2).reshape(batch, -1, width)
        y = functional.linear(y, p[name + ".attn.proj.weight"], p[name + ".attn.proj.bias"])
        tokens = tokens + gate1 * y
        y = rms_norm(tokens) * (1 + scale2) + shift2
        y = tanh_gelu(functional.linear(y, p[name + ".mlp.fc1.weight"], p[name + ".mlp.fc1.bias"]))
        y = functional.linear(y, p[name + ".mlp.fc2.weight"], p[name + ".mlp.fc2.bias"])
        tokens = tokens + gate2 * y
    shift, scale = modulation("final_layer")
    y = rms_norm(tokens) * (1 + scale) + shift
    y = functional.linear(y, p["final_layer.linear.weight"], p["final_layer.linear.bias"])
    y = y.reshape(batch, side, side, patch, patch, o["channels"]).permute(0, 5, 1, 3, 2, 4)
    return y.reshape(x.shape)
