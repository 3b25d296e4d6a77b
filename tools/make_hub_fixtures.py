#!/usr/bin/env python3
"""Tiny models with the files, names and shapes that hubs have: python tools/make_hub_fixtures.py [NAME ...], all without arguments.

Run with tools/requirements-export.txt and, installed after it, tools/requirements-tokenizers.txt. Writes tests/fixtures/models/NAME/.
ours-siglip also writes tests/fixtures/siglip_vectors.json. Weights are seeded and random, vocabularies are our own. golden.json has the ids of OpenCLIP's HFTokenizer and the vectors of the
original in PyTorch (OpenCLIP, or Transformers' modules), and how close ONNX Runtime comes to them with each precision's graphs.
tests/fixtures/models/README.md says which repository each is like.
"""

import json
import logging
import os
import shutil
import sys
import tempfile
import warnings
from functools import partial
from pathlib import Path

os.environ.update(TOKENIZERS_PARALLELISM="false", HF_HUB_OFFLINE="1", TRANSFORMERS_VERBOSITY="error")

import onnx
import onnxruntime
import open_clip
import torch
import transformers
from onnxruntime.quantization import QuantType, quantize_dynamic
from onnxruntime.quantization.matmul_bnb4_quantizer import MatMulBnb4Quantizer
from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer
from onnxruntime.transformers.float16 import convert_float_to_float16

import fixture_tokenizers
from fixture_hub import Original, Texts, measured, preprocess, seeded
from fixture_hub_towers import WIDTH, Hidden, JinaBoth, MaskedMean, OpenClip, SiglipBoth, encoder
from make_model_fixtures import CONFIG, OPTIMUM_PIXELS, Half, dynamo, rename_axes, tokenizer as clip_tokenizer, tokenizer_config, traced
from openclip_export import directory, golden
from openclip_export.checkpoint import randomise
from openclip_export.tokenizer import tokenizer_json

FIXTURES = Path(__file__).resolve().parent.parent / "tests" / "fixtures" / "models"
SIZE_MAX = 1_000_000
VISION = {**CONFIG["vision_cfg"], "layers": 1}
OPENAI = {"mean": open_clip.OPENAI_DATASET_MEAN, "std": open_clip.OPENAI_DATASET_STD}
PLAIN_PIXELS = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}
HALVES = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}


# --- SigLIP 2


SIGLIP_TEXT = {
    "context_length": 64, "hf_tokenizer_name": "timm/ViT-B-16-SigLIP2", "tokenizer_kwargs": {"clean": "canonicalize"}, "width": WIDTH, "heads": 2,
    "layers": 1, "no_causal_mask": True, "proj_bias": True, "pool_type": "last", "norm_kwargs": {"eps": 1e-6}, "act_kwargs": {"approximate": "tanh"},
}  # fmt: skip


def gemma() -> Texts:
    return Texts(fixture_tokenizers.gemma, 600, 64, clean="canonicalize")


def open_clip_siglip(name: str, texts: Texts):
    """OpenCLIP's SigLIP 2: timm's tower, and a text tower that sees all tokens and takes the last position, whatever is there."""
    config = {
        "embed_dim": WIDTH, "init_logit_bias": -10, "custom_text": True,
        "vision_cfg": {"image_size": 32, "timm_model_name": "fixture_siglip", "timm_model_pretrained": False, "timm_pool": "map", "timm_proj": "none"},
        "text_cfg": {**SIGLIP_TEXT, "vocab_size": texts.size},
    }  # fmt: skip
    built = {key: value for key, value in config.items() if key != "custom_text"}
    model = seeded(open_clip.CustomTextCLIP(**built), 1)
    constants = preprocess(resize_mode="squash", **HALVES)
    original = Original(f"tiny/{name}", constants, model.encode_image, model.encode_text, texts.rows, texts.padding)
    return original, model, config


def open_clip_files(root: Path, original: Original, config: dict, texts: Texts) -> None:
    directory.write_json(root / "config.json", config)
    directory.write_json(root / "visual" / "preprocess_cfg.json", original.preprocess)
    texts.write(root / "textual")


