#!/usr/bin/env python3
"""Tiny models in every layout that clipstream reads: python tools/make_model_fixtures.py [NAME ...], all without arguments.

Run with the environment of tools/requirements-export.txt (`make export-env`). Writes tests/fixtures/models/NAME/. All are
one architecture of OpenCLIP (2 layers of width 16, pictures of 32 pixels, 600 tokens) with seeded random weights, and each
has a golden.json with the vectors of OpenCLIP itself. tests/fixtures/models/README.md says what each is like, and after
which public description.
"""

import copy
import gzip
import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import open_clip
import torch
import transformers
from onnxruntime.quantization import QuantType, quantize_dynamic
from open_clip.tokenizer import HFTokenizer, SimpleTokenizer, default_bpe

import fixture_tokenizer_files
from fixture_towers import Both, Half, LastToken, Picture, Text, WithAttentionOperator
from openclip_export import directory, golden, graphs
from openclip_export.checkpoint import Exported, preprocess_of
from openclip_export.clip_bpe import END, START, tokenizer_json
from openclip_export.random_weights import randomise
from openclip_export.tokenizer import size
from openclip_export.towers import ImageTower, TextTower

FIXTURES = Path(__file__).resolve().parent.parent / "tests" / "fixtures" / "models"
MERGES = 86  # with 2 x 256 bytes and two special tokens: 600 tokens
CONFIG = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 16, "head_width": 8, "patch_size": 8},
    "text_cfg": {"context_length": 77, "vocab_size": 512 + MERGES + 2, "width": 16, "heads": 2, "layers": 2},
}


def tiny(name: str, quick_gelu: bool, **text_cfg) -> Exported:
    config = {**CONFIG, "text_cfg": {**CONFIG["text_cfg"], **text_cfg}, "quick_gelu": quick_gelu}
    kind = open_clip.CustomTextCLIP if text_cfg else open_clip.CLIP
    model = kind(**config)
    open_clip.model.set_model_preprocess_cfg(model, {**vars(open_clip.transform.PreprocessCfg()), "size": 32})
    randomise(model, 0)
    model.eval().requires_grad_(False)
    return Exported(f"tiny/{name}", model, config, preprocess_of(model), tokenizer(), "random seed 0")


def tokenizer(context_length: int = 77) -> SimpleTokenizer:
    """OpenCLIP's tokenizer with the first merges of its own list: a smaller vocabulary of the same kind."""
    lines = gzip.open(default_bpe()).read().decode().split("\n")[: 1 + MERGES]
    with tempfile.NamedTemporaryFile(suffix=".txt.gz") as file:
        file.write(gzip.compress("\n".join(lines).encode()))
        file.flush()
        return SimpleTokenizer(file.name, context_length=context_length)


PIXELS = torch.zeros(2, 3, 32, 32)
IDS = torch.ones(2, 77, dtype=torch.int64)
BATCH, SEQUENCE = {0: "batch_size"}, {0: "batch_size", 1: "sequence_length"}
# Optimum names every axis of the pixels, though only the batch is free in what it runs.
OPTIMUM_PIXELS = ("batch_size", "num_channels", "height", "width")


def dynamo(module, inputs: tuple, path: Path, names: tuple, axes: tuple, opset: int = 18, external: bool = False) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with torch.no_grad(), graphs._quiet():
        program = torch.onnx.export(
            module.eval(), inputs, dynamo=True, opset_version=opset, verbose=False,
            input_names=names[0], output_names=names[1], dynamic_shapes=axes,
        )  # fmt: skip
    limit, graphs.INLINE_BYTES_MAX = graphs.INLINE_BYTES_MAX, -1 if external else graphs.INLINE_BYTES_MAX
    graphs.save(program.model, path)
    graphs.INLINE_BYTES_MAX = limit


