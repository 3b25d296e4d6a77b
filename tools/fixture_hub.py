"""What make_hub_fixtures.py knows of every model: weights, tokenizers, golden vectors, and how close graphs come to them."""

import base64
import json
import math
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import onnxruntime
import open_clip
import torch
from open_clip.tokenizer import HFTokenizer
from open_clip.transform import PreprocessCfg

from fixture_hub_towers import unit
from fixture_texts import PLAIN
from fixture_tokenizer_texts import LANGUAGES
from openclip_export import directory, golden

# Latin letters alone, so that a small vocabulary has whole words.
LINES = [line for line in (PLAIN + "|" + LANGUAGES).replace("\n", "|").split("|") if line.isascii()] * 4


@dataclass
class Original:
    """What golden vectors are of."""

    id: str
    preprocess: dict  # a PreprocessCfg
    image: object  # pixels to vectors
    text: object  # padded ids to vectors
    rows: object  # texts to padded ids, as OpenCLIP's tokenizer has them
    padding: int
    made_with: str = f"OpenCLIP {open_clip.__version__}"


def preprocess(interpolation="bicubic", resize_mode="shortest", **constants) -> dict:
    return asdict(PreprocessCfg(size=(32, 32), interpolation=interpolation, resize_mode=resize_mode, **constants))


def seeded(module: torch.nn.Module, seed: int) -> torch.nn.Module:
    """Weights whose vectors depend on the input, norms and biases included, so that a forgotten one shows."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in sorted(module.named_parameters()):
            noise = torch.randn(weight.shape, generator=generator)
            if weight.ndim == 0:
                continue
            if weight.ndim == 1:
                weight.copy_(noise * 0.1 + (1.0 if name.endswith("weight") else 0.0))
            elif "position" in name or "pos_embed" in name:
                weight.copy_(noise * 0.5)
            elif "embeddings" in name or "token_embedding" in name:
                weight.copy_(noise)
            else:
                weight.copy_(noise * 1.5 * math.prod(weight.shape[1:]) ** -0.5)
    return module.eval().requires_grad_(False)


class Texts:
    """A tokenizer of Hugging Face's files, trained here, and OpenCLIP's ids with it."""

    def __init__(self, kind, vocab_size: int, context_length: int, **arguments):
        with tempfile.TemporaryDirectory() as work:
            saved = Path(work) / "saved"
            kind(work, vocab_size=vocab_size, lines=LINES).save_pretrained(saved)
            self.files = {path.name: json.loads(path.read_text()) for path in sorted(saved.glob("*.json"))}
            self.rows = HFTokenizer(str(saved), context_length=context_length, **arguments)
        for name in ("name_or_path", "vocab_file", "tokenizer_file"):
            self.files["tokenizer_config.json"].pop(name, None)
        self.padding = self.rows.tokenizer.pad_token_id
        self.size = len(self.rows.tokenizer)

    def write(self, folder: Path, names=("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        for name in names:
            directory.write_json(folder / name, self.files[name])


def vectors(original: Original) -> dict:
    """The content of golden.json."""
    encoded = golden.pictures()
    pixels = golden.preprocess(original, list(encoded.values()))
    ids = original.rows(list(golden.TEXTS))
    with torch.no_grad():
        texts, images = unit(original.text(ids)).numpy(), unit(original.image(pixels)).numpy()
    for found in (texts, images):
        cosines = found @ found.T - np.eye(len(found))
        # Pixels that are not normalised differ little.
        assert cosines.max() < 0.999, f"{original.id}: different inputs have like vectors: {cosines.max()}"

    def trimmed(row):
        row = row.tolist()
        while row[-1] == original.padding:
            row.pop()
        return row

    numbers = lambda vector: [float(f"{value:.9g}") for value in vector]
    return {
        "format": 1,
        "model": original.id,
        "made_with": f"{original.made_with}, PyTorch {torch.__version__.split('+')[0]}, fp32",
        "cosine_min": {},
        "texts": [{"text": t, "tokens": trimmed(row), "vector": numbers(v)} for t, row, v in zip(golden.TEXTS, ids, texts)],
        "images": [
            {"name": name, "data": base64.b64encode(data).decode(), "vector": numbers(v)} for (name, data), v in zip(encoded.items(), images)
        ],
    }


def cosines(root: Path, original: Original, content: dict) -> dict:
    """The smallest cosine of each graph in ONNX Runtime to the golden vectors, one input at a time, at the whole context length."""
    pixels, ids = golden.preprocess(original, list(golden.pictures().values())), original.rows(list(golden.TEXTS))
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    found = {}
    for path in sorted(root.rglob("*.onnx")):
        if path.parent != root and (path.parent / "golden.json").exists():
            continue  # a model of its own
        session = onnxruntime.InferenceSession(path, options)
        inputs, outputs = session.get_inputs(), session.get_outputs()
        vector_of = lambda kind: next(o.name for o in outputs if o.name.startswith(f"{kind}_embed") or o.name in ("pooler_output", "embedding"))
        cosine = 1.0
        for kind, axes in (("image", 4), ("text", 2)):
            if not any(len(given.shape) == axes for given in inputs):
                continue
            for at, line in enumerate(content[f"{kind}s"]):
                feeds = {given.name: feed(given, original, pixels[at : at + 1], ids[at : at + 1]) for given in inputs}
                (vector,) = session.run([vector_of(kind)], feeds)
                vector, wanted = vector[0].astype(np.float64), np.array(line["vector"])
                cosine = min(cosine, float(vector @ wanted / np.linalg.norm(vector)))
        found[path.relative_to(root).as_posix()] = cosine
    return found


def feed(given, original: Original, pixels, ids) -> np.ndarray:
    values = (ids != original.padding) if "mask" in given.name else pixels if len(given.shape) == 4 else ids
    types = {"tensor(float16)": np.float16, "tensor(float)": np.float32, "tensor(int32)": np.int32, "tensor(int64)": np.int64}
    return values.numpy().astype(types[given.type])


def precision_of(path: str) -> str:
    name = path.rsplit("/", 1)[-1].removesuffix(".onnx")
    for ends, precision in (("_fp16", "fp16"), ("_int8", "int8"), ("_uint8", "int8"), ("_quantized", "int8"), ("_q4", "int4"), ("_bnb4", "int4"), ("_q4f16", "int4")):
        if name.endswith(ends):
            return precision
    return "fp32"


def floor(precision: str, cosine: float) -> float:
    """As `directory.floor`, and of 4 bits what src/model/golden.rs has for them."""
    usual = {**golden.COSINE_MIN, "int4": 0.95}[precision]
    return usual if cosine >= (1 + usual) / 2 else min(usual, math.floor((1 - 2 * (1 - cosine)) * 1000) / 1000)


def measured(root: Path, original: Original) -> dict:
    content = vectors(original)
    for path, cosine in cosines(root, original, content).items():
        print(f"  {path}: {cosine:.8f}")
        precision = precision_of(path)
        kept = floor(precision, cosine)
        content["cosine_min"][precision] = min(kept, content["cosine_min"].get(precision, 1.0))
    return content
