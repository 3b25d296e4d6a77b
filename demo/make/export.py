"""checkpoint.pt -> the model directory's two graphs: python export.py OUT

Writes OUT/visual/model.onnx and OUT/textual/model.onnx. Weights are stored as float16 and cast at load, which halves the files;
batch and text length stay free. Each graph is compared with PyTorch. Needs torch, onnx, onnxscript, onnxruntime, open_clip_torch.
"""

import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import open_clip
import torch
from onnx import TensorProto, helper, numpy_helper

from model import CONTEXT_LENGTH, IMAGE_SIZE, ImageTower, TextTower

SMALL_ELEMENTS = 1024  # weights below this size stay float32: nothing is gained there


def store_weights_as_f16(path):
    model = onnx.load(path)
    graph, weights, casts = model.graph, [], []
    for weight in graph.initializer:
        if weight.data_type == TensorProto.FLOAT and np.prod(weight.dims) >= SMALL_ELEMENTS:
            half = numpy_helper.from_array(numpy_helper.to_array(weight).astype(np.float16), weight.name + "_f16")
            weights.append(half)
            casts.append(helper.make_node("Cast", [half.name], [weight.name], to=TensorProto.FLOAT, name="cast_" + weight.name))
        else:
            weights.append(weight)
    nodes = casts + list(graph.node)
    del graph.initializer[:], graph.node[:]
    graph.initializer.extend(weights), graph.node.extend(nodes)
    for node in graph.node:
        del node.metadata_props[:]  # the exporter's stack traces
    onnx.checker.check_model(model)
    onnx.save(model, path)


def run_onnx(path, values):
    session = onnxruntime.InferenceSession(path)
    return session.run(None, {session.get_inputs()[0].name: values})[0]


def export(tower, example, check, path, names, dynamic_shapes):
    path.parent.mkdir(parents=True, exist_ok=True)
    path = str(path)
    torch.onnx.export(
        tower, (example,), path, input_names=names[:1], output_names=names[1:], dynamic_shapes=dynamic_shapes,
        dynamo=True, opset_version=18, external_data=False, verbose=False,
    )  # fmt: skip
    with torch.no_grad():
        want = tower(check).numpy()
    assert np.abs(run_onnx(path, check.numpy()) - want).max() < 1e-5
    store_weights_as_f16(path)
    cosine = (run_onnx(path, check.numpy()) * want).sum(1).min()
    assert cosine > 0.9999, cosine
    print(path, Path(path).stat().st_size, "bytes, smallest cosine to PyTorch", cosine)


def main(out):
    checkpoint, image_tower, text_tower = torch.load("checkpoint.pt"), ImageTower(), TextTower()
    image_tower.load_state_dict(checkpoint["image"]), text_tower.load_state_dict(checkpoint["text"])
    image_tower.eval(), text_tower.eval()
    tokenizer = open_clip.get_tokenizer("ViT-B-32")
    batch = torch.export.Dim("batch", min=1, max=4096)
    sequence = torch.export.Dim("sequence", min=2, max=CONTEXT_LENGTH)
    export(
        image_tower, torch.randn(3, 3, IMAGE_SIZE, IMAGE_SIZE), torch.randn(5, 3, IMAGE_SIZE, IMAGE_SIZE),
        out / "visual" / "model.onnx", ["image", "image_embedding"], {"pixels": {0: batch}},
    )  # fmt: skip
    export(
        # An example shorter than the context, so that no length is taken for a constant.
        text_tower, tokenizer(["a red heart", "a dog"])[:, :9],
        tokenizer(["a red heart", "dog", "a photo of a smiling face with sunglasses"]),
        out / "textual" / "model.onnx", ["text", "text_embedding"], {"ids": {0: batch, 1: sequence}},
    )  # fmt: skip


if __name__ == "__main__":
    main(Path(sys.argv[1]))
