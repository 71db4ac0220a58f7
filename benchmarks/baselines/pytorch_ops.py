"""Operations as one would write them in PyTorch, and the cases of pytorch.py that measure them alone."""
import math

import torch
import torch.autograd.forward_ad as forward_ad


def dual(function, primals, tangents):
    """What torch.func.jvp does, in a form that also releases before 2.0 have."""
    with forward_ad.dual_level():
        inputs = [p if t is None else forward_ad.make_dual(p, t) for p, t in zip(primals, tangents)]
        out = forward_ad.unpack_dual(function(*inputs))
        return out.primal, out.tangent


def softmax(x):
    # Before 2.0 the gradient of softmax's own tangent fails with an error, so it is spelled out there.
    if torch.__version__ >= "2" or not x.requires_grad or forward_ad.unpack_dual(x).tangent is None:
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
    names = ["q", "k", "v", "tq", "tk", "tv"]
    leaves = [tensors[name].requires_grad_(options.get("backward", False)) for name in names]
    by_hand = options.get("byHand", False)

    def run():
        if by_hand:
            o, to = attention_by_hand(*leaves)
        else:
            o, to = dual(attention, leaves[:3], leaves[3:])
        if not options.get("backward", False):
            return {"o": o, "to": to}
        gradients = torch.autograd.grad((o, to), leaves, (tensors["g"], tensors["h"]))
        return {"g" + name: gradient for name, gradient in zip(names, gradients)}

    return run


def norm_case(tensors, options):
    x, tx = tensors["x"].requires_grad_(), tensors["tx"].requires_grad_()

    def run():
        y, ty = dual(rms_norm, [x], [tx])
        if not options.get("backward", False):
            return {"y": y, "ty": ty}
        gx, gtx = torch.autograd.grad((y, ty), (x, tx), (tensors["g"], tensors["h"]))
        return {"gx": gx, "gtx": gtx}

    return run


def mmd_case(tensors, options):
    x, y, weight = tensors["x"].requires_grad_(), tensors["y"], tensors["weight"]
    distance = distances_by_hand if options.get("byHand", False) else distances

    def run():
        value = mmd(x, y, weight, distance)
        return {"value": value, "gx": torch.autograd.grad(value.sum(), x)[0]}

    return run