def traced(module, inputs: tuple, path: Path, names: tuple, axes: dict) -> None:
    """With the exporter of before PyTorch 2.9, operator set 17: what most published graphs were made with."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with torch.no_grad(), graphs._quiet():
        torch.onnx.export(
            module.eval(), inputs, path, dynamo=False, opset_version=17, input_names=names[0], output_names=names[1], dynamic_axes=axes
        )


def with_half_weights(path: Path) -> None:
    """Matrices stored as fp16 and cast when loaded, as Immich's current exports have them."""
    model = onnx.load(path)
    nodes, weights = [], []
    for weight in model.graph.initializer:
        if weight.data_type == onnx.TensorProto.FLOAT and len(weight.dims) >= 2:
            half = onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(weight).astype(np.float16), f"{weight.name}_fp16")
            nodes.append(onnx.helper.make_node("Cast", [half.name], [weight.name], to=onnx.TensorProto.FLOAT))
            weights.append(half)
        else:
            weights.append(weight)
    nodes += model.graph.node
    del model.graph.initializer[:], model.graph.node[:]
    model.graph.initializer.extend(weights), model.graph.node.extend(nodes)
    onnx.save(model, path)


def with_rgb_input(path: Path, mean: list, std: list) -> None:
    """The graph takes `[batch, height, width, 3]` uint8 and normalises by itself, as Immich's current exports do."""
    model = onnx.load(path)
    (pixels,) = model.graph.input
    name, shape = pixels.name, pixels.type.tensor_type
    for node in model.graph.node:
        node.input[:] = [f"{name}_normalised" if i == name else i for i in node.input]
    constants = {"mean": mean, "std": std}
    model.graph.initializer.extend(onnx.numpy_helper.from_array(np.array(v, np.float32) * 255, n) for n, v in constants.items())
    steps = [
        onnx.helper.make_node("Cast", [name], [f"{name}_f32"], to=onnx.TensorProto.FLOAT),
        onnx.helper.make_node("Sub", [f"{name}_f32", "mean"], [f"{name}_shifted"]),
        onnx.helper.make_node("Div", [f"{name}_shifted", "std"], [f"{name}_scaled"]),
        onnx.helper.make_node("Transpose", [f"{name}_scaled"], [f"{name}_normalised"], perm=[0, 3, 1, 2]),
    ]
    nodes = steps + list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    batch, channels, height, width = (copy.deepcopy(axis) for axis in shape.shape.dim)
    del shape.shape.dim[:]
    shape.shape.dim.extend([batch, height, width, channels])
    shape.elem_type = onnx.TensorProto.UINT8
    onnx.save(model, path)


def rename_axes(path: Path, name: str, axes: tuple) -> None:
    model = onnx.load(path)
    for value in model.graph.input:
        if value.name == name:
            for axis, dim in zip(axes, value.type.tensor_type.shape.dim):
                dim.dim_param = axis
    onnx.save(model, path)


def quantised(source: Path, path: Path) -> None:
    """As transformers.js's conversion script: all operators that can be, embeddings and convolution too."""
    with graphs._quiet():
        quantize_dynamic(source, path, weight_type=QuantType.QUInt8, extra_options={"EnableSubgraph": True, "MatMulConstBOnly": True})


def ours(name: str, quick_gelu: bool, precisions: tuple = graphs.PRECISIONS) -> None:
    directory.write(tiny(name, quick_gelu), FIXTURES / name, precisions, replace=True, say=lambda line: print(f"  {line}"))


def open_clip_files(root: Path, exported: Exported) -> None:
    directory.write_json(root / "config.json", exported.config)
    directory.write_json(root / "visual" / "preprocess_cfg.json", exported.preprocess)
    directory.write_json(root / "textual" / "tokenizer.json", tokenizer_json(exported.tokenizer))
    directory.write_json(root / "textual" / "tokenizer_config.json", tokenizer_config())


def tokenizer_config() -> dict:
    return {"bos_token": START, "eos_token": END, "unk_token": END, "pad_token": END, "model_max_length": 77, "tokenizer_class": "CLIPTokenizer"}


def preprocessor_config(exported: Exported) -> dict:
    """A `CLIPImageProcessor` that means the same as OpenCLIP's preprocessing."""
    return {
        "crop_size": {"height": 32, "width": 32}, "do_center_crop": True, "do_convert_rgb": True, "do_normalize": True, "do_rescale": True,
        "do_resize": True, "feature_extractor_type": "CLIPFeatureExtractor", "image_mean": list(exported.preprocess["mean"]),
        "image_processor_type": "CLIPImageProcessor", "image_std": list(exported.preprocess["std"]), "resample": 3,
        "rescale_factor": 0.00392156862745098, "size": {"shortest_edge": 32},
    }  # fmt: skip


