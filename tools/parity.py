#!/usr/bin/env python3
"""Compares `clipstream embed` with OpenCLIP in PyTorch, fp32, for every architecture that OpenCLIP has weights of: make parity.

    tools/parity.py [--clipstream BINARY] [--layers N] [--results FILE] [--markdown FILE] [--keep] [VARIANT[/CHECKPOINT] ...]

Checkpoints cannot be had everywhere, so the weights are random (seed 0, tools/openclip_export/random_weights.py), in a checkpoint's
own configuration: activation, preprocessing, size. Towers above ViT-L have 4 layers (or 4 in each stage) of their own width; with
--layers N, all towers have at most N. Tokenizers of Transformers are the small ones of tests/fixtures/tokenizers, and the token
embedding is cut to their size, as the real ones cannot be had everywhere either. Pictures are those of tests/fixtures/pictures (JPEG,
PNG, WebP, GIF, BMP, TIFF in all their modes) and texts of tests/fixtures/tokens.jsonl. Each model is exported, run and removed in a
process of its own. Prints a table and, as the last line, a JSON object; ends with 1 where a cosine is below 0.99999, or where a
vector is further from OpenCLIP's than a thousandth of what OpenCLIP's vectors are apart. Where it is, both are compared with OpenCLIP
in fp64: random weights make some towers so sensitive that PyTorch's own fp32 is as far off. Twice PyTorch's error is accepted.
"""

import argparse
import json
import logging
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

# Nothing is fetched: the tools say what they would need.
os.environ.update(HF_HUB_OFFLINE="1", TRANSFORMERS_VERBOSITY="error", TOKENIZERS_PARALLELISM="false")

import numpy as np
import torch

import fixture_tokenizer_files
from openclip_export import ExportError, build, checkpoint, directory, golden
from parity_table import table

PROJECT = Path(__file__).resolve().parent.parent
COSINE_MIN = 0.99999
# Of a vector to OpenCLIP's, in units of the median distance of OpenCLIP's vectors from their mean. Where all pictures get nearly the
# same vector, the cosine says little, and this much.
ERROR_MAX = 1e-3
SEED = 0
# Parameters of an image tower: ViT-L has 304 million, RN50x64 and the towers above have 400 million and more.
WHOLE_MAX = 350 * 10**6
LAYERS_ABOVE = 4
# Where each input is dear, or the tower is cut: the point is the model's configuration.
INPUTS, INPUTS_LARGE = (24, 48), (8, 16)
LARGE_ABOVE = 100 * 10**6
PICTURES = ("*.jpg", "*.png", "*.webp", "*.gif", "*.bmp", "*.tif")
# The fixture for each repository that OpenCLIP takes a tokenizer from; by the tokenizer's kind where it has no entry.
TOKENIZERS = {
    "bert-base-uncased": "wordpiece", "roberta-base": "byte_bpe", "timm/ViT-B-16-SigLIP": "t5", "timm/ViT-B-16-SigLIP-i18n-256": "mt5",
    "gemma_bpe": "gemma", "nllb": "nllb", "unigram": "xlm_r",
}  # fmt: skip


def registry() -> list[dict]:
    return json.loads((PROJECT / "src" / "domain" / "registry" / "open_clip.json").read_text(encoding="utf-8"))


def chosen(rows: list[dict], wanted: list[str]) -> list[dict]:
    """One checkpoint of each variant, or those that are wanted. Of a variant with a QuickGELU twin one with GELU, so that both are run."""
    if wanted:
        named = [next((row for row in rows if name in (f"{row['variant']}/{row['checkpoint']}", row["variant"])), name) for name in wanted]
        unknown = [name for name in named if isinstance(name, str)]
        if unknown:
            raise ExportError(f"{unknown[0]!r} is no VARIANT or VARIANT/CHECKPOINT of OpenCLIP; next: clipstream models list")
        return named
    of_variant = {}
    for row in rows:
        of_variant.setdefault(row["variant"], []).append(row)
    twins = {variant.removesuffix("-quickgelu") for variant in of_variant if variant.endswith("-quickgelu")}
    prefer = lambda variant, found: next((row for row in found if row["text_activation"] == "gelu"), found[0]) if variant in twins else found[0]
    return [prefer(variant, found) for variant, found in of_variant.items()]


