"""Whole training steps in PyTorch: loss, gradients, AdamW, the averages of the weights."""
import torch

from pytorch_network import dit
from pytorch_ops import compiled, dual, dual_by_reverse, mmd


# Inductive Moment Matching on the path (1 − t) x + t n of unit deviation, times in double: η = t / (1 − t), λ = −2 ln η.


def moment_matching_step(s, t, mapping):
    """r(s, t): η a step lower."""
    eta_min, eta_max = mapping["etaMin"], mapping["etaMax"]
    eta = (t / (1 - t) - (eta_max - eta_min) / 2 ** mapping["k"]).clamp_min(eta_min)
    return torch.maximum(s, eta / (1 + eta))


def moment_matching_weight(t, mapping):
    slope = 2 / (t * (1 - t))
    sigmoid = torch.sigmoid(mapping["b"] + 2 * torch.log(t / (1 - t)))
    return sigmoid * slope * (1 - t) ** mapping["a"] / (2 * (t.square() + (1 - t).square()))


def step_case(tensors, options):
    """A training step: loss, gradients, AdamW, the averages of the weights. Times, noise and guidance are given."""
    o, objective = options["network"], options["objective"]
    batch = {name[len("batch."):]: t for name, t in tensors.items() if name.startswith("batch.")}
    constants = {"pos_embed": tensors["pos_embed"]}
    p = {n: t.requires_grad_() for n, t in tensors.items() if not n.startswith("batch.") and n not in constants}
    p_list = list(p.values())
    teacher = {name: t.detach().clone() for name, t in p.items()}
    averages = [[t.detach().clone() for t in p_list]] + ([] if objective == "imm" else [list(teacher.values())])
    optimizer = torch.optim.AdamW(p_list, lr=options["lr"], betas=(0.9, 0.95), weight_decay=0)
    x, noise, labels = batch["x"], batch["noise"], batch["labels"].long()
    t, s, s_prime, beta = batch["t"], batch["s"], batch.get("sPrime"), batch.get("beta")

    tangent_of = dual_by_reverse if options.get("compile", False) else dual

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
        f, df = tangent_of(lambda at: network(p, xt, t, at, labels), [s], [torch.ones_like(s)])
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

    def moment_matching():
        mapping, particles = options["mapping"], options["particles"]
        spread = s.repeat_interleave(particles)

        def jump(start):
            at = start.repeat_interleave(particles)
            share = column(at.to(x.dtype))
            xt = x * (1 - share) + noise * share
            y = xt - column((at - spread).to(x.dtype)) * network(p, xt, at, spread, labels)
            return y.reshape(len(t), particles, -1)

        y = jump(t)
        with torch.no_grad():
            target = jump(moment_matching_step(s, t, mapping))
        weight = moment_matching_weight(t, mapping)
        return (mmd(y, target, (1 / (t - s)).to(x.dtype)) * weight.to(x.dtype)).mean()

    losses = {"fm": flow_matching, "tvm": terminal_velocity, "imm": moment_matching}

    loss_of = compiled(losses[objective], options)

    def advance():
        optimizer.step()
        for average, decay in zip(averages, (0.999, 0.99)):
            torch._foreach_mul_(average, decay)
            torch._foreach_add_(average, p_list, alpha=1 - decay)

    # The optimiser decides in Python what to do, which is not for one graph.
    update = torch.compile(advance, dynamic=False) if options.get("compile", False) else advance

    def run():
        loss = loss_of()
        gradients = torch.autograd.grad(loss, p_list)
        for parameter, gradient in zip(p_list, gradients):
            parameter.grad = gradient
        with torch.no_grad():
            update()
        return {"loss": loss.detach().reshape(1), **dict(zip(p, gradients))}

    return run
