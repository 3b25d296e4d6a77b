"""Which model is exported: OpenCLIP's configuration of it, its checkpoint's activation and preprocessing, and the weights.

A checkpoint is trained with one activation and one preprocessing. OpenCLIP keeps both beside the checkpoint's name
(`open_clip/pretrained.py`), but builds the model with the activation of the *model's* configuration and only warns when
the two differ. Here the checkpoint's count.
"""

import difflib
import hashlib
import math
import pickle
import zipfile
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import open_clip
import torch
from open_clip.factory import load_checkpoint, parse_model_name
from open_clip.model import convert_to_custom_text_state_dict
from open_clip.pretrained import download_pretrained, get_pretrained_cfg, list_pretrained_tags_by_model
from open_clip.tokenizer import SimpleTokenizer
from open_clip.transform import PreprocessCfg

from . import ExportError

QUICK_GELU_SUFFIX = "-quickgelu"  # OpenCLIP's models whose configuration differs in the activation alone


@dataclass
class Exported:
    """A model that is ready to be exported."""

    id: str  # VARIANT/CHECKPOINT
    model: torch.nn.Module
    config: dict  # embed_dim, vision_cfg, text_cfg, quick_gelu
    preprocess: dict  # a PreprocessCfg
    tokenizer: SimpleTokenizer
    weights: str  # the checkpoint's name, "random seed N" or "file SHA256"

    @property
    def activation(self) -> str:
        return "quick_gelu" if self.config.get("quick_gelu") else "gelu"

    @property
    def context_length(self) -> int:
        return self.tokenizer.context_length


def load(model: str, pretrained: str = None, weights: Path = None, random_seed: int = None, name: str = None) -> Exported:
    """`pretrained` names a checkpoint of OpenCLIP. With `weights` or `random_seed` too, only its configuration is taken."""
    config = _config(model)
    # OpenCLIP takes laion2b-s34b-b79k too; a model has one name.
    pretrained = pretrained and pretrained.lower().replace("-", "_")
    checkpoint = _checkpoint(model, pretrained)
    quick_gelu = bool(config.get("quick_gelu", False))
    if checkpoint is not None:
        trained_with = bool(checkpoint.get("quick_gelu", False))
        if quick_gelu and not trained_with:
            raise ExportError(
                f"{model} computes QuickGELU, but {pretrained} was trained with GELU; next: --model {model.removesuffix(QUICK_GELU_SUFFIX)}"
            )
        quick_gelu = trained_with
    _supported(model, config)
    if weights is not None and random_seed is not None:
        raise ExportError("--weights and --random-seed exclude each other: a model has one set of weights")
    if checkpoint is None and weights is None and random_seed is None and parse_model_name(model)[0] is None:
        known = ", ".join(list_pretrained_tags_by_model(_cleaned(model))) or "none"
        raise ExportError(f"no weights for {model}; expected --pretrained (there are: {known}), --weights FILE or --random-seed N")
    config["quick_gelu"] = quick_gelu
    # A folder or a repository of the hub brings its weights along; others are filled below.
    built = _build(model, quick_gelu, checkpoint, with_weights=parse_model_name(model)[0] is not None and weights is None and random_seed is None)
    if random_seed is not None:
        randomise(built, random_seed)
        source = f"random seed {random_seed}"
    elif weights is not None:
        source = f"file {_load_file(built, weights)}"
    else:
        source = pretrained or model
        if checkpoint is not None:
            load_checkpoint(built, _download(model, pretrained, checkpoint))
    built.eval().requires_grad_(False)
    schema, place = parse_model_name(model)
    # Of a folder or a repository the last part; ViT-L/14 is one name.
    variant = (Path(place).name if schema else _cleaned(model)).removesuffix(QUICK_GELU_SUFFIX)
    default_name = pretrained or (f"random-{random_seed}" if random_seed is not None else "custom")
    tokenizer = open_clip.get_tokenizer(model, context_length=config["text_cfg"]["context_length"])
    return Exported(name or f"{variant}/{default_name}", built, config, preprocess_of(built), tokenizer, source)


def preprocess_of(model: torch.nn.Module) -> dict:
    """The model's preprocessing with all keys of OpenCLIP's `PreprocessCfg`."""
    return asdict(PreprocessCfg(**open_clip.get_model_preprocess_cfg(model)))