def ours_siglip(root: Path) -> Original:
    """Our own layout: free batches, `clipstream.json` with the scale and the bias of the sigmoid."""
    texts = gemma()
    original, model, config = open_clip_siglip(root.name, texts)
    image, text = root / "visual" / "model.onnx", root / "textual" / "model.onnx"
    batch = ({0: "batch"},)
    dynamo(OpenClip(model, "encode_image"), (torch.zeros(2, 3, 32, 32),), image, (["image"], ["image_embedding"]), batch)
    dynamo(OpenClip(model, "encode_text"), (torch.ones(2, 64, dtype=torch.int64),), text, (["text"], ["text_embedding"]), batch)
    open_clip_files(root, original, config, texts)
    manifest = {
        "format": 1, "model": original.id, "dimension": WIDTH, "image_size": 32, "context_length": 64, "activation": "gelu_tanh",
        "logit_scale": 117.33, "logit_bias": -12.93, "weights": "random seed 1", "opset": 18, "precisions": ["fp32"],
    }  # fmt: skip
    directory.write_json(root / "clipstream.json", manifest)
    write_catalog_vectors(root, original)
    return original


def write_catalog_vectors(root: Path, original: Original) -> None:
    """tests/fixtures/siglip_vectors.json: what ONNX Runtime in Python gives with this model for the pictures and names of the demo's
    catalog that demo_vectors.json has of the demo's CLIP."""
    catalog = FIXTURES.parent.parent.parent / "demo" / "catalog"
    texts = {line["text"]: line["image"] for line in map(json.loads, open(catalog / "catalog.jsonl"))}
    chosen = [line["text"] for line in json.loads((FIXTURES.parent / "demo_vectors.json").read_text()) if "text" in line]
    sessions = {part: onnxruntime.InferenceSession(root / part / "model.onnx") for part in ("visual", "textual")}
    lines = []
    for text in chosen:
        pixels = golden.preprocess(original, [catalog / texts[text]])
        for key, name, part, values in (("image", texts[text], "visual", pixels), ("text", text, "textual", original.rows([text]))):
            session = sessions[part]
            (vector,) = session.run(None, {session.get_inputs()[0].name: values.numpy()})[0]
            lines.append({key: name, "embedding": [float(f"{value:.8f}") for value in vector]})
    text = ",\n".join(json.dumps(line, ensure_ascii=False) for line in lines)
    (FIXTURES.parent / "siglip_vectors.json").write_text(f"[\n{text}\n]\n")


def immich_siglip2(root: Path) -> Original:
    """immich-app/ViT-B-16-SigLIP2__webli: one picture and one text of 64 ids (int32) at a time."""
    texts = gemma()
    original, model, config = open_clip_siglip(root.name, texts)
    image, text = root / "visual" / "model.onnx", root / "textual" / "model.onnx"
    traced(OpenClip(model, "encode_image"), (torch.zeros(1, 3, 32, 32),), image, (["image"], ["embedding"]), {})
    traced(OpenClip(model, "encode_text"), (torch.ones(1, 64, dtype=torch.int32),), text, (["text"], ["embedding"]), {})
    open_clip_files(root, original, config, texts)
    return original


