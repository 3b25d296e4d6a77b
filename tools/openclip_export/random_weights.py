"""Random weights for tests: seeded, and scaled so that vectors depend on the input, as trained ones do."""

import math

import torch


def randomise(model: torch.nn.Module, seed: int) -> None:
    """Fills the model, so that a comparison of vectors means something.

    OpenCLIP's own initialisation gives nearly the same vector for all inputs: what tells them apart drowns in what the
    layers add. Here every layer takes values of variance 1; attention prefers some tokens (scores of standard deviation 2),
    and blocks add more than there was. Most of an MLP's units are off, as in trained models: that is where QuickGELU and
    GELU differ, so that the wrong one shows. LayerNorms and biases are random too, so that a forgotten one shows.
    """
    generator = torch.Generator().manual_seed(seed)

    def normal(like, std, mean=0.0):
        return torch.randn(like.shape, generator=generator) * std + mean

    with torch.no_grad():
        for name, weight in sorted(model.named_parameters()):
            last = name.rsplit(".", 1)[-1]
            fan_in = math.prod(weight.shape[1:]) if weight.ndim > 1 else 1
            if weight.ndim == 0 or name in ("logit_scale", "logit_bias"):
                continue
            if weight.ndim == 1 and last == "weight":
                weight.copy_(normal(weight, 0.1, mean=1.0))
            elif name.endswith("c_fc.bias"):
                weight.copy_(normal(weight, 1.0, mean=-2.0))
            elif last.endswith("bias"):
                weight.copy_(normal(weight, 0.1))
            elif last in ("class_embedding", "positional_embedding", "cls_emb") or "token_embedding" in name:
                weight.copy_(normal(weight, 0.5 if last == "positional_embedding" else 1.0))
            elif last in ("proj", "text_projection"):  # stored as [in, out]
                weight.copy_(normal(weight, weight.shape[0] ** -0.5))
            elif last == "in_proj_weight":
                weight.copy_(normal(weight, fan_in**-0.5))
                weight[: 2 * fan_in] *= 2**0.5  # queries and keys
            elif "out_proj" in name or "c_proj" in name:
                weight.copy_(normal(weight, (2 if "out_proj" in name else 4) * fan_in**-0.5))
            else:
                weight.copy_(normal(weight, fan_in**-0.5))


def calibrate(model: torch.nn.Module, pixels: torch.Tensor) -> None:
    """Sets the statistics of batch norms to those of some pictures, as training does. With the initial ones each layer's values grow
    or shrink, and all pictures get nearly the same vector."""
    norms = [part for part in model.visual.modules() if isinstance(part, torch.nn.modules.batchnorm._BatchNorm)]
    if not norms:
        return
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the average of all
        norm.train()
    with torch.no_grad():
        model.visual(pixels)
    for norm in norms:
        norm.eval()
