#!/usr/bin/env python3
"""Exports a CLIP model of OpenCLIP to a model directory of clipstream.

    make export-env         # once: the Python environment, in the user's cache folder
    PYTHON=$(scripts/export-env)
    $PYTHON tools/export_openclip.py --model ViT-B-32 --pretrained openai
    $PYTHON tools/export_openclip.py --model ViT-L-14 --pretrained datacomp_xl_s13b_b90k --precision fp32,fp16,int8
    $PYTHON tools/export_openclip.py --model ViT-B-32 --pretrained openai --weights ViT-B-32.pt   # a file; the checkpoint's configuration
    $PYTHON tools/export_openclip.py --model ViT-B-32 --pretrained openai --random-seed 0         # no network at all; for tests

The directory (docs/export.md) appears only once its graphs give OpenCLIP's vectors.
"""

import argparse
import logging
import os
import re
import sys
from pathlib import Path


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="OpenCLIP's name (ViT-B-32), local-dir:FOLDER or hf-hub:OWNER/REPOSITORY")
    parser.add_argument("--pretrained", metavar="CHECKPOINT", help="OpenCLIP's name of the checkpoint: its weights, activation and preprocessing")
    parser.add_argument("--weights", metavar="FILE", type=Path, help="weights from this file (.pt, .bin, .safetensors)")
    parser.add_argument("--random-seed", metavar="N", type=int, help="random weights, for tests")
    parser.add_argument("--tokenizer", metavar="DIR", type=Path, help="the tokenizer's files (tokenizer.json, tokenizer_config.json), where the hub is not reached")
    parser.add_argument("--precision", default="fp32", help="some of fp32,fp16,int8 (default: fp32)")
    parser.add_argument("--output", metavar="DIR", type=Path, help="default: VARIANT__CHECKPOINT where clipstream looks for models")
    parser.add_argument("--id", metavar="VARIANT/CHECKPOINT", help="how clipstream calls the model (default: from the two names)")
    parser.add_argument("--force", action="store_true", help="replace the directory if it exists")
    return parser.parse_args()


def models_directory() -> Path:
    """The default of clipstream's setting clip.models_directory."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "clipstream" / "models"


def main() -> None:
    given = arguments()
    precisions = tuple(dict.fromkeys(given.precision.split(",")))
    # OpenCLIP logs that weights are random, and every error twice.
    logging.disable(logging.ERROR)
    # Here, so that --help and a wrong argument answer at once.
    try:
        from openclip_export import ExportError, checkpoint, directory, graphs
    except ImportError as error:
        sys.exit(f"export_openclip: {error}; next: make export-env, and run this with the Python that it prints")
    try:
        unknown = [p for p in precisions if p not in graphs.PRECISIONS]
        if unknown:
            raise ExportError(f"--precision has {unknown[0]!r}; expected some of {','.join(graphs.PRECISIONS)}")
        if given.id and not re.fullmatch(r"[^/\s]+/[^/\s]+", given.id):
            raise ExportError(f"--id is {given.id!r}; expected VARIANT/CHECKPOINT")
        exported = checkpoint.load(given.model, given.pretrained, given.weights, given.random_seed, given.id, given.tokenizer)
        output = given.output or models_directory() / exported.id.replace("/", "__")
        activation = " and ".join(exported.activation(tower) or "other" for tower in ("visual", "text"))
        print(f"{exported.id}: activation {activation}, weights: {exported.weights}, preprocessing: {exported.preprocess}")
        directory.write(exported, output, precisions, given.force)
        print(f"written: {output}")
    except ExportError as error:
        sys.exit(f"export_openclip: {error}")
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
