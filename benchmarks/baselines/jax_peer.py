"""JAX as a peer, everything under jax.jit: the server that pythonPeer.ts drives."""
import os

from protocol import Library, serve


def limit_threads(threads):
    """XLA's CPU client takes as many threads as the process may use cores, counted when it is made. -> a note, or None"""
    if not hasattr(os, "sched_setaffinity"):
        return "threads not limited: this system gives no other way"
    cores = sorted(os.sched_getaffinity(0))
    if threads < len(cores):
        os.sched_setaffinity(0, cores[:threads])
        return f"by affinity to {threads} of {len(cores)} cores"
    return None


def start(threads):
    note = limit_threads(threads)
    import jax
    import jaxlib
    import numpy as np

    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_enable_x64", True)  # the times of a training step are doubles; float32 stays float32

    from jax_network import block_case
    from jax_ops import attention_case, mmd_case, norm_case, plain_attention_case
    from jax_step import step_case

    return Library(
        versions={"JAX": jax.__version__, "jaxlib": jaxlib.__version__},
        cases={
            "attention": attention_case,
            "block": block_case,
            "mmd": mmd_case,
            "norm": norm_case,
            "plainAttention": plain_attention_case,
            "step": step_case,
        },
        from_numpy=jax.numpy.asarray,
        to_numpy=np.asarray,
        finish=jax.block_until_ready,
        facts={"note": note},
    )


serve(start)