def hugging_face_config(exported: Exported) -> dict:
    activation = exported.activation("text")
    return {
        "architectures": ["CLIPModel"], "model_type": "clip", "projection_dim": 16,
        "text_config": {
            "model_type": "clip_text_model", "hidden_act": activation, "hidden_size": 16, "intermediate_size": 64, "max_position_embeddings": 77,
            "num_attention_heads": 2, "num_hidden_layers": 2, "vocab_size": CONFIG["text_cfg"]["vocab_size"],
        },
        "vision_config": {
            "model_type": "clip_vision_model", "hidden_act": activation, "hidden_size": 16, "intermediate_size": 64, "image_size": 32,
            "num_attention_heads": 2, "num_hidden_layers": 2, "patch_size": 8,
        },
    }  # fmt: skip


def immich_traced(root: Path) -> Exported:
    exported = tiny(root.name, True)
    names = lambda kind: ([kind], [f"{kind}_embedding"])
    traced(ImageTower(exported.model), (PIXELS[:1],), root / "visual" / "model.onnx", names("image"), {"image": BATCH})
    traced(TextTower(exported.model), (IDS[:1].int(),), root / "textual" / "model.onnx", names("text"), {"text": BATCH})
    open_clip_files(root, exported)
    return exported


def immich_fixed_batch(root: Path) -> Exported:
    exported = tiny(root.name, True)
    traced(ImageTower(exported.model), (PIXELS[:1],), root / "visual" / "model.onnx", (["image"], ["embedding"]), {})
    traced(TextTower(exported.model), (IDS[:1].int(),), root / "textual" / "model.onnx", (["text"], ["embedding"]), {})
    open_clip_files(root, exported)
    return exported


def immich_attention(root: Path) -> Exported:
    exported = tiny(root.name, True)
    torch.backends.mha.set_fastpath_enabled(False)
    image, text = root / "visual" / "model.onnx", root / "textual" / "model.onnx"
    dynamo(WithAttentionOperator(exported, "encode_image"), (PIXELS,), image, (["image"], ["image_embedding"]), ({0: "batch"},), opset=23)
    dynamo(WithAttentionOperator(exported, "encode_text"), (IDS.int(),), text, (["text"], ["text_embedding"]), ({0: "batch"},), opset=23)
    with_half_weights(image), with_half_weights(text)
    with_rgb_input(image, exported.preprocess["mean"], exported.preprocess["std"])
    open_clip_files(root, exported)
    return exported


def fastembed(root: Path) -> Exported:
    exported = tiny(root.name, True)
    vision, text = root / "clip-ViT-B-32-vision", root / "clip-ViT-B-32-text"
    outputs = {"last_hidden_state": BATCH}
    traced(
        Picture(exported, hidden=True), (PIXELS,), vision / "model.onnx",
        (["pixel_values"], ["image_embeds", "last_hidden_state"]), {"pixel_values": BATCH, "image_embeds": BATCH, **outputs},
    )  # fmt: skip
    dynamo(
        Text(exported, hidden=True), (IDS[:, :9], IDS[:, :9]), text / "model.onnx",
        (["input_ids", "attention_mask"], ["text_embeds", "last_hidden_state"]), (SEQUENCE, SEQUENCE),
    )  # fmt: skip
    directory.write_json(vision / "preprocessor_config.json", preprocessor_config(exported))
    directory.write_json(vision / "config.json", hugging_face_config(exported)["vision_config"])
    directory.write_json(text / "config.json", hugging_face_config(exported)["text_config"])
    directory.write_json(text / "tokenizer.json", tokenizer_json(exported.tokenizer))
    directory.write_json(text / "tokenizer_config.json", tokenizer_config())
    return exported


def optimum_files(root: Path, exported: Exported) -> None:
    directory.write_json(root / "config.json", hugging_face_config(exported))
    directory.write_json(root / "preprocessor_config.json", preprocessor_config(exported))
    directory.write_json(root / "tokenizer.json", tokenizer_json(exported.tokenizer))
    directory.write_json(root / "tokenizer_config.json", tokenizer_config())


