"""Whether the `CLIPModel` in a folder is the model that is measured: its vectors of check.safetensors beside OpenCLIP's own.

usage: check_hugging_face.py FOLDER   (with the Python of requirements-sentence-transformers.txt)
"""

import sys
from pathlib import Path

import torch
from safetensors.torch import load_file
from transformers import CLIPModel

COSINE_MIN = 0.99999

folder = Path(sys.argv[1])
check = load_file(folder / "check.safetensors")
model = CLIPModel.from_pretrained(folder, local_files_only=True).eval()
with torch.no_grad():
    found = {"picture": model.get_image_features(pixel_values=check["pixels"]), "text": model.get_text_features(input_ids=check["ids"])}
for kind, features in found.items():
    # transformers 5 answers with an object, transformers 4 with the vectors.
    vectors = getattr(features, "pooler_output", features)
    cosine = torch.nn.functional.cosine_similarity(vectors, check[f"{kind}_vectors"]).min().item()
    if not cosine >= COSINE_MIN:
        sys.exit(f"the Hugging Face model gives another {kind} vector: cosine {cosine:.6f}, expected at least {COSINE_MIN}")
    print(f"{kind}: cosine to OpenCLIP {cosine:.7f}")
