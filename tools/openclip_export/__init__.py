"""OpenCLIP to clipstream's model directory: what tools/export_openclip.py, make_model_fixtures.py and parity.py are made of.

    checkpoint      which model, weights, activation and preprocessing
    build           OpenCLIP's model of a configuration, or a narrowed one
    text_configs    text towers of Transformers, for where the hub is not reached
    random_weights  for tests
    activations     which GELU a tower computes
    towers          the two towers as modules that export well
    graphs          modules to ONNX graphs: fp32, fp16, int8, external data
    widened         fp16 graphs with LayerNorm and softmax in fp32
    tokenizer       the tokenizer's files, and what the manifest says of it
    clip_bpe        OpenCLIP's vocabulary as tokenizer.json
    golden          inputs and OpenCLIP's own vectors of them
    directory       all of it as one directory, whole or not at all
"""


class ExportError(Exception):
    """What was found, what was expected, the next step; shown without a traceback."""


def first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [repr(error)])[0][:300]