def onnx_community_siglip2(root: Path) -> Original:
    """onnx-community/siglip2-base-patch16-224-ONNX."""
    texts = gemma()
    common = {"hidden_size": WIDTH, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    text_config = {**common, "vocab_size": texts.size, "projection_size": WIDTH}
    config = transformers.SiglipConfig(text_config, {**common, "image_size": 32, "patch_size": 8})
    for part in (config.text_config, config.vision_config):
        part._attn_implementation = "eager"
    text, vision = seeded(transformers.SiglipTextModel(config.text_config), 2), seeded(transformers.SiglipVisionModel(config.vision_config), 3)
    original = Original(
        f"tiny/{root.name}", preprocess("bilinear", "squash", **HALVES), lambda pixels: vision(pixels).pooler_output,
        lambda ids: text(ids).pooler_output, texts.rows, texts.padding, f"Transformers {transformers.__version__}",
    )  # fmt: skip
    outputs, ids, pixels = ["last_hidden_state", "pooler_output"], torch.ones(2, 64, dtype=torch.int64), torch.zeros(2, 3, 32, 32)
    batch, sequence = {0: "batch_size"}, {0: "batch_size", 1: "sequence_length"}
    files = root / "onnx"
    for suffix, kind in (("", lambda tower: tower), ("_fp16", HalfHidden)):
        dynamo(kind(Hidden(vision)), (pixels,), files / f"vision_model{suffix}.onnx", (["pixel_values"], outputs), (batch,))
        rename_axes(files / f"vision_model{suffix}.onnx", "pixel_values", OPTIMUM_PIXELS)
        dynamo(kind(Hidden(text)), (ids[:, :9],), files / f"text_model{suffix}.onnx", (["input_ids"], outputs), (sequence,))
    quantised(files)
    dynamo(
        SiglipBoth(text, vision), (ids[:, :9], torch.zeros(3, 3, 32, 32)), files / "model.onnx",
        (["input_ids", "pixel_values"], ["logits_per_image", "logits_per_text", "text_embeds", "image_embeds"]),
        ({0: "text_batch_size", 1: "sequence_length"}, {0: "image_batch_size"}),
    )  # fmt: skip
    # As Google's repository has it: what is the class's own is left out, the context length too.
    written = {
        "architectures": ["SiglipModel"], "model_type": "siglip", "initializer_factor": 1.0,
        "text_config": {"model_type": "siglip_text_model", **text_config},
        "vision_config": {"model_type": "siglip_vision_model", **common, "image_size": 32, "patch_size": 8},
    }  # fmt: skip
    directory.write_json(root / "config.json", written)
    directory.write_json(root / "preprocessor_config.json", siglip_processor(resample=2))
    texts.write(root)
    return original


def siglip_processor(resample: int) -> dict:
    return {
        "do_convert_rgb": None, "do_normalize": True, "do_rescale": True, "do_resize": True, "image_mean": [0.5] * 3,
        "image_processor_type": "SiglipImageProcessor", "image_std": [0.5] * 3, "processor_class": "SiglipProcessor", "resample": resample,
        "rescale_factor": 0.00392156862745098, "size": {"height": 32, "width": 32},
    }  # fmt: skip


class HalfHidden(Half):
    def forward(self, values):
        return tuple(found.float() for found in self.tower(values.half() if values.is_floating_point() else values))


def quantised(files: Path, names=("vision_model", "text_model")) -> None:
    """The other files of transformers.js's conversion: `_int8`, `_uint8`, `_quantized` (8 bits), `_q4` and `_bnb4` (4 bits, products alone), `_q4f16`
    (the rest of `_q4` in half precision)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in names:
            source = files / f"{name}.onnx"
            for suffix, kind in (("_int8", QuantType.QInt8), ("_uint8", QuantType.QUInt8), ("_quantized", QuantType.QUInt8)):
                quantize_dynamic(source, files / f"{name}{suffix}.onnx", weight_type=kind, extra_options={"MatMulConstBOnly": True})
            for suffix, quantizer in (
                ("_q4", MatMulNBitsQuantizer(onnx.load(source), block_size=16, is_symmetric=True)),
                ("_bnb4", MatMulBnb4Quantizer(onnx.load(source), 0, 16)),
            ):
                quantizer.process()
                onnx.save(quantizer.model.model, files / f"{name}{suffix}.onnx")
            halves = convert_float_to_float16(onnx.load(files / f"{name}_q4.onnx"), keep_io_types=True, disable_shape_infer=True)
            onnx.save(halves, files / f"{name}_q4f16.onnx")


# --- texts in many languages, and masks


def image_tower(seed: int):
    """A CLIP's image tower of OpenCLIP."""
    model = open_clip.CLIP(WIDTH, VISION, {**CONFIG["text_cfg"], "layers": 1}, quick_gelu=False)
    randomise(model, seed)
    return model.eval().requires_grad_(False)


def xlm_r(context_length: int) -> Texts:
    # Without the original's table of normalisation, which is 300 kB; tests/fixtures/tokenizers has it.
    return Texts(partial(fixture_tokenizers.xlm_r, rule="identity"), 600, context_length)


def immich_xlm_r(root: Path) -> Original:
    """immich-app/XLM-Roberta-Base-ViT-B-32__laion5b_s13b_b90k: OpenCLIP's tower of Transformers, which finds the padding by its id."""
    texts = xlm_r(77)
    with tempfile.TemporaryDirectory() as folder:
        encoder("xlm-roberta", texts.size, texts.padding).config.save_pretrained(folder)
        text_cfg = {"hf_model_name": folder, "hf_tokenizer_name": "xlm-roberta-base", "hf_proj_type": "mlp", "hf_pooler_type": "mean_pooler"}
        model = open_clip.CustomTextCLIP(WIDTH, VISION, {**text_cfg, "hf_model_pretrained": False, "output_tokens": False})
    randomise(model.visual, 4)
    seeded(model.text, 4)
    model.eval().requires_grad_(False)
    model.text.transformer.set_attn_implementation("eager")
    original = Original(f"tiny/{root.name}", preprocess(**OPENAI), model.encode_image, model.encode_text, texts.rows, texts.padding)
    image, text = root / "visual" / "model.onnx", root / "textual" / "model.onnx"
    traced(OpenClip(model, "encode_image"), (torch.zeros(1, 3, 32, 32),), image, (["image"], ["embedding"]), {})
    traced(OpenClip(model, "encode_text"), (torch.ones(1, 77, dtype=torch.int32),), text, (["text"], ["embedding"]), {})
    config = {"embed_dim": WIDTH, "vision_cfg": VISION, "text_cfg": {**text_cfg, "hf_model_name": "xlm-roberta-base"}}
    open_clip_files(root, original, config, texts)
    return original


def immich_m_clip(root: Path) -> Original:
    """immich-app/XLM-Roberta-Large-Vit-B-32: ids and mask (int32, 77 of each) of one text; `config.json` is that of the CLIP whose image
    tower it has, so that its text_cfg means another text tower."""
    texts, model = xlm_r(77), image_tower(5)
    text = seeded(MaskedMean(encoder("xlm-roberta", texts.size, texts.padding), texts.padding, bias=True, normalize=True), 6)
    original = Original(
        f"tiny/{root.name}", preprocess(**OPENAI), model.encode_image, text, texts.rows, texts.padding,
        f"OpenCLIP {open_clip.__version__}, Transformers {transformers.__version__}",
    )  # fmt: skip
    traced(OpenClip(model, "encode_image"), (torch.zeros(1, 3, 32, 32),), root / "visual" / "model.onnx", (["image"], ["embedding"]), {})
    ids = torch.ones(1, 77, dtype=torch.int32)
    traced(text, (ids, ids.clone()), root / "textual" / "model.onnx", (["input_ids", "attention_mask"], ["embedding"]), {})
    config = {"embed_dim": WIDTH, "vision_cfg": VISION, "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 512, "heads": 8, "layers": 12}}
    open_clip_files(root, original, config, texts)
    return original


def jina_clip_v1(root: Path) -> Original:
    """jinaai/jina-clip-v1: a pair of graphs, vectors as the projection gives them, texts in WordPiece."""
    texts = Texts(fixture_tokenizers.wordpiece, 500, 77)
    model = image_tower(7)
    text = seeded(MaskedMean(encoder("bert", texts.size, texts.padding), texts.padding, bias=False), 8)
    original = jina(root, model, text, texts)
    ids, files = torch.ones(2, 9, dtype=torch.int64), root / "onnx"
    image = OpenClip(model, "encode_image", normalize=False)
    dynamo(image, (torch.zeros(2, 3, 32, 32),), files / "vision_model.onnx", (["pixel_values"], ["image_embeds"]), ({0: "batch_size"},))
    dynamo(text, (ids,), files / "text_model.onnx", (["input_ids"], ["text_embeds"]), ({0: "batch_size", 1: "sequence_length"},))
    return original


def jina_clip_v2(root: Path) -> Original:
    """jinaai/jina-clip-v2: one graph of both towers with its weights in `model.onnx_data`."""
    texts, model = xlm_r(77), image_tower(9)
    text = seeded(MaskedMean(encoder("xlm-roberta", texts.size, texts.padding), texts.padding, bias=False), 10)
    original = jina(root, model, text, texts)
    path = root / "onnx" / "model.onnx"
    dynamo(
        JinaBoth(text, OpenClip(model, "encode_image", normalize=False)), (torch.ones(2, 9, dtype=torch.int64), torch.zeros(3, 3, 32, 32)), path,
        (["input_ids", "pixel_values"], ["text_embeddings", "image_embeddings", "l2norm_text_embeddings", "l2norm_image_embeddings"]),
        ({0: "text_batch", 1: "sequence_length"}, {0: "image_batch"}),
    )  # fmt: skip
    quantize_dynamic(path, path.with_name("model_quantized.onnx"), weight_type=QuantType.QUInt8, extra_options={"MatMulConstBOnly": True})
    onnx.save(onnx.load(path), path, save_as_external_data=True, all_tensors_to_one_file=True, location="model.onnx_data", size_threshold=1024)
    return original


def jina(root: Path, model, text, texts: Texts) -> Original:
    constants = preprocess(**OPENAI)
    encode = lambda pixels: model.encode_image(pixels, normalize=False)
    original = Original(
        f"tiny/{root.name}", constants, encode, text, texts.rows, texts.padding, f"OpenCLIP {open_clip.__version__}, Transformers {transformers.__version__}"
    )
    processor = {
        "auto_map": {"AutoImageProcessor": "jinaai/jina-clip-implementation--processing_clip.JinaCLIPImageProcessor"}, "fill_color": 0,
        "image_processor_type": "JinaCLIPImageProcessor", "interpolation": "bicubic", "mean": constants["mean"],
        "processor_class": "JinaCLIPProcessor", "resize_mode": "shortest", "size": 32, "std": constants["std"],
    }  # fmt: skip
    directory.write_json(root / "preprocessor_config.json", processor)
    directory.write_json(root / "config.json", {"architectures": ["JinaCLIPModel"], "model_type": "jina_clip", "projection_dim": WIDTH})
    texts.write(root)
    return original


# --- MobileCLIP


def mobileclip(name: str, seed: int):
    text_cfg = {**CONFIG["text_cfg"], "layers": 1, "no_causal_mask": True}
    model = open_clip.CustomTextCLIP(WIDTH, VISION, text_cfg)
    randomise(model, seed)
    model.eval().requires_grad_(False)
    rows = clip_tokenizer()
    return model, Original(f"tiny/{name}", preprocess("bilinear", **PLAIN_PIXELS), model.encode_image, model.encode_text, rows, 0)


def mobileclip_graphs(model, folder: Path) -> None:
    batch = ({0: "batch_size"},)
    image, text = (OpenClip(model, encode, normalize=False) for encode in ("encode_image", "encode_text"))
    dynamo(image, (torch.zeros(2, 3, 32, 32),), folder / "vision_model.onnx", (["pixel_values"], ["image_embeds"]), batch)
    dynamo(text, (torch.ones(2, 77, dtype=torch.int64),), folder / "text_model.onnx", (["input_ids"], ["text_embeds"]), batch)


def mobileclip_files(root: Path, processor: dict, folders=()) -> None:
    config = {
        "architectures": ["CLIPModel"], "model_type": "clip", "projection_dim": WIDTH,
        "text_config": {"model_type": "clip_text_model", "hidden_act": "gelu", "max_position_embeddings": 77},
        "vision_config": {"model_type": "clip_vision_model", "hidden_act": "gelu", "image_size": 32},
    }  # fmt: skip
    for folder in (root, *folders):
        folder.mkdir(parents=True, exist_ok=True)
        directory.write_json(folder / "preprocessor_config.json", processor)
        directory.write_json(folder / "config.json", config)
    directory.write_json(root / "tokenizer.json", tokenizer_json(clip_tokenizer()))
    directory.write_json(root / "tokenizer_config.json", tokenizer_config())


def mobile_processor(**steps) -> dict:
    return {
        "crop_size": {"height": 32, "width": 32}, "do_center_crop": True, "do_resize": True, "image_processor_type": "CLIPImageProcessor",
        "resample": 2, "size": {"shortest_edge": 32}, **steps,
    }  # fmt: skip


def plhery_mobileclip2(root: Path) -> Original:
    """plhery/mobileclip2-onnx: a folder for each size with a pair of its own; `tokenizer.json` is at the root alone."""
    processor = mobile_processor(do_normalize=True, image_mean=[0.0] * 3, image_std=[1.0] * 3)
    sizes = [root / "onnx" / size for size in ("s0", "s2")]
    mobileclip_files(root, processor, sizes)
    for seed, folder in zip((12, 11), sizes):
        model, original = mobileclip(root.name, seed)
        mobileclip_graphs(model, folder)
        directory.write_json(folder / "golden.json", measured(folder, original))
    # The pair of the root is that of S2.
    mobileclip_graphs(model, root / "onnx")
    return original


def xenova_mobileclip(root: Path) -> Original:
    """Xenova/mobileclip_s0: pixels between 0 and 1, because the processor does not normalise."""
    model, original = mobileclip(root.name, 13)
    mobileclip_graphs(model, root / "onnx")
    mobileclip_files(root, mobile_processor(do_convert_rgb=True, do_normalize=False, do_rescale=True, rescale_factor=0.00392156862745098))
    return original


MADE = {
    "ours-siglip": ours_siglip,
    "immich-siglip2": immich_siglip2,
    "onnx-community-siglip2": onnx_community_siglip2,
    "immich-xlm-r": immich_xlm_r,
    "immich-m-clip": immich_m_clip,
    "jina-clip-v1": jina_clip_v1,
    "jina-clip-v2": jina_clip_v2,
    "plhery-mobileclip2": plhery_mobileclip2,
    "xenova-mobileclip": xenova_mobileclip,
}


def main() -> None:
    torch.set_num_threads(1)  # sums in one order, so that a second run writes the same files
    torch.backends.mha.set_fastpath_enabled(False)
    logging.disable(logging.INFO)  # the quantisers name every node
    for name in sys.argv[1:] or MADE:
        print(name)
        root = FIXTURES / name
        shutil.rmtree(root, ignore_errors=True)
        root.mkdir(parents=True)
        original = MADE[name](root)
        directory.write_json(root / "golden.json", measured(root, original))
        size = sum(path.stat().st_size for path in root.rglob("*") if path.is_file())
        print(f"  {size // 1024} KiB")
        assert size < SIZE_MAX, f"{name} has {size} bytes"


if __name__ == "__main__":
    main()
