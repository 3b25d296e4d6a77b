#!/usr/bin/env python3
"""Prints the rows of src/domain/registry/pins.rs: what repositories on the hub hold now.

    python3 tools/pin_models.py                     every repository that src/domain/registry/sources.rs names
    python3 tools/pin_models.py OWNER/NAME ...      these

Of each: the commit of its main branch, and the SHA-256 of what a model is made of (graphs, their weights, JSON files). Large
files are not downloaded: the hub has their SHA-256. HF_ENDPOINT names another hub. A repository that cannot be read is
named on standard error, and the exit code is 1; the others are printed all the same. Look at every change before it is
committed: a pin is a promise about what others publish.
"""

import hashlib
import json
import os
import re
import sys
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

ENDPOINT = os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")
TABLE = Path(__file__).resolve().parent.parent / "src/domain/registry/sources.rs"
# Larger ones are in large file storage, whose SHA-256 the hub lists.
DOWNLOAD_BYTES_MAX = 50_000_000
TIMEOUT_S = 60


def get(path, limit=None):
    with urllib.request.urlopen(f"{ENDPOINT}/{path}", timeout=TIMEOUT_S) as answer:
        content = answer.read(limit + 1 if limit else None)
    if limit and len(content) > limit:
        raise ValueError(f"{path} has more than {limit} bytes and no SHA-256")
    return content


def repositories_of_the_table():
    names = re.findall(r'Source::\w+\(([^)]*)\)', TABLE.read_text())
    return sorted({name for arguments in names for name in re.findall(r'"([^"]+)"', arguments)})


def is_of_a_model(path):
    """What `models pull` may take: src/hub/select.rs."""
    name = path.rsplit("/", 1)[-1]
    return name.endswith((".onnx", ".json")) or ".onnx.data" in name or ".onnx_data" in name or name.startswith("onnx__")


def pin(repository):
    listing = json.loads(get(f"api/models/{repository}/revision/main?blobs=true"))
    commit, files = listing["sha"], {}
    for sibling in listing["siblings"]:
        path = sibling["rfilename"]
        if not is_of_a_model(path):
            continue
        sha256 = (sibling.get("lfs") or {}).get("sha256")
        if not sha256:
            quoted = urllib.parse.quote(path)
            sha256 = hashlib.sha256(get(f"{repository}/resolve/{commit}/{quoted}", DOWNLOAD_BYTES_MAX)).hexdigest()
        files[path] = sha256
    return commit, files


def main():
    failed = False
    for repository in sys.argv[1:] or repositories_of_the_table():
        try:
            commit, files = pin(repository)
        except (OSError, ValueError, KeyError) as error:
            print(f"{repository}: {error}; left out", file=sys.stderr)
            failed = True
            continue
        print("    Pin {")
        print(f'        repository: "{repository}",')
        print(f'        commit: "{commit}",')
        print("        files: &[")
        for path in sorted(files):
            print(f'            ("{path}", "{files[path]}"),')
        print("        ],")
        print("    },")
    sys.exit(failed)


if __name__ == "__main__":
    main()