def randomise(model: torch.nn.Module, seed: int) -> None:
    """Seeded weights whose vectors depend on the input, as trained ones do, so that a comparison of vectors means something.

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
            elif last in ("class_embedding", "positional_embedding") or "token_embedding" in name:
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


def _cleaned(model: str) -> str:
    return model.replace("/", "-")


def _config(model: str) -> dict:
    try:
        schema, _ = parse_model_name(model)
        config = open_clip.get_model_config(model if schema else _cleaned(model))
    except Exception as error:
        raise ExportError(f"the configuration of {model} cannot be read: {error}; next: check the path, or the network") from error
    if config is None:
        # As people type them: ViT-L/14, vit_l_14, ViT-L/14@336px.
        wanted = model.lower().translate(str.maketrans("/_@ ", "----")).removesuffix("px")
        names = {known.lower(): known for known in open_clip.list_models()}
        near = [names[n] for n in difflib.get_close_matches(wanted, names, n=3, cutoff=0.5)]
        hint = f"did you mean {' or '.join(near)}?" if near else "next: open_clip.list_models()"
        raise ExportError(f"OpenCLIP {open_clip.__version__} has no model {model}; {hint}")
    config["text_cfg"].setdefault("context_length", 77)
    return config


def _checkpoint(model: str, pretrained: str):
    """OpenCLIP's entry of the checkpoint: where its weights are, its activation and preprocessing."""
    if pretrained is None:
        return None
    names = (_cleaned(model), _cleaned(model).removesuffix(QUICK_GELU_SUFFIX))
    checkpoint = get_pretrained_cfg(names[0], pretrained) or get_pretrained_cfg(names[1], pretrained)
    if not checkpoint:
        tags = list_pretrained_tags_by_model(_cleaned(model))
        near = difflib.get_close_matches(pretrained, tags, n=1, cutoff=0.4)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise ExportError(f"{model} has no checkpoint {pretrained}{hint} (OpenCLIP {open_clip.__version__} has: {', '.join(tags) or 'none'})")
    return checkpoint


def _supported(model: str, config: dict) -> None:
    text = config["text_cfg"]
    tokenizer = text.get("hf_tokenizer_name") or text.get("hf_model_name")
    if tokenizer:
        raise ExportError(f"{model} reads texts with the tokenizer {tokenizer}; expected CLIP's own byte-pair encoding, the only one of clipstream")
    if "multimodal_cfg" in config or text.get("embed_cls"):
        raise ExportError(f"{model} is a CoCa model; expected a CLIP model of an image tower and a text tower")


def _build(model: str, quick_gelu: bool, checkpoint, with_weights: bool) -> torch.nn.Module:
    known = {field.name for field in fields(PreprocessCfg)}
    preprocess = {key: value for key, value in (checkpoint or {}).items() if key in known}
    try:
        return open_clip.create_model(
            model, force_quick_gelu=quick_gelu, force_preprocess_cfg=preprocess, load_weights=with_weights, require_pretrained=with_weights,
            pretrained_image=False, pretrained_text=False,
        )  # fmt: skip
    except (RuntimeError, OSError, ValueError) as error:
        raise ExportError(f"{model} cannot be built: {_first_line(error)}") from error


def _download(model: str, pretrained: str, checkpoint: dict) -> str:
    try:
        return download_pretrained(checkpoint)
    except Exception as error:  # every kind of network and hub error
        raise ExportError(
            f"the weights {pretrained} of {model} cannot be fetched ({type(error).__name__}: {_first_line(error)}); next: check the network,"
            f" or give the file with --weights FILE beside --pretrained {pretrained}, or try the export with --random-seed 0"
        ) from error


def _load_file(model: torch.nn.Module, file: Path) -> str:
    """Loads the weights; returns the file's sha256."""
    try:
        digest = sha256(file)
        if _is_torchscript(file):  # as OpenAI published its checkpoints
            state = torch.jit.load(file, map_location="cpu").state_dict()
            state = {key: value for key, value in state.items() if key not in ("input_resolution", "context_length", "vocab_size")}
            model.load_state_dict(state if hasattr(model, "positional_embedding") else convert_to_custom_text_state_dict(state))
        else:
            load_checkpoint(model, str(file))
    except OSError as error:
        raise ExportError(f"the weights {file} cannot be read: {error}") from error
    except pickle.UnpicklingError as error:  # PyTorch's message tells people to switch the protection off
        raise ExportError(f"the weights {file} are no PyTorch file, or one that holds more than tensors, which is not loaded") from error
    except Exception as error:  # torch, pickle and safetensors each have their own
        raise ExportError(f"the weights {file} do not fit the model: {_first_line(error)}; expected a state_dict of this OpenCLIP model") from error
    return digest


def _is_torchscript(file: Path) -> bool:
    if not zipfile.is_zipfile(file):
        return False
    with zipfile.ZipFile(file) as archive:
        return any(name.endswith("/constants.pkl") for name in archive.namelist())


def sha256(file: Path) -> str:
    with open(file, "rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [repr(error)])[0][:300]
