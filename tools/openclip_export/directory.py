"""A model directory, checked against OpenCLIP before it appears under its name.

It is written beside its place and renamed once everything is right, so that a start never loads half of one.
"""

import json
import math
import shutil
import tempfile
from pathlib import Path

import numpy as np
import onnxruntime
import open_clip
import torch

from . import ExportError, golden, graphs, tokenizer, widened
from .checkpoint import Exported, sha256
from .towers import TextTower

# Below these a precision is no stand-in for the model: an overflow, or weights that quantisation destroys.
USELESS_BELOW = {"fp32": golden.COSINE_MIN["fp32"], "fp16": 0.99, "int8": 0.995}


def write(exported: Exported, output: Path, precisions: tuple = ("fp32",), replace: bool = False, say=print) -> dict:
    """Exports, checks and writes; returns the smallest cosine of each precision."""
    if output.exists() and not replace:
        raise ExportError(f"{output} exists already; next: --force replaces it, --output DIR writes elsewhere")
    if output.exists() and not is_model(output):
        raise ExportError(f"{output} has neither clipstream.json nor a graph, and is not replaced; next: remove it, or --output DIR")
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{output.name}.", suffix=".partial", dir=output.parent))
    except OSError as error:
        raise ExportError(f"{output} cannot be written: {error}") from error
    try:
        found = _fill(exported, temporary, precisions, say)
        temporary.chmod(0o755)  # mkdtemp's 0700 would lock out the service's user
        _put(temporary, output)
    except OSError as error:
        raise ExportError(f"{output} cannot be written: {error}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return found


def is_model(directory: Path) -> bool:
    """Whether a directory is a model's, whole or not, or empty. One with models in it is none."""
    if not directory.is_dir():
        return False
    graphs_in = (directory, *(directory / name for name in ("visual", "textual", "onnx", "vision", "text")))
    has_graph = any(next(folder.glob("*.onnx"), None) for folder in graphs_in)
    return has_graph or (directory / "clipstream.json").is_file() or not any(directory.iterdir())


def _put(temporary: Path, output: Path) -> None:
    """Gives the new directory its name; the old one is removed only once that is done, and comes back where it fails."""
    if not output.exists():
        temporary.rename(output)
        return
    old = Path(tempfile.mkdtemp(prefix=f".{output.name}.", suffix=".old", dir=output.parent))
    output.rename(old / output.name)
    try:
        temporary.rename(output)
    except OSError:
        (old / output.name).rename(output)
        old.rmdir()
        raise
    shutil.rmtree(old)


def _fill(exported: Exported, root: Path, precisions: tuple, say) -> dict:
    for part in ("visual", "textual"):
        (root / part).mkdir()
    write_json(root / "config.json", exported.config)
    write_json(root / "visual" / "preprocess_cfg.json", exported.preprocess)
    tokenizer.write(exported.tokenizer, root / "textual")
    found, wide = {}, []
    for precision in graphs.PRECISIONS:
        if precision not in precisions and not (precision == "fp32" and "int8" in precisions):
            continue
        paths = {part: root / part / graphs.file_name(precision) for part in ("visual", "textual")}
        if precision == "int8":
            for path in paths.values():
                graphs.quantise(path.with_name(graphs.file_name("fp32")), path)
        else:
            half = precision == "fp16"
            graphs.export_image(exported.model, exported.preprocess["size"], paths["visual"], half)
            graphs.export_text(exported.model, exported.context_length, paths["textual"], half)
        cosines = check(exported, paths)
        if precision == "fp16":
            wide = [part for part in paths if not cosines[part] >= golden.COSINE_MIN["fp16"] and keeps_better(exported, part, paths, cosines)]
        found[precision] = math.nan if any(map(math.isnan, cosines.values())) else min(cosines.values())
        say(f"{precision}: smallest cosine to OpenCLIP {found[precision]:.8f}")
        if not found[precision] >= USELESS_BELOW[precision]:
            raise ExportError(
                f"the {precision} graphs of {exported.id} give a cosine of {found[precision]:.6f} to OpenCLIP, expected at least"
                f" {USELESS_BELOW[precision]}; next: export without {precision}"
            )
    if "fp32" not in precisions and "int8" in precisions:
        for part in ("visual", "textual"):  # they were made for their int8 graphs alone
            for path in (root / part).glob("model.onnx*"):
                path.unlink()
        del found["fp32"]
    write_json(root / "golden.json", golden.make(exported, {precision: floor(precision, found[precision]) for precision in found}))
    write_json(root / "clipstream.json", manifest(exported, root, list(found), wide))
    return found


def floor(precision: str, cosine: float) -> float:
    """The usual floor, or where a checkpoint keeps less: twice the distance that was measured, in round numbers."""
    usual = golden.COSINE_MIN[precision]
    return usual if cosine >= (1 + usual) / 2 else min(usual, math.floor((1 - 2 * (1 - cosine)) * 1000) / 1000)


def check(exported: Exported, paths: dict) -> dict:
    """The smallest cosine between each tower's graph and OpenCLIP: golden pictures and texts, batches of 1 and 3, several lengths."""
    return {part: check_image(exported, path) if part == "visual" else check_text(exported, path) for part, path in paths.items()}


def check_image(exported: Exported, path: Path) -> float:
    pixels = golden.preprocess(exported, list(golden.pictures().values()))
    wanted = golden.vectors(exported, pixels=pixels)
    return smallest(path, [(pixels, wanted), (pixels[:1], wanted[:1])])


def check_text(exported: Exported, path: Path) -> float:
    texts = [*golden.TEXTS, ""]
    ids = exported.tokenizer(texts)
    wanted = golden.vectors(exported, ids=ids)
    # Where the length is free, each text at its own.
    any_length = TextTower(exported.model, exported.context_length).any_length
    lengths = [len(tokenizer.unpadded(exported.tokenizer, text)) if any_length else exported.context_length for text in texts]
    alone = [(row[None, :length], vector[None]) for row, vector, length in zip(ids, wanted, lengths)]
    return smallest(path, [(ids[:3], wanted[:3]), *alone])


def keeps_better(exported: Exported, part: str, paths: dict, cosines: dict) -> bool:
    """Whether a tower keeps more of the vectors with LayerNorm and softmax in fp32; then its graph is replaced."""
    path = paths[part]
    other = path.with_name(f"wide_{path.name}")
    model = widened.load(path)
    widened.widen(model)
    graphs.save(model, other)
    found = check(exported, {part: other})[part]
    better = found >= USELESS_BELOW["fp16"] and not found <= cosines[part]
    if better:
        # Written once more, since external data is found by its name.
        graphs.save(model, path)
        cosines[part] = found
    for left in other.parent.glob(f"{other.name}*"):
        left.unlink()
    return better


def smallest(path: Path, batches: list) -> float:
    """The smallest cosine of the batches `(values, wanted)`. One graph at a time: a large one takes gigabytes."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's own classes are private
        raise ExportError(f"ONNX Runtime {onnxruntime.__version__} does not load the graph: {error}") from error
    found = []
    for values, wanted in batches:
        (got,) = session.run(None, {session.get_inputs()[0].name: values.numpy()})
        found.append(float((got.astype(np.float64) * wanted).sum(-1).min()) if got.shape == wanted.shape else math.nan)
    return math.nan if any(map(math.isnan, found)) else min(found)


def manifest(exported: Exported, root: Path, precisions: list, wide: list) -> dict:
    """The content of clipstream.json: what this is, what made it, and the hash of every file."""
    files = sorted(path for path in root.rglob("*") if path.is_file() and path.name != "clipstream.json")
    size = exported.preprocess["size"]
    return {
        "format": 1,
        "model": exported.id,
        "dimension": exported.config["embed_dim"],
        "image_size": size if isinstance(size, int) or size[0] != size[1] else size[0],
        "context_length": exported.context_length,
        "image_activation": exported.activation("visual"),
        "text_activation": exported.activation("text"),
        "text": {
            **tokenizer.facts(exported.tokenizer, exported.config),
            "pooling": pooling(exported.config["text_cfg"]),
            "any_length": TextTower(exported.model, exported.context_length).any_length,
        },
        **logits(exported.model),
        "weights": exported.weights,
        "opset": graphs.OPSET,
        "precisions": precisions,
        "fp16_wide": wide,
        "exported_with": {"open_clip_torch": open_clip.__version__, "torch": torch.__version__.split("+")[0]},
        "files": {path.relative_to(root).as_posix(): {"sha256": sha256(path), "bytes": path.stat().st_size} for path in files},
    }


def pooling(text: dict) -> str:
    """Which tokens make a text's vector, in OpenCLIP's words."""
    if text.get("hf_model_name"):
        return text.get("hf_pooler_type", "mean_pooler").removesuffix("_pooler")
    return "class" if text.get("embed_cls") else text.get("pool_type", "argmax")


def logits(model) -> dict:
    """What turns similarities into probabilities: softmax(scale x cosine), or with a bias sigmoid(scale x cosine + bias)."""
    bias = getattr(model, "logit_bias", None)
    return {"logit_scale": float(model.logit_scale.exp()), "logit_bias": None if bias is None else float(bias)}


def write_json(path: Path, content: dict) -> None:
    # Vocabularies and vectors are long lists that nobody reads; the rest is short.
    text = json.dumps(content, ensure_ascii=False, indent=None if path.name in ("tokenizer.json", "golden.json") else 2)
    path.write_text(text + "\n", encoding="utf-8")
