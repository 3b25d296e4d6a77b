"""OpenCLIP's model of a configuration, without weights: as OpenCLIP builds it, or narrowed for tests."""

import contextlib
import copy
import tempfile
from dataclasses import dataclass, fields
from unittest import mock

import open_clip
import torch
import transformers
from open_clip.factory import parse_model_name
from open_clip.transform import PreprocessCfg

from . import ExportError, first_line, text_configs


@dataclass
class Narrow:
    """What a test makes smaller. The graph's steps stay the same."""

    layers: int = None  # at most so many in each tower, or in each of its stages
    vocabulary: int = None  # rows of the token embedding


def build(model: str, config: dict, checkpoint: dict = None, with_weights: bool = False, offline: bool = False, narrow: Narrow = None):
    """`config` is OpenCLIP's of the model with its activation set; it is changed where `narrow` changes it. `with_weights`: those that
    a folder or a repository brings along. `offline`: nothing is asked of the hub. `narrow`: for random weights, which fill every
    parameter."""
    is_filled = narrow is not None
    narrow = narrow or Narrow()
    known = {field.name for field in fields(PreprocessCfg)}
    preprocess = {key: value for key, value in (checkpoint or {}).items() if key in known}
    _narrow(config, narrow)
    try:
        with _as_configured(model, config, offline, narrow), _shallow(narrow.layers), _uninitialised(is_filled):
            return open_clip.create_model(
                model, force_quick_gelu=config["quick_gelu"], force_preprocess_cfg=preprocess, load_weights=with_weights,
                require_pretrained=with_weights, pretrained_image=False, pretrained_text=False,
            )  # fmt: skip
    except (RuntimeError, OSError, ValueError) as error:
        raise ExportError(f"{model} cannot be built: {first_line(error)}") from error


def parameters(model: str, config: dict) -> int:
    """Of the image tower. Nothing is allocated."""
    with torch.device("meta"):
        visual = open_clip.model._build_vision_tower(config["embed_dim"], copy.deepcopy(config["vision_cfg"]))
    return sum(weight.numel() for weight in visual.parameters())


def _narrow(config: dict, narrow: Narrow) -> None:
    text, vision = config["text_cfg"], config["vision_cfg"]
    if narrow.vocabulary is not None and not text.get("hf_model_name"):
        text["vocab_size"] = narrow.vocabulary
    if narrow.layers is None:
        return
    if not text.get("hf_model_name"):
        text["layers"] = min(text.get("layers", 12), narrow.layers)
    if "multimodal_cfg" in config:  # CoCa's decoder, which no vector passes through
        config["multimodal_cfg"]["layers"] = 1
    if not vision.get("timm_model_name"):
        layers = vision.get("layers", 12)
        vision["layers"] = [min(stage, narrow.layers) for stage in layers] if isinstance(layers, list) else min(layers, narrow.layers)


@contextlib.contextmanager
def _as_configured(model: str, config: dict, offline: bool, narrow: Narrow):
    """While OpenCLIP builds: its table has this configuration, and the text tower's own one lies in a folder."""
    name = config["text_cfg"].get("hf_model_name")
    with contextlib.ExitStack() as stack:
        if parse_model_name(model)[0] is None:
            built = copy.deepcopy(config)
            if name:
                folder = stack.enter_context(tempfile.TemporaryDirectory())
                text_configs.narrowed(_text_config(name, offline), narrow.layers, narrow.vocabulary).save_pretrained(folder)
                built["text_cfg"]["hf_model_name"] = folder
            stack.enter_context(mock.patch.dict(open_clip.factory._MODEL_CONFIGS, {model.replace("/", "-"): built}))
        yield


def _text_config(name: str, offline: bool) -> transformers.PretrainedConfig:
    try:
        if offline and name in text_configs.KNOWN:
            return text_configs.KNOWN[name]()
        return transformers.AutoConfig.from_pretrained(name)
    except Exception as error:  # every kind of network and hub error
        if name in text_configs.KNOWN:
            return text_configs.KNOWN[name]()
        raise ExportError(
            f"the configuration of the text tower {name} cannot be fetched ({first_line(error)}); next: check the network, or name a folder"
            " with its config.json as hf_model_name in open_clip_config.json, with --model local-dir:FOLDER"
        ) from error


def _shallow(layers: int):
    """While timm builds: at most so many blocks, or in each of a network's stages."""
    if layers is None:
        return contextlib.nullcontext()
    create = open_clip.timm_model.timm.create_model

    def shallow(name, **arguments):
        if name.startswith("convnext"):
            arguments["depths"] = (min(3, layers), min(3, layers), layers, min(3, layers))
        elif name.startswith(("vit_", "eva", "vitamin")):
            arguments["depth"] = layers
        return create(name, **arguments)

    return mock.patch.object(open_clip.timm_model.timm, "create_model", shallow)


def _uninitialised(is_filled: bool):
    """While modules are made: without PyTorch's initial values, which take longer than all the rest, where others follow."""
    if not is_filled:
        return contextlib.nullcontext()
    keep = lambda tensor, *arguments, **options: tensor
    names = ("kaiming_uniform_", "uniform_", "normal_", "trunc_normal_", "xavier_uniform_")
    return mock.patch.multiple(torch.nn.init, **dict.fromkeys(names, keep))
