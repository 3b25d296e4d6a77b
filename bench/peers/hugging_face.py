"""The measured model as a Hugging Face `CLIPModel`, for the peers that run torch or candle.

usage: hugging_face.py FOLDER   (with the Python of tools/requirements-export.txt)
Writes weights, configuration, tokenizer and preprocessing as the hub's CLIP repositories have them, and `check.safetensors`: inputs and
OpenCLIP's own vectors of them, for check_hugging_face.py.
"""

import json
import logging
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

PROJECT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(PROJECT / "tools"))

from openclip_export import checkpoint, golden  # noqa: E402
from openclip_export.clip_bpe import END, START, tokenizer_json  # noqa: E402
from openclip_export.tokenizer import unpadded  # noqa: E402

PARTS = {"ln_1": "layer_norm1", "ln_2": "layer_norm2", "mlp.c_fc": "mlp.fc1", "mlp.c_proj": "mlp.fc2", "attn.out_proj": "self_attn.out_proj"}
WHOLE = {
    "logit_scale": "logit_scale",
    "positional_embedding": "text_model.embeddings.position_embedding.weight",
    "token_embedding.weight": "text_model.embeddings.token_embedding.weight",
    "visual.class_embedding": "vision_model.embeddings.class_embedding",
    "visual.positional_embedding": "vision_model.embeddings.position_embedding.weight",
    "visual.conv1.weight": "vision_model.embeddings.patch_embedding.weight",
}
NORMS = {"ln_final": "text_model.final_layer_norm", "visual.ln_pre": "vision_model.pre_layrnorm", "visual.ln_post": "vision_model.post_layernorm"}


def renamed(weights: dict) -> dict:
    """OpenCLIP's weights under the names of transformers (whose `pre_layrnorm` is spelt so)."""
    found = {}
    for name, weight in weights.items():
        tower, _, rest = name.partition("transformer.resblocks.")
        if rest:
            layer, _, part = rest.partition(".")
            prefix = f"{'vision' if tower else 'text'}_model.encoder.layers.{layer}."
            if part.startswith("attn.in_proj_"):
                for letter, third in zip("qkv", weight.chunk(3)):
                    found[f"{prefix}self_attn.{letter}_proj.{part.removeprefix('attn.in_proj_')}"] = third
            else:
                module, _, kind = part.rpartition(".")
                found[f"{prefix}{PARTS[module]}.{kind}"] = weight
        elif name in WHOLE:
            found[WHOLE[name]] = weight
        elif name in ("text_projection", "visual.proj"):
            found["text_projection.weight" if name == "text_projection" else "visual_projection.weight"] = weight.T
        elif name.rpartition(".")[0] in NORMS:
            module, _, kind = name.rpartition(".")
            found[f"{NORMS[module]}.{kind}"] = weight
        elif name != "attn_mask":
            raise KeyError(name)
    return {name: weight.detach().clone().contiguous() for name, weight in found.items()}


def configuration(config: dict) -> dict:
    vision, text = config["vision_cfg"], config["text_cfg"]
    common = {
        "hidden_act": "quick_gelu" if config["quick_gelu"] else "gelu",
        "layer_norm_eps": 1e-5,
        "projection_dim": config["embed_dim"],
        "attention_dropout": 0.0,
    }
    tokens = {"bos_token_id": 49406, "eos_token_id": 49407, "pad_token_id": 49407}
    return {
        "architectures": ["CLIPModel"], "model_type": "clip", "projection_dim": config["embed_dim"], "torch_dtype": "float32",
        "logit_scale_init_value": 2.6592,
        "text_config": {
            "model_type": "clip_text_model", "hidden_size": text["width"], "intermediate_size": 4 * text["width"],
            "num_attention_heads": text["heads"], "num_hidden_layers": text["layers"],
            "max_position_embeddings": text["context_length"], "vocab_size": text["vocab_size"], **tokens, **common,
        },
        "vision_config": {
            "model_type": "clip_vision_model", "hidden_size": vision["width"], "intermediate_size": 4 * vision["width"],
            "num_attention_heads": vision["width"] // 64, "num_hidden_layers": vision["layers"],
            "image_size": vision["image_size"], "patch_size": vision["patch_size"], "num_channels": 3, **common,
        },
    }  # fmt: skip


def processing(preprocess: dict) -> dict:
    side = preprocess["size"] if isinstance(preprocess["size"], int) else preprocess["size"][0]
    return {
        "image_processor_type": "CLIPImageProcessor", "feature_extractor_type": "CLIPFeatureExtractor", "do_convert_rgb": True, "do_resize": True,
        "size": {"shortest_edge": side}, "resample": 3, "do_center_crop": True, "crop_size": {"height": side, "width": side}, "do_rescale": True,
        "rescale_factor": 1 / 255, "do_normalize": True, "image_mean": list(preprocess["mean"]), "image_std": list(preprocess["std"]),
    }  # fmt: skip


def write(folder: Path) -> None:
    exported = checkpoint.load("ViT-B-32", "openai", random_seed=0)
    save_file(renamed(exported.model.state_dict()), folder / "model.safetensors", metadata={"format": "pt"})
    tokenizer = tokenizer_json(exported.tokenizer)
    special = {"bos_token": START, "eos_token": END, "unk_token": END, "pad_token": END}
    jsons = {
        "config": configuration(exported.config),
        "preprocessor_config": processing(exported.preprocess),
        "tokenizer": tokenizer,
        "tokenizer_config": {
            "tokenizer_class": "CLIPTokenizer",
            "model_max_length": exported.context_length,
            "errors": "replace",
            "do_lower_case": True,
            **special,
        },
        "special_tokens_map": special,
        "vocab": tokenizer["model"]["vocab"],
    }
    for name, content in jsons.items():
        (folder / f"{name}.json").write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(tokenizer["model"]["merges"]) + "\n", encoding="utf-8")
    pixels = torch.randn((2, 3, 224, 224), generator=torch.Generator().manual_seed(0))
    ids = exported.tokenizer(list(golden.TEXTS[:1]))
    wanted = {"picture_vectors": golden.vectors(exported, pixels=pixels), "text_vectors": golden.vectors(exported, ids=ids)}
    inputs = {"pixels": pixels, "ids": ids[:, : len(unpadded(exported.tokenizer, golden.TEXTS[0]))].contiguous()}
    save_file(inputs | {name: torch.from_numpy(value) for name, value in wanted.items()}, folder / "check.safetensors")


if __name__ == "__main__":
    logging.disable(logging.ERROR)
    write(Path(sys.argv[1]))
