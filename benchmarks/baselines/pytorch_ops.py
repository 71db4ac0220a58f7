"""Operations as one would write them in PyTorch, and the cases of pytorch.py that measure them alone."""
import math

import torch
import torch.autograd.forward_ad as forward_ad

from protocol import Refused

has_func = hasattr(torch, "func")


def compiled(function, options):
    """`function` by torch.compile where the case asks for it; all of it in one graph, or not at all."""
    return torch.compile(function, dynamic=False, fullgraph=True) if options.get("compile", False) else function


def dual(function, primals, tangents):
    """torch.func.jvp, and the same by its parts in releases before 2.0."""
    if has_func:
        return torch.func.jvp(function, tuple(primals), tuple(tangents))
    with forward_ad.dual_level():
        inputs = [forward_ad.make_dual(p, t) for p, t in zip(primals, tangents)]
        outputs = function(*inputs)
        return tuple(forward_ad.unpack_dual(outputs))


def dual_by_reverse(function, primals, tangents):
    """The same by reverse mode twice. By jvp, torch.compile multiplies the zero tangents of weights too, and may then crash."""
    output, pull = torch.func.vjp(function, *primals)
    _, along = torch.func.vjp(pull, torch.zeros_like(output))
    return output, along(tuple(tangents))[0]


def softmax(x):
    # Before 2.0 the gradient of softmax's own tangent fails with an error, so it is spelled out there.
    if has_func or not x.requires_grad or forward_ad.unpack_dual(x).tangent is None:
        return torch.softmax(x, -1)
    e = torch.exp(x - x.detach().amax(-1, keepdim=True))
    return e / e.sum(-1, keepdim=True)


def attention(q, k, v):
    scores = (q @ k.transpose(-1, -2)) * (1 / math.sqrt(q.shape[-1]))
    return softmax(scores) @ v


def attention_by_hand(q, k, v, tq, tk, tv):
    scale = 1 / math.sqrt(q.shape[-1])
    keys = k.transpose(-1, -2)
    p = torch.softmax((q @ keys) * scale, -1)
    w = p * ((tq @ keys + q @ tk.transpose(-1, -2)) * scale)
    o = p @ v
    return o, w @ v + p @ tv - w.sum(-1, keepdim=True) * o


def rms_norm(x, weight=None, eps=1e-6):
    y = x * torch.rsqrt(x.square().mean(-1, keepdim=True) + eps)
    return y if weight is None else y * weight


def distances(a, b):
    """[G, M, D], [G, N, D] -> [G, M, N]. Up to 25 particles torch.cdist takes direct differences, and so does this mode of it."""
    return torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist")


def distances_by_hand(a, b):
    # Direct differences: ‖a‖² + ‖b‖² − 2ab by baddbmm is off by several per cent where particles are 1e-3 apart.
    return torch.linalg.vector_norm(a[:, :, None] - b[:, None], dim=-1)


def mmd(x, y, weight, distance=distances):
    """The squared discrepancy of each group by the Laplace kernel; y is a constant. x, y [G, M, D], weight [G] -> [G]"""
    scale = -weight[:, None, None] / x.shape[2]

    def kernel(d):  # less one: the ones cancel
        return torch.expm1(scale * d.clamp_min(1e-8)).mean((1, 2))

    return kernel(distance(x, x)) + kernel(distance(y, y)) - 2 * kernel(distance(x, y))


def attention_case(tensors, options):
    backward = options.get("backward", False)
    names = ["q", "k", "v", "tq", "tk", "tv"]
    leaves = [tensors[name].requires_grad_(backward) for name in names]

    def by_forward_mode(*inputs):
        return dual(attention, inputs[:3], inputs[3:])

    function = compiled(attention_by_hand if options.get("byHand", False) else by_forward_mode, options)

    def run():
        o, to = function(*leaves)
        if not backward:
            return {"o": o, "to": to}
        gradients = torch.autograd.grad((o, to), leaves, (tensors["g"], tensors["h"]))
        return {"g" + name: gradient for name, gradient in zip(names, gradients)}

    return run


def plain_attention_case(tensors, options):
    """Attention without a tangent by PyTorch's own flash kernel."""
    if not hasattr(torch.nn, "attention"):
        raise Refused(f"the choice of scaled_dot_product_attention's kernel came with 2.3, this is {torch.__version__}")
    backward = options.get("backward", False)
    q, k, v = [tensors[name].requires_grad_(backward) for name in ["q", "k", "v"]]

    def run():
        with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.FLASH_ATTENTION):
            o = torch.nn.functional.scaled_dot_product_attention(q, k, v)
        if not backward:
            return {"o": o}
        gradients = torch.autograd.grad(o, (q, k, v), tensors["g"])
        return dict(zip(["gq", "gk", "gv"], gradients))

    return run


def norm_case(tensors, options):
    backward = options.get("backward", False)
    x, tx = tensors["x"].requires_grad_(backward), tensors["tx"].requires_grad_(backward)
    function = compiled(lambda x, tx: dual(rms_norm, [x], [tx]), options)

    def run():
        y, ty = function(x, tx)
        if not backward:
            return {"y": y, "ty": ty}
        gx, gtx = torch.autograd.grad((y, ty), (x, tx), (tensors["g"], tensors["h"]))
        return {"gx": gx, "gtx": gtx}

    return run


def mmd_case(tensors, options):
    x, y, weight = tensors["x"].requires_grad_(), tensors["y"], tensors["weight"]
    distance = distances_by_hand if options.get("byHand", False) else distances
    function = compiled(lambda x, y, weight: mmd(x, y, weight, distance), options)

    def run():
        value = function(x, y, weight)
        return {"value": value, "gx": torch.autograd.grad(value.sum(), x)[0]}

    return run
