"""Whole training steps in JAX: loss, gradients, AdamW, the averages of the weights, all in one jit."""
import functools

import jax
import jax.numpy as jnp

from jax_network import dit
from jax_ops import mmd

constants = ("pos_embed",)


def column(v):
    return v[:, None, None, None]


def interpolate(batch, at):
    return batch["x"] * (1 - column(at)) + batch["noise"] * column(at)


def flow_matching(network, p, teacher, batch, options):
    t = batch["t"]
    difference = network(p, interpolate(batch, t), t, t, batch["labels"]) - (batch["noise"] - batch["x"])
    return jnp.square(difference).mean()


def terminal_velocity(network, p, teacher, batch, options):
    x, noise, labels, t, s, s_prime, beta = [batch[n] for n in ["x", "noise", "labels", "t", "s", "sPrime", "beta"]]
    xt, xs, step, w = interpolate(batch, t), interpolate(batch, s_prime), column(s - t), column(1 / beta)
    f, df = jax.jvp(lambda at: network(p, xt, t, at, labels), (s,), (jnp.ones_like(s),))
    both = network(
        teacher,
        jnp.concatenate([jax.lax.stop_gradient(xt + step * f), xs]),
        jnp.concatenate([s, s_prime]),
        jnp.concatenate([s, s_prime]),
        jnp.concatenate([labels, jnp.full_like(labels, -1)]),
    )
    terminal_target, unconditional = jnp.split(jax.lax.stop_gradient(both), 2)
    target = w * (noise - x) + (1 - w) * unconditional
    prime = network(p, xs, s_prime, s_prime, labels)
    terms = jnp.square(column(beta) * (f + step * df - terminal_target)) + jnp.square(column(beta) * (prime - target))
    return terms.mean()


# Inductive Moment Matching on the path (1 − t) x + t n of unit deviation, times in double: η = t / (1 − t), λ = −2 ln η.


def moment_matching_step(s, t, mapping):
    """r(s, t): η a step lower."""
    eta_min, eta_max = mapping["etaMin"], mapping["etaMax"]
    eta = jnp.maximum(t / (1 - t) - (eta_max - eta_min) / 2 ** mapping["k"], eta_min)
    return jnp.maximum(s, eta / (1 + eta))


def moment_matching_weight(t, mapping):
    slope = 2 / (t * (1 - t))
    sigmoid = jax.nn.sigmoid(mapping["b"] + 2 * jnp.log(t / (1 - t)))
    return sigmoid * slope * (1 - t) ** mapping["a"] / (2 * (jnp.square(t) + jnp.square(1 - t)))


def moment_matching(network, p, teacher, batch, options):
    mapping, particles, t, s = options["mapping"], options["particles"], batch["t"], batch["s"]
    dtype, spread = batch["x"].dtype, jnp.repeat(s, particles)

    def jump(start):
        at = jnp.repeat(start, particles)
        xt = interpolate(batch, at.astype(dtype))
        y = xt - column((at - spread).astype(dtype)) * network(p, xt, at, spread, batch["labels"])
        return y.reshape(len(t), particles, -1)

    target = jax.lax.stop_gradient(jump(moment_matching_step(s, t, mapping)))
    values = mmd(jump(t), target, (1 / (t - s)).astype(dtype))
    return (values * moment_matching_weight(t, mapping).astype(dtype)).mean()


losses = {"fm": flow_matching, "tvm": terminal_velocity, "imm": moment_matching}


def adamw(p, gradients, moments, lr, betas=(0.9, 0.95), eps=1e-8):
    """Without decay of the weights, as in the other libraries' cases."""
    count = moments["count"] + 1
    correction = [(1 - beta**count).astype(jnp.float32) for beta in betas]
    first, second, weights = {}, {}, {}
    for name, g in gradients.items():
        first[name] = betas[0] * moments["first"][name] + (1 - betas[0]) * g
        second[name] = betas[1] * moments["second"][name] + (1 - betas[1]) * jnp.square(g)
        denominator = jnp.sqrt(second[name] / correction[1]) + eps
        weights[name] = p[name] - lr * (first[name] / correction[0]) / denominator
    return weights, {"count": count, "first": first, "second": second}


def step_case(tensors, options):
    """A training step: loss, gradients, AdamW, the averages of the weights. Times, noise and guidance are given."""
    batch = {name[len("batch."):]: t for name, t in tensors.items() if name.startswith("batch.")}
    given = {name: tensors[name] for name in constants}
    p = {n: t for n, t in tensors.items() if not n.startswith("batch.") and n not in constants}
    loss = losses[options["objective"]]

    def network(weights, *arguments):
        return dit({**weights, **given}, options["network"], *arguments)

    def zeros():
        return {name: jnp.zeros_like(x) for name, x in p.items()}

    def copy():
        return {name: jnp.array(x) for name, x in p.items()}

    # Given away to each step, which returns the next in its place.
    state = {
        "p": copy(),
        "moments": {"count": jnp.zeros((), jnp.float64), "first": zeros(), "second": zeros()},
        "average": copy(),
        **({} if options["objective"] == "imm" else {"teacher": copy()}),
    }
    decays = {"average": 0.999, "teacher": 0.99}

    @functools.partial(jax.jit, donate_argnums=0)
    def step(state, batch, lr):
        teacher = state.get("teacher")
        value, gradients = jax.value_and_grad(lambda p: loss(network, p, teacher, batch, options))(state["p"])
        weights, moments = adamw(state["p"], gradients, state["moments"], lr)
        averages = {
            name: {key: decay * x + (1 - decay) * weights[key] for key, x in state[name].items()}
            for name, decay in decays.items()
            if name in state
        }
        return {"p": weights, "moments": moments, **averages}, value, gradients

    lr = jnp.float32(options["lr"])

    def run():
        nonlocal state
        state, value, gradients = step(state, batch, lr)
        # The state is waited for too: what is timed is the whole step.
        return {"loss": value.reshape(1), **jax.block_until_ready((gradients, state))[0]}

    return run
