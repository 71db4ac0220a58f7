"""Triton kernels of attention with its tangent, from a checkout the user has: triton_peer.py <name> <folder> <device>.

Only what their authors document is called: nothing of theirs is here.
"""
import importlib
import sys

from protocol import Library, Refused, serve

name, folder, device = sys.argv[1:4]


def first_line(error):
    return f"{type(error).__name__}: {(str(error).strip() or 'no message').splitlines()[0]}"


def entry(module, attribute):
    sys.path.insert(0, folder)
    try:
        return getattr(importlib.import_module(module), attribute)
    except Exception as error:  # what else a checkout needs and lacks, it says itself
        raise ImportError(f"{module}.{attribute}: {first_line(error)}") from error


def by_jvp(function):
    import torch

    return lambda q, k, v, tq, tk, tv: torch.func.jvp(function, (q, k, v), (tq, tk, tv))


def by_dual_numbers(function):
    import torch.autograd.forward_ad as forward_ad

    def run(q, k, v, tq, tk, tv):
        with forward_ad.dual_level():
            out = function(*[forward_ad.make_dual(x, t) for x, t in zip((q, k, v), (tq, tk, tv))])
            return tuple(forward_ad.unpack_dual(out))

    return run


# Each gives (q, k, v, tq, tk, tv) -> (o, to), all [B, H, S, D]; and whether gradients of `to` flow back.
adapters = {
    "tvm": lambda: (by_jvp(entry("jvp_utils.functional", "sdpa_jvp")), True),
    "jvp_flash_attention": lambda: (
        by_dual_numbers(entry("jvp_flash_attention.jvp_attention", "JVPAttn").fwd_dual),
        False,
    ),
    "rcm": lambda: (entry("rcm.utils.flash_attention_jvp_triton", "attention"), False),
}


def start(_threads):
    import torch

    if device == "cuda" and not torch.cuda.is_available():
        raise ImportError(f"PyTorch {torch.__version__} finds no CUDA device")
    function, differentiable = adapters[name]()
    names = ["q", "k", "v", "tq", "tk", "tv"]

    def attention_case(tensors, options):
        backward = options.get("backward", False)
        if backward and not differentiable:
            raise Refused("has no backward of the tangent")
        inputs = {n: t.to(device, torch.bfloat16) for n, t in tensors.items()}
        leaves = [inputs[n].requires_grad_(backward) for n in names]

        def run():
            o, to = function(*leaves)
            if not backward:
                return {"o": o, "to": to}
            gradients = torch.autograd.grad((o, to), leaves, (inputs["g"], inputs["h"]))
            return {"g" + n: gradient for n, gradient in zip(names, gradients)}

        try:
            run()
        except Exception as error:  # sizes and devices that it does not take
            raise Refused(first_line(error)) from error
        return run

    def seconds(run, repeats):
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        for _ in range(repeats):
            run()
        end.record()
        end.synchronize()
        return begin.elapsed_time(end) / 1e3

    return Library(
        versions={"PyTorch": torch.__version__, **triton_version()},
        cases={"attention": attention_case},
        from_numpy=torch.from_numpy,
        to_numpy=lambda tensor: tensor.detach().float().cpu().contiguous().numpy(),
        seconds=seconds if device == "cuda" else None,
    )


def triton_version():
    try:
        return {"Triton": importlib.import_module("triton").__version__}
    except ImportError:
        return {}


serve(start)
