"""The network of lib/nn/dit.ts as one would write it in JAX: pure functions over a dict of weights."""
import math

import jax
import jax.numpy as jnp

from jax_ops import attention, case_of, rms_norm


def linear(p, name, x):
    return x @ p[name + ".weight"].T + p[name + ".bias"]


def scalar_embedding(p, name, t, frequencies):
    half = frequencies // 2
    omega = jnp.exp(-math.log(10000) * jnp.arange(half, dtype=jnp.float64) / half)
    phase = t.astype(jnp.float64)[:, None] * omega
    waves = jnp.concatenate([jnp.cos(phase), jnp.sin(phase)], 1).astype(p["pos_embed"].dtype)
    return linear(p, name + ".mlp.2", jax.nn.silu(linear(p, name + ".mlp.0", waves)))


def modulation(p, prefix, condition, count):
    vectors = linear(p, prefix + "adaLN_modulation.1", condition)
    return [v[:, None] for v in jnp.split(vectors, count, 1)]


def block(p, prefix, heads, tokens, condition):
    """A block of adaLN-zero. tokens [B, S, D], condition [B, D] after SiLU"""
    batch, _, width = tokens.shape
    shift1, scale1, gate1, shift2, scale2, gate2 = modulation(p, prefix, condition, 6)
    y = rms_norm(tokens) * (1 + scale1) + shift1
    qkv = linear(p, prefix + "attn.qkv", y).reshape(batch, -1, 3, heads, width // heads)
    q, k, v = qkv.transpose(2, 0, 3, 1, 4)
    q, k = rms_norm(q, p[prefix + "attn.q_norm.weight"]), rms_norm(k, p[prefix + "attn.k_norm.weight"])
    y = attention(q, k, v).swapaxes(1, 2).reshape(batch, -1, width)
    tokens = tokens + gate1 * linear(p, prefix + "attn.proj", y)
    y = rms_norm(tokens) * (1 + scale2) + shift2
    y = jax.nn.gelu(linear(p, prefix + "mlp.fc1", y), approximate=True)
    return tokens + gate2 * linear(p, prefix + "mlp.fc2", y)


def dit(p, o, x, t, s, labels):
    batch, side, patch = x.shape[0], o["imageSize"] // o["patchSize"], o["patchSize"]
    width, heads, frequencies = o["width"], o["heads"], o.get("timeFrequencies", 256)
    tokens = x.reshape(batch, o["channels"], side, patch, side, patch).transpose(0, 2, 4, 1, 3, 5)
    tokens = tokens.reshape(batch, side * side, -1)
    tokens = tokens @ p["x_embedder.proj.weight"].reshape(width, -1).T + p["x_embedder.proj.bias"] + p["pos_embed"]
    rows = jnp.where(labels < 0, o["classes"], labels)
    condition = scalar_embedding(p, "t_embedder", t, frequencies) + scalar_embedding(p, "s_embedder", t - s, frequencies)
    condition = jax.nn.silu(condition + p["y_embedder.embedding_table.weight"][rows])
    for i in range(o["depth"]):
        tokens = block(p, f"blocks.{i}.", heads, tokens, condition)
    shift, scale = modulation(p, "final_layer.", condition, 2)
    y = linear(p, "final_layer.linear", rms_norm(tokens) * (1 + scale) + shift)
    y = y.reshape(batch, side, side, patch, patch, o["channels"]).transpose(0, 5, 1, 3, 2, 4)
    return y.reshape(x.shape)


def block_case(tensors, options):
    """A block with the tangent along its inputs; then the gradients of both results for inputs, tangents and weights."""
    leaves = {name: x for name, x in tensors.items() if name not in ("g", "h")}

    def with_tangent(*values):
        p = dict(zip(leaves, values))
        along = lambda x, c: block(p, "", options["heads"], x, c)
        return jax.jvp(along, (p["x"], p["c"]), (p["tx"], p["tc"]))

    cotangents = (tensors["g"], tensors["h"]) if options.get("backward", False) else None
    return case_of(with_tangent, leaves, ["y", "ty"], cotangents)
