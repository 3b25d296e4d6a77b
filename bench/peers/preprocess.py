"""What `clipstream bench preprocess --peers` compares with: OpenCLIP's eval transform on Pillow, from a file's bytes to the
normalised tensor, on one thread.

usage: preprocess.py PREPROCESS_CFG REPEAT FILE...
Prints a line of JSON per file: {"file", "total_ms", "decode_ms", "with"}; medians of REPEAT runs.
"""
import importlib.metadata
import io
import json
import statistics
import sys
import time

import torch
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image

torch.set_num_threads(1)
config, repeat, files = json.loads(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]
transform = image_transform_v2(PreprocessCfg(**config), is_train=False)
versions = ', '.join(f'{name} {importlib.metadata.version(name)}' for name in ('pillow', 'torchvision', 'open_clip_torch'))
# A photo of 100 megapixels is no attack here.
Image.MAX_IMAGE_PIXELS = None


def milliseconds(work):
    start = time.perf_counter()
    work()
    return (time.perf_counter() - start) * 1e3


for file in files:
    with open(file, 'rb') as f:
        data = f.read()
    total = [milliseconds(lambda: transform(Image.open(io.BytesIO(data)))) for _ in range(repeat)]
    decode = [milliseconds(lambda: Image.open(io.BytesIO(data)).load()) for _ in range(repeat)]
    line = dict(file=file, total_ms=statistics.median(total), decode_ms=statistics.median(decode))
    print(json.dumps(dict(line, **{'with': versions})), flush=True)
