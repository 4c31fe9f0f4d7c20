#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Runs diffusers' schedulers with a model in closed form and writes what comes out to fixtures/samplers/.

Needs torch and diffusers. The model is cheap and smooth in the sample and in time, so that any mistake in a
schedule or in an update shows; see model().
"""
import json
import pathlib

import torch
from diffusers import (DDIMScheduler, DPMSolverMultistepScheduler, EulerAncestralDiscreteScheduler,
                       EulerDiscreteScheduler, FlowMatchEulerDiscreteScheduler, PNDMScheduler, UniPCMultistepScheduler)
from diffusers.utils import logging
from safetensors.torch import save_file

HERE = pathlib.Path(__file__).resolve().parent / "fixtures" / "samplers"
STEPS = (1, 2, 3, 5, 10, 30)
ITEMS, VALUES = 2, 12

SD = dict(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
TAIL = dict(timestep_spacing="trailing", rescale_betas_zero_snr=True, prediction_type="v_prediction")
COSINE = dict(beta_schedule="squaredcos_cap_v2")
TRAINED = dict(num_train_timesteps=50, trained_betas=[0.001 + 0.0004 * i for i in range(50)])
PREDICTIONS = [dict(SD, prediction_type=p) for p in ("v_prediction", "sample")]
SPACINGS = [dict(SD, timestep_spacing=s, steps_offset=1) for s in ("leading", "trailing", "linspace")]
SIGMAS = [dict(SD, use_karras_sigmas=True), dict(SD, use_exponential_sigmas=True),
          dict(SD, final_sigmas_type="sigma_min"), dict(SD, use_karras_sigmas=True, final_sigmas_type="sigma_min")]

TABLE = {
    DDIMScheduler: [SD, dict(), COSINE, TRAINED, dict(SD, **TAIL, clip_sample=False), dict(SD, set_alpha_to_one=False),
                    dict(SD, clip_sample=False), dict(SD, clip_sample_range=0.5), *PREDICTIONS, *SPACINGS],
    PNDMScheduler: [dict(c, skip_prk_steps=True) for c in (
        SD, dict(), COSINE, TRAINED, dict(SD, set_alpha_to_one=True), dict(SD, prediction_type="v_prediction"), *SPACINGS)],
    EulerDiscreteScheduler: [SD, dict(), COSINE, TRAINED, dict(SD, **TAIL), dict(SD, interpolation_type="log_linear"),
                             dict(SD, timestep_type="continuous", prediction_type="v_prediction"),
                             dict(SD, use_karras_sigmas=True, sigma_min=0.05, sigma_max=9.0), *PREDICTIONS, *SPACINGS, *SIGMAS],
    EulerAncestralDiscreteScheduler: [SD, dict(), COSINE, TRAINED, dict(SD, **TAIL), PREDICTIONS[0], *SPACINGS],
    DPMSolverMultistepScheduler: [
        SD, dict(), dict(COSINE, lambda_min_clipped=-5.1), TRAINED, dict(SD, **TAIL), dict(SD, solver_order=1),
        dict(SD, solver_order=3), dict(SD, solver_order=3, lower_order_final=False, final_sigmas_type="sigma_min"),
        dict(SD, solver_type="heun"), dict(SD, euler_at_final=True, final_sigmas_type="sigma_min"),
        dict(SD, use_lu_lambdas=True), dict(COSINE, use_karras_sigmas=True),
        *(dict(SD, algorithm_type="sde-dpmsolver++", **e) for e in (
            dict(), dict(solver_type="heun"), dict(solver_order=3, use_karras_sigmas=True))),
        *PREDICTIONS, *SPACINGS, *SIGMAS],
    UniPCMultistepScheduler: [
        SD, dict(), COSINE, TRAINED, dict(SD, **TAIL), dict(SD, solver_order=1), dict(SD, solver_order=3),
        dict(SD, solver_type="bh1", final_sigmas_type="sigma_min"), dict(SD, solver_order=3, final_sigmas_type="sigma_min",
                                                                         lower_order_final=False),
        dict(SD, predict_x0=False, final_sigmas_type="sigma_min"), dict(SD, disable_corrector=[0, 2]),
        dict(SD, use_karras_sigmas=True, sigma_min=0.05, sigma_max=9.0),
        *(dict(c, predict_x0=False, final_sigmas_type="sigma_min") for c in PREDICTIONS),
        *PREDICTIONS, *SPACINGS, *SIGMAS],
    FlowMatchEulerDiscreteScheduler: [dict(), dict(shift=3.0), dict(shift=2.0, shift_terminal=0.1),
                                      dict(use_karras_sigmas=True), dict(use_exponential_sigmas=True)],
}


def model(x, t):
    """Smooth, bounded, different for each time."""
    return torch.sin(x * 0.7 + float(t) * 0.003) * 0.8 + torch.cos(x) * 0.1


def run(scheduler, steps, noise, added):
    scheduler.set_timesteps(steps)
    if hasattr(scheduler, "set_begin_index"):
        scheduler.set_begin_index(0)
    x = noise * getattr(scheduler, "init_noise_sigma", 1.0)
    drawn = iter(added)
    module = __import__(type(scheduler).__module__, fromlist=["randn_tensor"])
    if hasattr(module, "randn_tensor"):
        module.randn_tensor = lambda *a, **k: next(drawn)
    for t in scheduler.timesteps:
        scaled = scheduler.scale_model_input(x, t) if hasattr(scheduler, "scale_model_input") else x
        x = scheduler.step(model(scaled, t), t, x, return_dict=False)[0]
    return x


def main():
    logging.set_verbosity_error()
    HERE.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    noise = torch.randn(ITEMS, 1, 3, VALUES // 3)
    added = torch.randn(max(STEPS), *noise.shape)
    tensors, cases = {"noise": noise, "added": added}, []
    for scheduler, configs in TABLE.items():
        for config in configs:
            for steps in STEPS:
                built = scheduler(**config)
                if steps > built.config.num_train_timesteps // 2:
                    continue
                try:
                    x = run(built, steps, noise, added)
                except (IndexError, ValueError, ZeroDivisionError):
                    continue  # what the reference cannot run has no expected value
                if not torch.isfinite(x).all():
                    continue
                tensors[str(len(cases))] = x.contiguous()
                cases.append(dict(scheduler=scheduler.__name__, config=config, steps=steps))
    save_file(tensors, HERE / "expected.safetensors")
    (HERE / "cases.json").write_text("[\n" + ",\n".join(json.dumps(c) for c in cases) + "\n]\n")
    print(len(cases), "cases")


if __name__ == "__main__":
    main()
