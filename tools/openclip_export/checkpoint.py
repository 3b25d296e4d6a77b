"""Which model is exported: OpenCLIP's configuration of it, its checkpoint's activation and preprocessing, and the weights.

A checkpoint is trained with one activation and one preprocessing. OpenCLIP keeps both beside the checkpoint's name
(`open_clip/pretrained.py`), but builds the model with the activation of the *model's* configuration and only warns when
the two differ. Here the checkpoint's count.
"""

import difflib
import hashlib
import pickle
import zipfile
from dataclasses import asdict, dataclass
from pathlib import Path

import open_clip
import torch
from open_clip.factory import load_checkpoint, parse_model_name
from open_clip.model import convert_to_custom_text_state_dict
from open_clip.pretrained import download_pretrained, get_pretrained_cfg, list_pretrained_tags_by_model
from open_clip.transform import PreprocessCfg

from . import ExportError, activations, first_line, tokenizer
from .build import Narrow, build
from .pictures import paintings, pixels_of
from .random_weights import calibrate, randomise

QUICK_GELU_SUFFIX = "-quickgelu"  # OpenCLIP's models whose configuration differs in the activation alone


@dataclass
class Exported:
    """A model that is ready to be exported."""

    id: str  # VARIANT/CHECKPOINT
    model: torch.nn.Module
    config: dict  # embed_dim, vision_cfg, text_cfg, quick_gelu
    preprocess: dict  # a PreprocessCfg
    tokenizer: object  # OpenCLIP's SimpleTokenizer or HFTokenizer
    weights: str  # the checkpoint's name, "random seed N" or "file SHA256"

    def activation(self, tower: str) -> str:
        """Of the image tower (`visual`) or the text tower (`text`); None: it has no GELU, or two kinds."""
        # `CLIP` holds the parts of its text tower itself.
        found = activations.kinds(getattr(self.model, tower, None) or self.model.transformer)
        return found.pop() if len(found) == 1 else None

    @property
    def context_length(self) -> int:
        return self.tokenizer.context_length


def load(
    model: str, pretrained: str = None, weights: Path = None, random_seed: int = None, name: str = None, tokenizer_folder: Path = None,
    layers: int = None,
) -> Exported:  # fmt: skip
    """`pretrained` names a checkpoint of OpenCLIP. With `weights` or `random_seed` too, only its configuration is taken.

    `tokenizer_folder`: the tokenizer's files where the hub is not reached. Random weights get a token embedding of their size, and
    towers of at most `layers` layers.
    """
    config = config_of(model)
    # OpenCLIP takes laion2b-s34b-b79k too; a model has one name.
    pretrained = pretrained and pretrained.lower().replace("-", "_")
    checkpoint = _checkpoint(model, pretrained)
    quick_gelu = bool(config.get("quick_gelu", False))
    if checkpoint is not None:
        trained_with = bool(checkpoint.get("quick_gelu", False))
        # roberta-ViT-B-32 says QuickGELU in its configuration alone, and OpenCLIP builds it so.
        if quick_gelu and not trained_with and _cleaned(model).endswith(QUICK_GELU_SUFFIX):
            raise ExportError(
                f"{model} computes QuickGELU, but {pretrained} was trained with GELU; next: --model {model.removesuffix(QUICK_GELU_SUFFIX)}"
            )
        quick_gelu |= trained_with
    if weights is not None and random_seed is not None:
        raise ExportError("--weights and --random-seed exclude each other: a model has one set of weights")
    if checkpoint is None and weights is None and random_seed is None and parse_model_name(model)[0] is None:
        known = ", ".join(list_pretrained_tags_by_model(_cleaned(model))) or "none"
        raise ExportError(f"no weights for {model}; expected --pretrained (there are: {known}), --weights FILE or --random-seed N")
    config["quick_gelu"] = quick_gelu
    is_random = random_seed is not None
    texts = tokenizer.load(model, config, tokenizer_folder)
    # Another vocabulary than the checkpoint's, so there is no need for the checkpoint's size.
    narrow = Narrow(layers, tokenizer.size(texts) if tokenizer_folder is not None else None) if is_random else None
    # A folder or a repository of the hub brings its weights along; others are filled below.
    brings_weights = parse_model_name(model)[0] is not None and weights is None and not is_random
    built = build(model, config, checkpoint, with_weights=brings_weights, offline=is_random, narrow=narrow)
    tokenizer.check(model, texts, tokenizer.rows_of(built))
    if is_random:
        randomise(built, random_seed)
        built.eval()
        calibrate(built, pixels_of(preprocess_of(built), paintings(8)))
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
    return Exported(name or f"{variant}/{default_name}", built, config, preprocess_of(built), texts, source)


def preprocess_of(model: torch.nn.Module) -> dict:
    """The model's preprocessing with all keys of OpenCLIP's `PreprocessCfg`."""
    return asdict(PreprocessCfg(**open_clip.get_model_preprocess_cfg(model)))


def _cleaned(model: str) -> str:
    return model.replace("/", "-")


def config_of(model: str) -> dict:
    """OpenCLIP's own, with the context length that it may leave out."""
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


def _download(model: str, pretrained: str, checkpoint: dict) -> str:
    try:
        return download_pretrained(checkpoint)
    except Exception as error:  # every kind of network and hub error
        raise ExportError(
            f"the weights {pretrained} of {model} cannot be fetched ({type(error).__name__}: {first_line(error)}); next: check the network,"
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
        raise ExportError(f"the weights {file} do not fit the model: {first_line(error)}; expected a state_dict of this OpenCLIP model") from error
    return digest


def _is_torchscript(file: Path) -> bool:
    if not zipfile.is_zipfile(file):
        return False
    with zipfile.ZipFile(file) as archive:
        return any(name.endswith("/constants.pkl") for name in archive.namelist())


def sha256(file: Path) -> str:
    with open(file, "rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
