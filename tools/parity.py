#!/usr/bin/env python3
"""Compares `clipstream embed` with OpenCLIP in PyTorch, fp32, for full-size models: make parity.

    tools/parity.py [--clipstream BINARY] [--keep] [VARIANT/CHECKPOINT ...]

Checkpoints cannot be had everywhere, so the weights are random (seed 0, tools/openclip_export/checkpoint.py), in each
checkpoint's own configuration: activation, preprocessing, size. Pictures are those of tests/fixtures/pictures (JPEG, PNG, WebP,
GIF, BMP, TIFF in all their modes) and texts of tests/fixtures/tokens.jsonl. Exports are kept in the user's cache folder and
used again, those above 2 GB only with --keep. Prints a table and, as the last line, a JSON object; ends with 1 where a
cosine is below 0.99999.
"""

import argparse
import hashlib
import json
import logging
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import open_clip
import torch

from openclip_export import ExportError, checkpoint, directory, golden

PROJECT = Path(__file__).resolve().parent.parent
COSINE_MIN = 0.99999
SEED = 0

# One of each family that has CLIP's own tokenizer; both activations, all means, both ways to resize, both interpolations.
MODELS = (
    "ViT-B-32/openai",
    "ViT-B-16/laion2b_s34b_b88k",
    "ViT-L-14/laion2b_s32b_b82k",
    "ViT-L-14-336/openai",
    "ViT-H-14/dfn5b",
    "RN50/openai",
    "convnext_base/laion400m_s13b_b51k",
    "EVA02-B-16/merged2b_s8b_b131k",
    "MobileCLIP2-S0/dfndr2b",
    "PE-Core-T-16-384/meta",
    "ViTamin-S/datacomp1b",
)
# Large models get fewer inputs: the point is the model's configuration, and each input runs in PyTorch too.
INPUTS = {"ViT-B-32": (60, 60), "ViT-B-16": (30, 30), "ViT-L-14": (12, 24), "ViT-L-14-336": (8, 16), "ViT-H-14": (8, 12)}
KEPT_BYTES_MAX = 2 * 10**9
PICTURES = ("*.jpg", "*.png", "*.webp", "*.gif", "*.bmp", "*.tif")


def cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "clipstream" / "parity"


def pictures(count: int) -> list[Path]:
    folder = PROJECT / "tests" / "fixtures" / "pictures"
    found = sorted(path for pattern in PICTURES for path in folder.glob(pattern))
    return spread(found, count)


def texts(count: int) -> list[str]:
    # Not splitlines(): the texts hold every kind of line end that Python knows.
    lines = (PROJECT / "tests" / "fixtures" / "tokens.jsonl").read_text(encoding="utf-8").strip("\n").split("\n")
    found = [json.loads(line)["text"] for line in lines]
    # An argument holds no NUL, and `-` and options have a meaning of their own.
    return spread([text for text in found if "\0" not in text and not text.startswith("-")], count)


