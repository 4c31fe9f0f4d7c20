#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Courses of torch's optimizer, transformers' schedules and torch's loss scaler, for the tests beside this file.

  generate_fixtures.py          needs torch and transformers; writes fixtures/*.json
"""
import json
import math
import pathlib

import torch
from torch.optim.lr_scheduler import LambdaLR
from transformers import get_constant_schedule_with_warmup, get_cosine_schedule_with_warmup, get_linear_schedule_with_warmup

FOLDER = pathlib.Path(__file__).parent / "fixtures"
WEIGHTS, STEPS = 97, 20  # no multiple of a vector's width


def write(name, value):
    (FOLDER / name).write_text(json.dumps(value, separators=(",", ":")) + "\n", encoding="utf-8")


def first_weights():
    """The test makes the same numbers: thousandths, no weight near 0."""
    return torch.tensor([((i * 7919) % 2001 + 500) / 1000 for i in range(WEIGHTS)], dtype=torch.float64).float()


def gradients(step):
    """From 1e-6 to 1e2; some weights never have one."""
    values = [0.0 if i % 13 == 0 else ((i * 7919 + step * 104729) % 2001 - 1000) / 1000 * 10.0 ** (i % 5 * 2 - 6)
              for i in range(WEIGHTS)]
    return torch.tensor(values, dtype=torch.float64).float()


def run_adamw(config):
    weights = torch.nn.Parameter(first_weights())
    optimizer = torch.optim.AdamW([weights], lr=config["learning_rate"], betas=(config["beta1"], config["beta2"]),
                                  eps=config["epsilon"], weight_decay=config["weight_decay"], foreach=False)
    for step in range(STEPS):
        weights.grad = gradients(step)
        optimizer.step()
    state = optimizer.state[weights]
    return weights.detach(), state["exp_avg"], state["exp_avg_sq"]


def run_adamw_hf(config):
    """transformers.AdamW, which current releases no longer have, by its published formula and torch's operators."""
    beta1, beta2, rate = config["beta1"], config["beta2"], config["learning_rate"]
    weights, average, square = first_weights(), torch.zeros(WEIGHTS), torch.zeros(WEIGHTS)
    for step in range(1, STEPS + 1):
        gradient = gradients(step - 1)
        average.mul_(beta1).add_(gradient, alpha=1 - beta1)
        square.mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
        size = rate * math.sqrt(1 - beta2**step) / (1 - beta1**step)
        weights.addcdiv_(average, square.sqrt().add_(config["epsilon"]), value=-size)
        weights.add_(weights, alpha=-rate * config["weight_decay"])
    return weights, average, square


def optimizers():
    common = {"learning_rate": 1e-2, "beta1": 0.9, "beta2": 0.999, "epsilon": 1e-8, "weight_decay": 0.01}
    variants = [{}, {"weight_decay": 0.0}, {"epsilon": 1e-3, "beta1": 0.5, "beta2": 0.95, "weight_decay": 0.3}]
    cases = []
    for kind, run in (("adamw", run_adamw), ("adamw_hf", run_adamw_hf)):
        for variant in variants:
            config = {**common, **variant}
            weights, average, square = run(config)
            cases.append({"kind": kind, **config, "weights": weights.tolist(), "exp_avg": average.tolist(),
                          "exp_avg_sq": square.tolist()})
    write("optimizer.json", {"weights": WEIGHTS, "steps": STEPS, "cases": cases})


def schedules():
    cases = []
    for kind, make in (("constant", lambda o, w, t: get_constant_schedule_with_warmup(o, w)),
                       ("linear", get_linear_schedule_with_warmup), ("cosine", get_cosine_schedule_with_warmup)):
        for warmup, total in ((0, 10), (3, 10), (1, 2), (10, 10), (7, 40)):
            optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
            schedule = make(optimizer, warmup, total)
            assert isinstance(schedule, LambdaLR)
            steps = max(total, 1)  # behind its end the cosine is of no use
            cases.append({"kind": kind, "warmup": warmup, "total": total,
                          "factors": [schedule.lr_lambdas[0](step) for step in range(steps)]})
    write("schedule.json", {"cases": cases})


def loss_scales():
    overflows = {0, 1, 9, 10, 25, 26, 27, 28, 44}
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**16, growth_factor=2.0, backoff_factor=0.5, growth_interval=4)
    weight = torch.nn.Parameter(torch.zeros(3))
    optimizer = torch.optim.SGD([weight], lr=1.0)
    scales = []
    for step in range(60):
        scales.append(scaler.get_scale())
        scaler.scale(torch.zeros(1))  # creates its state
        weight.grad = torch.tensor([1.0, math.inf if step in overflows else 1.0, 1.0])
        scaler.step(optimizer)
        scaler.update()
    write("loss_scaler.json", {"growth_interval": 4, "overflows": sorted(overflows), "scales": scales})


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    optimizers()
    schedules()
    loss_scales()