def xenova_split(root: Path) -> Exported:
    exported = tiny(root.name, True)
    onnx_files = root / "onnx"
    for suffix, kind in (("", lambda tower: tower), ("_fp16", Half)):
        picture, text = kind(Picture(exported)), kind(Text(exported))
        vision = onnx_files / f"vision_model{suffix}.onnx"
        dynamo(picture, (PIXELS,), vision, (["pixel_values"], ["image_embeds"]), (BATCH,))
        rename_axes(vision, "pixel_values", OPTIMUM_PIXELS)
        dynamo(text, (IDS[:, :9],), onnx_files / f"text_model{suffix}.onnx", (["input_ids"], ["text_embeds"]), (SEQUENCE,))
    for kind in ("vision", "text"):
        quantised(onnx_files / f"{kind}_model.onnx", onnx_files / f"{kind}_model_quantized.onnx")
    optimum_files(root, exported)
    return exported


def xenova_combined(root: Path) -> Exported:
    exported = tiny(root.name, True)
    path = root / "onnx" / "model.onnx"
    dynamo(
        Both(exported), (IDS[:, :9], torch.zeros(3, 3, 32, 32), IDS[:, :9]), path,
        (["input_ids", "pixel_values", "attention_mask"], ["logits_per_image", "logits_per_text", "text_embeds", "image_embeds"]),
        ({0: "text_batch_size", 1: "sequence_length"}, {0: "image_batch_size"}, {0: "text_batch_size", 1: "sequence_length"}),
    )  # fmt: skip
    rename_axes(path, "pixel_values", ("image_batch_size", *OPTIMUM_PIXELS[1:]))
    quantised(path, path.with_name("model_quantized.onnx"))
    optimum_files(root, exported)
    return exported


def open_clip_inference(root: Path) -> Exported:
    exported = tiny(root.name, True)
    image, text = root / "visual.onnx", root / "text.onnx"
    dynamo(ImageTower(exported.model), (PIXELS,), image, (["pixel_values"], ["image_embeddings"]), (BATCH,), external=True)
    dynamo(TextTower(exported.model), (IDS,), text, (["input_ids"], ["text_embeddings"]), (BATCH,), external=True)
    preprocess = {key: exported.preprocess[key] for key in ("mean", "std", "interpolation", "resize_mode")}
    directory.write_json(root / "open_clip_config.json", {"model_cfg": exported.config, "preprocess_cfg": preprocess})
    scale = float(exported.model.logit_scale.exp())
    directory.write_json(
        root / "model_config.json",
        {
            "logit_scale": scale, "logit_bias": 0.0, "activation_function": "softmax", "tokenizer_needs_lowercase": False, "pad_id": 0,
            "vocab_size": CONFIG["text_cfg"]["vocab_size"],
        },
    )  # fmt: skip
    directory.write_json(root / "tokenizer.json", tokenizer_json(exported.tokenizer))
    directory.write_json(root / "tokenizer_config.json", tokenizer_config())
    return exported


def clip_as_service(root: Path) -> Exported:
    exported = tiny(root.name, True)
    dynamo(Picture(exported), (PIXELS,), root / "visual.onnx", (["pixel_values"], ["output"]), (BATCH,))
    ids = IDS.int()
    # Two tensors: the exporter makes one input of the same one twice.
    dynamo(Text(exported), (ids, ids.clone()), root / "textual.onnx", (["input_ids", "attention_mask"], ["output"]), (BATCH, BATCH))
    directory.write_json(root / "preprocess_cfg.json", exported.preprocess)
    directory.write_json(root / "tokenizer.json", tokenizer_json(exported.tokenizer))
    return exported


def fp16_io(root: Path) -> Exported:
    exported = tiny(root.name, True)
    image, text = Half(ImageTower(exported.model), io=True), Half(TextTower(exported.model), io=True)
    dynamo(image, (PIXELS.half(),), root / "visual" / "model.onnx", (["image"], ["image_embedding"]), (BATCH,))
    dynamo(text, (IDS,), root / "textual" / "model.onnx", (["text"], ["text_embedding"]), (BATCH,))
    open_clip_files(root, exported)
    return exported


