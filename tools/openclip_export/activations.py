"""Which GELU a tower computes."""

import torch
from open_clip.transformer import QuickGELU

# By name: timm's classes, and those of Transformers.
NAMES = {
    "GELU": "gelu", "GELUTanh": "gelu_tanh", "QuickGELU": "quick_gelu",
    "GELUActivation": "gelu", "QuickGELUActivation": "quick_gelu",
    "NewGELUActivation": "gelu_tanh", "FastGELUActivation": "gelu_tanh", "PytorchGELUTanh": "gelu_tanh", "GELUTanhActivation": "gelu_tanh",
}  # fmt: skip


def kinds(module: torch.nn.Module) -> set:
    """All of them; an empty set: it has none."""

    def kind(part):
        if isinstance(part, QuickGELU):
            return "quick_gelu"
        if isinstance(part, torch.nn.GELU):
            return "gelu_tanh" if part.approximate == "tanh" else "gelu"
        return NAMES.get(type(part).__name__)

    return {kind(part) for part in module.modules()} - {None}
