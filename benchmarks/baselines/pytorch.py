"""PyTorch as a peer, eager and by torch.compile: the server that pythonPeer.ts drives."""
from protocol import Library, Refused, serve


def why_not_compiled(torch):
    """Why torch.compile is not to be had here; None where it is."""
    if not hasattr(torch, "compile"):
        return f"torch.compile came with 2.0, this is {torch.__version__}"
    try:
        torch.compile(lambda x: 2 * x + 1)(torch.ones(3))
        return None
    except Exception as error:  # no compiler, no headers, a Python it does not know …
        return first_line(error)


def first_line(error):
    return f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else 'no message'}"


def compiled_here(make, torch):
    """`make`, whose case runs once at once, so that what the compiler refuses is told apart from mistakes."""

    def checked(tensors, options):
        run = make(tensors, options)
        if options.get("compile", False):
            try:
                run()
            except Exception as error:
                if type(error).__module__.startswith(("torch._dynamo", "torch._inductor")):
                    raise Refused(first_line(error)) from error
                raise
        return run

    return checked


def start(threads):
    import torch

    from pytorch_network import block_case
    from pytorch_ops import attention_case, mmd_case, norm_case, plain_attention_case
    from pytorch_step import step_case

    torch.set_num_threads(threads)
    makers = {
        "attention": attention_case,
        "block": block_case,
        "mmd": mmd_case,
        "norm": norm_case,
        "plainAttention": plain_attention_case,
        "step": step_case,
    }
    return Library(
        versions={"PyTorch": torch.__version__},
        cases={name: compiled_here(make, torch) for name, make in makers.items()},
        from_numpy=torch.from_numpy,
        to_numpy=lambda tensor: tensor.detach().contiguous().numpy(),
        facts={"notCompiled": why_not_compiled(torch)},
    )


serve(start)