def with_tokenizer(root: Path, kind: str, text_cfg: dict, **config) -> None:
    """Our layout of a model whose tokenizer is one of tests/fixtures/tokenizers."""
    with tempfile.TemporaryDirectory() as folder:
        fixture_tokenizer_files.write(kind, Path(folder))
        texts = HFTokenizer(folder, context_length=text_cfg["context_length"], **text_cfg.get("tokenizer_kwargs", {}))
        config = {**CONFIG, "text_cfg": {**text_cfg, "hf_tokenizer_name": f"fixtures/{kind}"}, "quick_gelu": False, **config}
        built = copy.deepcopy(config)
        if "hf_model_name" in text_cfg:
            transformers.RobertaConfig(
                vocab_size=size(texts), hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32, max_position_embeddings=80,
                type_vocab_size=1, layer_norm_eps=1e-5, pad_token_id=1,
            ).save_pretrained(folder)  # fmt: skip
            built["text_cfg"] |= {"hf_model_name": folder, "hf_model_pretrained": False}
        else:
            config["text_cfg"]["vocab_size"] = built["text_cfg"]["vocab_size"] = size(texts)
        write_own(root, open_clip.CustomTextCLIP(**built), config, texts)


def coca(root: Path) -> None:
    """Our layout of a CoCa model: a class token behind the text, attention over the picture's tokens."""
    config = copy.deepcopy(CONFIG) | {"quick_gelu": False}
    config["vision_cfg"] |= {"attentional_pool": True, "attn_pooler_heads": 2, "output_tokens": True}
    config["text_cfg"] |= {"context_length": 76, "embed_cls": True, "output_tokens": True}
    model = open_clip.CoCa(**config, multimodal_cfg={**CONFIG["text_cfg"], "context_length": 76, "layers": 1})
    write_own(root, model, config, tokenizer(76))


def write_own(root: Path, model: torch.nn.Module, config: dict, texts) -> None:
    open_clip.model.set_model_preprocess_cfg(model, {**vars(open_clip.transform.PreprocessCfg()), "size": 32})
    randomise(model, 0)
    model.eval().requires_grad_(False)
    exported = Exported(f"tiny/{root.name}", model, config, preprocess_of(model), texts, "random seed 0")
    directory.write(exported, root, ("fp32",), replace=True, say=lambda line: print(f"  {line}"))


ROBERTA = {"context_length": 77, "hf_model_name": "fixtures/roberta", "hf_pooler_type": "mean_pooler", "hf_proj_type": "mlp"}
SIGLIP2 = {
    "context_length": 64, "tokenizer_kwargs": {"clean": "canonicalize"}, "width": 16, "heads": 2, "layers": 2, "no_causal_mask": True, "proj_bias": True,
    "pool_type": "last", "norm_kwargs": {"eps": 1e-6}, "act_kwargs": {"approximate": "tanh"},
}  # fmt: skip


def external_data(root: Path) -> None:
    limit, graphs.INLINE_BYTES_MAX = graphs.INLINE_BYTES_MAX, -1
    ours(root.name, True, ("fp32",))
    graphs.INLINE_BYTES_MAX = limit


def gelu_trap(root: Path) -> Exported:
    """Weights and golden vectors of a QuickGELU checkpoint, graphs that compute GELU."""
    exported, wrong = tiny(root.name, True), tiny(root.name, False)
    for part in ("visual", "textual"):
        (root / part).mkdir(parents=True)
    graphs.export_image(wrong.model, 32, root / "visual" / "model.onnx")
    graphs.export_text(wrong.model, 77, root / "textual" / "model.onnx")
    open_clip_files(root, exported)
    return exported


def siglip_text(root: Path) -> Exported:
    exported = tiny(root.name, False, no_causal_mask=True, pool_type="last")
    for part in ("visual", "textual"):
        (root / part).mkdir(parents=True)
    graphs.export_image(exported.model, 32, root / "visual" / "model.onnx")
    dynamo(LastToken(exported.model), (IDS[:, :9],), root / "textual" / "model.onnx", (["text"], ["text_embedding"]), (SEQUENCE,))
    open_clip_files(root, exported)
    return exported


