"""A model directory, checked against OpenCLIP before it appears under its name.

It is written beside its place and renamed once everything is right, so that a start never loads half of one.
"""

import json
import math
import shutil
import tempfile
from pathlib import Path

import numpy as np
import open_clip
import torch

from . import ExportError, golden, graphs
from .checkpoint import Exported, sha256
from .tokenizer import tokenizer_json

# Below these a precision is no stand-in for the model: an overflow, or weights that quantisation destroys.
USELESS_BELOW = {"fp32": golden.COSINE_MIN["fp32"], "fp16": 0.99, "int8": 0.9}


def write(exported: Exported, output: Path, precisions: tuple = ("fp32",), replace: bool = False, say=print) -> dict:
    """Exports, checks and writes; returns the smallest cosine of each precision."""
    if output.exists() and not replace:
        raise ExportError(f"{output} exists already; next: --force replaces it, --output DIR writes elsewhere")
    tower = graphs.tower_or_error(exported.model)
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{output.name}.", suffix=".partial", dir=output.parent))
    except OSError as error:
        raise ExportError(f"{output} cannot be written: {error}") from error
    try:
        found = _fill(exported, temporary, precisions, tower, say)
        temporary.chmod(0o755)  # mkdtemp's 0700 would lock out the service's user
        if output.exists():
            shutil.rmtree(output)
        temporary.rename(output)
    except OSError as error:
        raise ExportError(f"{output} cannot be written: {error}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return found


def _fill(exported: Exported, root: Path, precisions: tuple, tower, say) -> dict:
    for part in ("visual", "textual"):
        (root / part).mkdir()
    write_json(root / "config.json", exported.config)
    write_json(root / "visual" / "preprocess_cfg.json", exported.preprocess)
    write_json(root / "textual" / "tokenizer.json", tokenizer_json(exported.tokenizer))
    found = {}
    for precision in graphs.PRECISIONS:
        if precision not in precisions and not (precision == "fp32" and "int8" in precisions):
            continue
        paths = {part: root / part / graphs.file_name(precision) for part in ("visual", "textual")}
        if precision == "int8":
            for path in paths.values():
                graphs.quantise(path.with_name(graphs.file_name("fp32")), path)
        else:
            graphs.export_image(exported.model, exported.preprocess["size"], paths["visual"], half=precision == "fp16")
            graphs.export_text(exported.model, paths["textual"], half=precision == "fp16")
        found[precision] = check(exported, paths, tower.any_length)
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
    write_json(root / "clipstream.json", manifest(exported, root, list(found)))
    return found


def floor(precision: str, cosine: float) -> float:
    """The usual floor, or where a checkpoint keeps less: twice the distance that was measured, in round numbers."""
    usual = golden.COSINE_MIN[precision]
    return usual if cosine >= (1 + usual) / 2 else min(usual, math.floor((1 - 2 * (1 - cosine)) * 1000) / 1000)


def check(exported: Exported, paths: dict, any_length: bool) -> float:
    """The smallest cosine between the graphs and OpenCLIP: golden pictures and texts, batches of 1 and 3, several lengths."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    try:
        sessions = {part: onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"]) for part, path in paths.items()}
    except Exception as error:  # onnxruntime's own classes are private
        raise ExportError(f"ONNX Runtime {onnxruntime.__version__} does not load the graph: {error}") from error

    def cosine(part, values, wanted):
        (got,) = sessions[part].run(None, {sessions[part].get_inputs()[0].name: values.numpy()})
        return float((got.astype(np.float64) * wanted).sum(-1).min()) if got.shape == wanted.shape else math.nan

    pixels = golden.preprocess(exported, list(golden.pictures().values()))
    wanted = golden.vectors(exported, pixels=pixels)
    found = [cosine("visual", pixels, wanted), cosine("visual", pixels[:1], wanted[:1])]
    ids = exported.tokenizer([*golden.TEXTS, ""])
    wanted = golden.vectors(exported, ids=ids)
    found += [cosine("textual", ids[:3], wanted[:3])]
    for row, vector in zip(ids, wanted):
        length = len(golden.trimmed(exported, row)) if any_length else exported.context_length
        found.append(cosine("textual", row[None, :length], vector[None]))
    return math.nan if any(map(math.isnan, found)) else min(found)


def manifest(exported: Exported, root: Path, precisions: list) -> dict:
    """The content of clipstream.json: what this is, what made it, and the hash of every file."""
    files = sorted(path for path in root.rglob("*") if path.is_file() and path.name != "clipstream.json")
    size = exported.preprocess["size"]
    return {
        "format": 1,
        "model": exported.id,
        "dimension": exported.config["embed_dim"],
        "image_size": size if isinstance(size, int) or size[0] != size[1] else size[0],
        "context_length": exported.context_length,
        "activation": exported.activation,
        "weights": exported.weights,
        "opset": graphs.OPSET,
        "precisions": precisions,
        "exported_with": {"open_clip_torch": open_clip.__version__, "torch": torch.__version__.split("+")[0]},
        "files": {path.relative_to(root).as_posix(): {"sha256": sha256(path), "bytes": path.stat().st_size} for path in files},
    }


def write_json(path: Path, content: dict) -> None:
    # Vocabularies and vectors are long lists that nobody reads; the rest is short.
    text = json.dumps(content, ensure_ascii=False, indent=None if path.name in ("tokenizer.json", "golden.json") else 2)
    path.write_text(text + "\n", encoding="utf-8")