def spread(found: list, count: int) -> list:
    return [found[i * len(found) // count] for i in range(count)] if len(found) > count else found


def embed(binary: str, name: str, folder: Path, modality: str, inputs: list[str]) -> np.ndarray:
    command = [binary, "embed", modality, "--model", name, "--", *inputs]
    environment = {**os.environ, "CLIPSTREAM__CLIP__MODELS": f"{name}={folder}"}
    ran = subprocess.run(command, env=environment, cwd=PROJECT, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    lines = [json.loads(line) for line in ran.stdout.split("\n") if line]
    failed = [f"{line['input'][:80]!r}: {line['error']}" for line in lines if "error" in line]
    if ran.returncode != 0 or failed or len(lines) != len(inputs):
        raise ExportError(f"clipstream embed {modality} ended with {ran.returncode} and {len(lines)} of {len(inputs)} vectors: {failed or ran.stderr[-600:]}")
    return np.array([line["embedding"] for line in lines], dtype=np.float64)


def compare(binary: str, name: str, keep: bool) -> dict:
    variant, pretrained = name.split("/")
    exported = checkpoint.load(variant, pretrained, random_seed=SEED)
    folder = cache() / name.replace("/", "__")
    made_by = folder.with_name(f"{folder.name}.recipe")
    if not (folder.is_dir() and made_by.is_file() and made_by.read_text() == recipe()):
        begin = time.monotonic()
        print(f"{name}: exporting to {folder}", flush=True)
        directory.write(exported, folder, replace=True)
        made_by.write_text(recipe())
        print(f"{name}: exported in {time.monotonic() - begin:.0f} s", flush=True)
    counts = INPUTS.get(variant, (12, 24))
    files, strings = pictures(counts[0]), texts(counts[1])
    try:
        got = {"image": embed(binary, name, folder, "image", [str(f) for f in files]), "text": embed(binary, name, folder, "text", strings)}
    finally:
        if not keep and sum(path.stat().st_size for path in folder.rglob("*")) > KEPT_BYTES_MAX:
            shutil.rmtree(folder)
    wanted = {
        "image": np.concatenate([golden.vectors(exported, pixels=golden.preprocess(exported, [file])) for file in files]),
        "text": np.concatenate([golden.vectors(exported, ids=exported.tokenizer([text])) for text in strings]),
    }
    row = {"model": name, "activation": exported.activation, "dimension": int(wanted["image"].shape[1])}
    for modality, inputs in (("image", [file.name for file in files]), ("text", strings)):
        cosines = (got[modality] * wanted[modality]).sum(1) / np.linalg.norm(wanted[modality].astype(np.float64), axis=1)
        worst = int(cosines.argmin())
        row |= {f"{modality}s": len(inputs), f"cosine_min_{modality}": float(cosines[worst]), f"worst_{modality}": inputs[worst][:60]}
        # How alike vectors of different inputs are: the distance that a mix-up would show.
        row[f"median_between_{modality}s"] = round(float(np.median((wanted[modality] @ wanted[modality].T)[np.triu_indices(len(inputs), 1)])), 3)
    row["ok"] = min(row["cosine_min_image"], row["cosine_min_text"]) >= COSINE_MIN
    return row


def recipe() -> str:
    """Of everything that an export depends on: our code, the libraries, the seed."""
    digest = hashlib.sha256(f"{open_clip.__version__} {torch.__version__} {SEED}".encode())
    for source in sorted((Path(__file__).parent / "openclip_export").glob("*.py")):
        digest.update(source.read_bytes())
    return digest.hexdigest()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    logging.disable(logging.ERROR)  # OpenCLIP logs that weights are random
    target = Path(os.environ.get("CARGO_TARGET_DIR") or PROJECT / "target")
    parser.add_argument("models", nargs="*", metavar="VARIANT/CHECKPOINT", help=f"default: {' '.join(MODELS)}")
    parser.add_argument("--clipstream", default=str(target / "release" / "clipstream"), help="the binary")
    parser.add_argument("--keep", action="store_true", help="keep exports above 2 GB in the cache folder too")
    given = parser.parse_args()
    rows = []
    try:
        for name in given.models or MODELS:
            if name.count("/") != 1:
                raise ExportError(f"{name!r} is no VARIANT/CHECKPOINT")
            rows.append(compare(given.clipstream, name, given.keep))
            row = rows[-1]
            print(f"{name}: image {row['cosine_min_image']:.8f}, text {row['cosine_min_text']:.8f}", flush=True)
    except ExportError as error:
        sys.exit(f"parity: {error}")
    except FileNotFoundError as error:
        sys.exit(f"parity: {error}; next: cargo build --release, or name the binary with --clipstream")
    print(table(rows))
    ok = all(row["ok"] for row in rows)
    print(json.dumps({"ok": ok, "cosine_min": min(min(row["cosine_min_image"], row["cosine_min_text"]) for row in rows), "models": rows}))
    sys.exit(0 if ok else 1)


def table(rows: list[dict]) -> str:
    head = ("model", "activation", "pictures", "texts", "cosine_min image", "cosine_min text", "median between pictures", "between texts", "")
    cells = [
        (
            row["model"], row["activation"], str(row["images"]), str(row["texts"]), f"{row['cosine_min_image']:.8f}", f"{row['cosine_min_text']:.8f}",
            f"{row['median_between_images']:.2f}", f"{row['median_between_texts']:.2f}", "ok" if row["ok"] else "FAILED",
        )
        for row in rows
    ]  # fmt: skip
    widths = [max(len(line[column]) for line in (head, *cells)) for column in range(len(head))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip() for line in (head, *cells))


if __name__ == "__main__":
    main()