# Own exports write everything themselves; the others return what their golden vectors are of.
MADE = {
    "ours-quick-gelu": lambda root: ours(root.name, True),
    "ours-gelu": lambda root: ours(root.name, False),
    "ours-external-data": external_data,
    "ours-coca": coca,
    "ours-roberta": lambda root: with_tokenizer(root, "byte_bpe", ROBERTA),
    "ours-siglip2": lambda root: with_tokenizer(root, "gemma", SIGLIP2, init_logit_bias=-10),
    "gelu-trap": gelu_trap,
    "siglip-text": siglip_text,
    "fp16-io": fp16_io,
    "immich-traced": immich_traced,
    "immich-fixed-batch": immich_fixed_batch,
    "immich-attention": immich_attention,
    "fastembed": fastembed,
    "xenova-split": xenova_split,
    "xenova-combined": xenova_combined,
    "open-clip-inference": open_clip_inference,
    "clip-as-service": clip_as_service,
}
# Graphs of which model.onnx itself has fp16 weights or computes in fp16.
HALF_INSIDE = ("fp16-io", "immich-attention")


def cosines(root: Path, exported: Exported, wanted: dict) -> dict:
    """The smallest cosine of each graph to OpenCLIP's vectors, run one input at a time at the whole context length."""
    pixels, ids = golden.preprocess(exported, list(golden.pictures().values())), exported.tokenizer(list(golden.TEXTS))
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    found = {}
    for path in sorted(root.rglob("*.onnx")):
        session = onnxruntime.InferenceSession(path, options)
        inputs, outputs = session.get_inputs(), [output.name for output in session.get_outputs()]
        cosine = 1.0
        for kind, axes in (("image", 4), ("text", 2)):
            if not any(len(given.shape) == axes for given in inputs):
                continue
            output = next((name for name in outputs if name.startswith(kind)), outputs[0])
            for at, golden_line in enumerate(wanted[f"{kind}s"]):
                (vector,) = session.run([output], {given.name: feed(given, exported, pixels[at : at + 1], ids[at : at + 1]) for given in inputs})
                vector = vector[0].astype(np.float64)
                cosine = min(cosine, float(vector @ np.array(golden_line["vector"]) / np.linalg.norm(vector)))
        found[path.relative_to(root).as_posix()] = cosine
    return found


def feed(given, exported: Exported, pixels: torch.Tensor, ids: torch.Tensor) -> np.ndarray:
    if given.type == "tensor(uint8)":
        mean, std = (torch.tensor(exported.preprocess[key])[:, None, None] for key in ("mean", "std"))
        return ((pixels * std + mean) * 255).round().permute(0, 2, 3, 1).numpy().astype(np.uint8)
    values = torch.ones_like(ids) if "mask" in given.name else pixels if len(given.shape) == 4 else ids
    types = {"tensor(float16)": np.float16, "tensor(float)": np.float32, "tensor(int32)": np.int32, "tensor(int64)": np.int64}
    return values.numpy().astype(types[given.type])


def main() -> None:
    torch.set_num_threads(1)  # sums in one order, so that a second run writes the same files
    for name in sys.argv[1:] or MADE:
        print(name)
        root = FIXTURES / name
        shutil.rmtree(root, ignore_errors=True)
        exported = MADE[name](root)
        if exported is not None:
            content = golden.make(exported, {})
            found = cosines(root, exported, content)
            for path, cosine in found.items():
                print(f"  {path}: {cosine:.8f}")
            for path, cosine in found.items():
                # By the file's name, which is what a reader chooses by; some have halves inside all the same.
                precision = "int8" if "quantized" in path else "fp16" if "fp16" in path else "fp32"
                kept = directory.floor("fp16" if name in HALF_INSIDE else precision, cosine)
                content["cosine_min"][precision] = min(kept, content["cosine_min"].get(precision, 1.0))
            if name == "gelu-trap":
                content["cosine_min"] = dict.fromkeys(["fp32"], golden.COSINE_MIN["fp32"])
                assert max(found.values()) < 0.9999, "the trap does not show"
            directory.write_json(root / "golden.json", content)
        size = sum(path.stat().st_size for path in root.rglob("*") if path.is_file())
        print(f"  {size // 1024} KiB")
        assert size < 450 * 1024, f"{name} has {size} bytes"


if __name__ == "__main__":
    main()
