"""PyTorch eager as a peer: a server that reads one JSON request a line on stdin and answers with one line on stdout.

{"make": <name below>, "inputs": <safetensors>, "options": {...}} -> {"id": n}: prepares a case;
{"time": n, "repeats": r}                                         -> {"seconds": of one run};
{"save": n, "to": <path>}                                         -> {"saved": path}: the outputs of a run, by name.
"""
import json
import math
import os
import struct
import sys
import time

import numpy as np
import torch
import torch.autograd.forward_ad as forward_ad
import torch.nn.functional as functional

numpy_dtypes = {"F32": np.float32, "F64": np.float64, "I32": np.int32}
names_of_dtypes = {torch.float32: "F32", torch.float64: "F64", torch.int32: "I32"}


def load(path):
    with open(path, "rb") as file:
        header = json.loads(file.read(struct.unpack("<Q", file.read(8))[0]))
        data = file.read()
    tensors = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        begin, end = entry["data_offsets"]
        array = np.frombuffer(data[begin:end], numpy_dtypes[entry["dtype"]]).reshape(entry["shape"])
        tensors[name] = torch.from_numpy(array.copy())
    return tensors


def save(path, tensors):
    header, offset = {}, 0
    for name, tensor in tensors.items():
        size = tensor.numel() * tensor.element_size()
        header[name] = {
            "dtype": names_of_dtypes[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [offset, offset + size],
        }
        offset += size
    encoded = json.dumps(header).encode()
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(encoded)) + encoded)
        for tensor in tensors.values():
            file.write(tensor.detach().contiguous().numpy().tobytes())


def dual(function, primals, tangents):
    """What torch.func.jvp does, in a form that also releases before 2.0 have."""
    with forward_ad.dual_level():
        inputs = [p if t is None else forward_ad.make_dual(p, t) for p, t in zip(primals, tangents)]
        out = forward_ad.unpack_dual(function(*inputs))
        return out.primal, out.tangent


def softmax(x):
    # Before 2.0 the gradient of softmax's own tangent fails with an error, so it is spelled out there.
    if torch.__version__ >= "2" or not x.requires_grad:
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


def scalar_embedding(p, name, t, frequencies):
    half = frequencies // 2
    omega = torch.exp(-math.log(10000) * torch.arange(half, dtype=torch.float64) / half)
    phase = t.double()[:, None] * omega
    waves = torch.cat([phase.cos(), phase.sin()], 1).float()
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


def step_case(tensors, options):
    """A training step: loss, gradients, AdamW, the averages of the weights. Times, noise and guidance are given."""
    o, objective = options["network"], options["objective"]
    batch = {name[len("batch."):]: t for name, t in tensors.items() if name.startswith("batch.")}
    constants = {"pos_embed": tensors["pos_embed"]}
    p = {n: t.requires_grad_() for n, t in tensors.items() if not n.startswith("batch.") and n not in constants}
    p_list = list(p.values())
    teacher = {name: t.detach().clone() for name, t in p.items()}
    averages = [[t.detach().clone() for t in p_list], list(teacher.values())]
    optimizer = torch.optim.AdamW(p_list, lr=options.get("lr", 0.0), betas=(0.9, 0.95), weight_decay=0)
    x, noise, labels = batch["x"], batch["noise"], batch["labels"].long()
    t, s, s_prime, beta = batch["t"], batch["s"], batch["sPrime"], batch["beta"]

    def column(v):
        return v[:, None, None, None]

    def network(weights, *arguments):
        return dit({**weights, **constants}, o, *arguments)

    def interpolate(at):
        return x * (1 - column(at)) + noise * column(at)

    def flow_matching():
        difference = network(p, interpolate(t), t, t, labels) - (noise - x)
        return difference.square().flatten(1).mean(1).mean()

    def terminal_velocity():
        xt, xs, step, w = interpolate(t), interpolate(s_prime), column(s - t), column(1 / beta)
        f, df = dual(lambda at: network(p, xt, t, at, labels), [s], [torch.ones_like(s)])
        with torch.no_grad():
            both = network(
                teacher,
                torch.cat([xt + step * f, xs]),
                torch.cat([s, s_prime]),
                torch.cat([s, s_prime]),
                torch.cat([labels, torch.full_like(labels, -1)]),
            )
            terminal_target, unconditional = both.chunk(2)
            target = w * (noise - x) + (1 - w) * unconditional
        prime = network(p, xs, s_prime, s_prime, labels)
        terms = (column(beta) * (f + step * df - terminal_target)).square() + (column(beta) * (prime - target)).square()
        return terms.flatten(1).mean(1).mean()

    def run():
        loss = flow_matching() if objective == "fm" else terminal_velocity()
        gradients = torch.autograd.grad(loss, p_list)
        for parameter, gradient in zip(p_list, gradients):
            parameter.grad = gradient
        optimizer.step()
        with torch.no_grad():
            for average, decay in zip(averages, (0.999, 0.99)):
                torch._foreach_mul_(average, decay)
                torch._foreach_add_(average, p_list, alpha=1 - decay)
        return {"loss": loss.detach().reshape(1), **dict(zip(p, gradients))}

    return run


makers = {"attention": attention_case, "norm": norm_case, "step": step_case}


def main():
    cases = []
    for line in sys.stdin:
        request = json.loads(line)
        try:
            if "threads" in request:
                torch.set_num_threads(request["threads"])
                reply = {"version": torch.__version__, "threads": torch.get_num_threads()}
            elif "make" in request:
                cases.append(makers[request["make"]](load(request["inputs"]), request.get("options", {})))
                reply = {"id": len(cases) - 1}
            elif "time" in request:
                run, start = cases[request["time"]], time.perf_counter()
                for _ in range(request["repeats"]):
                    run()
                reply = {"seconds": (time.perf_counter() - start) / request["repeats"]}
            elif "save" in request:
                save(request["to"], cases[request["save"]]())
                reply = {"saved": request["to"]}
            elif "drop" in request:
                cases[request["drop"]] = None
                reply = {"dropped": request["drop"]}
            else:
                reply = {"error": f"unknown request {line.strip()}"}
        except Exception as error:  # the other side says what failed, with the message
            reply = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(reply), flush=True)


main()
os._exit(0)  # not by way of the interpreter's shutdown, which can wait for autograd's threads for ever
