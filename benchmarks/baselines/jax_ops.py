"""Operations as one would write them in JAX, and the cases of jax_peer.py that measure them alone."""
import math

import jax
import jax.numpy as jnp


def attention(q, k, v):
    scores = (q @ k.swapaxes(-1, -2)) * (1 / math.sqrt(q.shape[-1]))
    return jax.nn.softmax(scores, -1) @ v


def rms_norm(x, weight=None, eps=1e-6):
    y = x * jax.lax.rsqrt(jnp.square(x).mean(-1, keepdims=True) + eps)
    return y if weight is None else y * weight


def mmd(x, y, weight):
    """The squared discrepancy of each group by the Laplace kernel; y is a constant. x, y [G, M, D], weight [G] -> [G]"""
    scale = -weight[:, None, None] / x.shape[2]

    def kernel(a, b):  # less one: the ones cancel
        square = jnp.square(a[:, :, None] - b[:, None]).sum(-1)
        return jnp.expm1(scale * jnp.sqrt(jnp.maximum(square, 1e-16))).mean((1, 2))

    return kernel(x, x) + kernel(y, y) - 2 * kernel(x, y)


def case_of(function, leaves, outputs, cotangents=None):
    """A function of named leaves under one jit; with cotangents, followed by its backward to all of them."""
    names, values = list(leaves), tuple(leaves.values())
    if cotangents is None:
        forward = jax.jit(function)
        return lambda: dict(zip(outputs, forward(*values)))

    @jax.jit
    def both(values, cotangents):
        results, pull = jax.vjp(function, *values)
        return results, pull(cotangents)

    # The results are given too, or the compiler would leave out what only they need.
    return lambda: dict(zip(["g" + name for name in names], both(values, cotangents)[1]))


def attention_case(tensors, options):
    def with_tangent(q, k, v, tq, tk, tv):
        return jax.jvp(attention, (q, k, v), (tq, tk, tv))

    leaves = {name: tensors[name] for name in ["q", "k", "v", "tq", "tk", "tv"]}
    cotangents = (tensors["g"], tensors["h"]) if options.get("backward", False) else None
    return case_of(with_tangent, leaves, ["o", "to"], cotangents)


def plain_attention_case(tensors, options):
    leaves = {name: tensors[name] for name in ["q", "k", "v"]}
    cotangents = (tensors["g"],) if options.get("backward", False) else None
    return case_of(lambda q, k, v: (attention(q, k, v),), leaves, ["o"], cotangents)


def norm_case(tensors, options):
    def with_tangent(x, tx):
        return jax.jvp(rms_norm, (x,), (tx,))

    leaves = {name: tensors[name] for name in ["x", "tx"]}
    cotangents = (tensors["g"], tensors["h"]) if options.get("backward", False) else None
    return case_of(with_tangent, leaves, ["y", "ty"], cotangents)


def mmd_case(tensors, options):
    @jax.jit
    def function(x, y, weight):
        value, pull = jax.vjp(lambda x: mmd(x, y, weight), x)
        return value, pull(jnp.ones_like(value))[0]

    def run():
        return dict(zip(["value", "gx"], function(tensors["x"], tensors["y"], tensors["weight"])))

    return run