def tokenizer_of(row: dict, folder: Path) -> tuple[str, Path]:
    """The name of the fixture, and its files in a folder; nothing for CLIP's own."""
    told = row["tokenizer"]
    if told["repository"] is None:
        return None, None
    kind = TOKENIZERS.get(told["repository"]) or TOKENIZERS[told["kind"]]
    folder.mkdir()
    fixture_tokenizer_files.write(kind, folder)
    return kind, folder


def pictures(count: int) -> list[Path]:
    folder = PROJECT / "tests" / "fixtures" / "pictures"
    return spread(sorted(path for pattern in PICTURES for path in folder.glob(pattern)), count)


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


def compare(binary: str, row: dict, layers: int, keep: bool, work: Path) -> dict:
    begin = time.monotonic()
    variant, tag = row["variant"], row["checkpoint"]
    kind, files = tokenizer_of(row, work / "tokenizer")
    size = build.parameters(variant, checkpoint.config_of(variant))
    layers = layers or (LAYERS_ABOVE if size > WHOLE_MAX else None)
    exported = checkpoint.load(variant, tag, random_seed=SEED, tokenizer_folder=files, layers=layers)
    folder = work / exported.id.replace("/", "__")
    directory.write(exported, folder, say=lambda line: None)
    seconds_export = time.monotonic() - begin
    counts = INPUTS if layers is None and size <= LARGE_ABOVE else INPUTS_LARGE
    inputs = {"image": pictures(counts[0]), "text": texts(counts[1])}
    got = {modality: embed(binary, exported.id, folder, modality, [str(one) for one in found]) for modality, found in inputs.items()}
    if keep:
        shutil.copytree(folder, cache() / folder.name, dirs_exist_ok=True)
    shutil.rmtree(folder)
    wanted = {
        "image": np.concatenate([golden.vectors(exported, pixels=golden.preprocess(exported, [file])) for file in inputs["image"]]),
        "text": np.concatenate([golden.vectors(exported, ids=exported.tokenizer([text])) for text in inputs["text"]]),
    }
    found = {
        "model": f"{variant}/{tag}", "layers": layers, "tokenizer": kind, "parameters_image": size, "image_activation": exported.activation("visual"),
        "text_activation": exported.activation("text"), "dimension": int(wanted["image"].shape[1]), "seconds_export": round(seconds_export),
        "seconds": round(time.monotonic() - begin),
    }  # fmt: skip
    for modality, given in inputs.items():
        found |= {f"{key}_{modality}": value for key, value in compared(got[modality], wanted[modality].astype(np.float64), given).items()}
    errors_max = dict.fromkeys(inputs, ERROR_MAX)
    for modality in [m for m in inputs if found[f"error_max_{m}"] > ERROR_MAX]:
        exact = in_fp64(exported, modality, inputs[modality])
        theirs = compared(wanted[modality].astype(np.float64), exact, inputs[modality])["error_max"]
        found |= {f"error_max_{modality}": compared(got[modality], exact, inputs[modality])["error_max"], f"error_of_pytorch_{modality}": theirs}
        errors_max[modality] = max(ERROR_MAX, 2 * theirs)
    found["ok"] = all(found[f"cosine_min_{m}"] >= COSINE_MIN and found[f"error_max_{m}"] <= errors_max[m] for m in inputs)
    return found


def in_fp64(exported: checkpoint.Exported, modality: str, given: list) -> np.ndarray:
    model = exported.model.double()
    with torch.no_grad():
        if modality == "image":
            vectors = [model.encode_image(golden.preprocess(exported, [one]).double(), normalize=True) for one in given]
        else:
            vectors = [model.encode_text(exported.tokenizer([one]), normalize=True) for one in given]
    return torch.cat(vectors).numpy()


