"""OpenCLIP to clipstream's model directory: what tools/export_openclip.py, make_model_fixtures.py and parity.py are made of.

    checkpoint  which model, weights, activation and preprocessing
    towers      the two towers as modules that export well
    graphs      modules to ONNX graphs: fp32, fp16, int8, external data
    tokenizer   OpenCLIP's vocabulary as tokenizer.json
    golden      inputs and OpenCLIP's own vectors of them
    directory   all of it as one directory, whole or not at all
"""


class ExportError(Exception):
    """What was found, what was expected, the next step; shown without a traceback."""