def compared(got: np.ndarray, wanted: np.ndarray, inputs: list) -> dict:
    cosines = (got * wanted).sum(1) / np.linalg.norm(got, axis=1) / np.linalg.norm(wanted, axis=1)
    worst = int(cosines.argmin())
    apart = np.linalg.norm(wanted - wanted.mean(0), axis=1)
    return {
        "inputs": len(inputs),
        "cosine_min": float(cosines[worst]),
        "worst": getattr(inputs[worst], "name", str(inputs[worst]))[:60],
        "error_max": float(np.linalg.norm(got - wanted, axis=1).max() / np.median(apart)),
        # How alike vectors of different inputs are: the distance that a mix-up would show.
        "median_between": round(float(np.median((wanted @ wanted.T)[np.triu_indices(len(inputs), 1)])), 3),
    }


def cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "clipstream" / "parity"


def apart(function, *arguments):
    """The function's result from a process of its own, so that a model's memory is given back, and a crash is one model's."""
    here, there = multiprocessing.Pipe(duplex=False)

    def run():
        try:
            there.send((True, function(*arguments)))
        except ExportError as error:
            there.send((False, str(error)))
        except Exception as error:  # whatever PyTorch, its exporter or timm throws
            there.send((False, f"{type(error).__name__}: {str(error)[:600]}"))

    process = multiprocessing.get_context("fork").Process(target=run, daemon=True)
    process.start()
    there.close()
    try:
        ok, found = here.recv()
    except EOFError:
        ok, found = False, None
    process.join()
    return found if ok else {"error": found or f"the process ended with {process.exitcode}"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    logging.disable(logging.ERROR)  # OpenCLIP logs that weights are random
    target = Path(os.environ.get("CARGO_TARGET_DIR") or PROJECT / "target")
    parser.add_argument("models", nargs="*", metavar="VARIANT[/CHECKPOINT]", help="default: one checkpoint of every architecture")
    parser.add_argument("--clipstream", default=str(target / "release" / "clipstream"), help="the binary")
    parser.add_argument("--layers", metavar="N", type=int, help="at most N layers in every tower, for a shorter run")
    parser.add_argument("--results", metavar="FILE", type=Path, help="keep the rows in this JSON file, and skip models that it has")
    parser.add_argument("--markdown", metavar="FILE", type=Path, help="write the table there, as docs/exactness.md has it")
    parser.add_argument("--keep", action="store_true", help=f"keep the exports in {cache()}")
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the process of a model ends too
    if not os.access(given.clipstream, os.X_OK):
        sys.exit(f"parity: {given.clipstream} is no program; next: cargo build --release, or name the binary with --clipstream")
    rows = json.loads(given.results.read_text()) if given.results and given.results.is_file() else []
    try:
        todo = chosen(registry(), given.models)
    except ExportError as error:
        sys.exit(f"parity: {error}")
    failed, done = [], {row["model"] for row in rows}
    for row in todo:
        name = f"{row['variant']}/{row['checkpoint']}"
        if name in done:
            continue
        cache().mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache()) as work:
            found = apart(compare, given.clipstream, row, given.layers, given.keep, Path(work))
        if "error" in found:
            found = {"model": name, "ok": False, **found}
            failed.append(found)
            print(f"{name}: FAILED: {found['error']}", flush=True)
        else:
            print(f"{name}: image {found['cosine_min_image']:.8f}, text {found['cosine_min_text']:.8f}, {found['seconds']} s", flush=True)
            rows.append(found)
        if given.results:
            given.results.write_text(json.dumps(rows, indent=1) + "\n")
    rows += failed
    print(table(rows))
    if given.markdown:
        given.markdown.write_text(table(rows, markdown=True) + "\n")
    ok = all(row["ok"] for row in rows)
    whole = [row for row in rows if "error" not in row]
    print(json.dumps({"ok": ok, "cosine_min": min((min(row["cosine_min_image"], row["cosine_min_text"]) for row in whole), default=None), "models": rows}))
    sys.exit(0 if ok else 1)


if __name__ == "__main__":
    main()
