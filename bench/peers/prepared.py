"""What a measurement needs and is made once, in the user's cache folder: environments, pictures, the model in both its forms."""

import hashlib
import json
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
PROJECT = HERE.parent.parent
sys.path.insert(0, str(PROJECT / "scripts"))

import venvs  # noqa: E402
import wheels  # noqa: E402

MODEL, SEED = "ViT-B-32/openai", 0
EXPORT_REQUIREMENTS = PROJECT / "tools" / "requirements-export.txt"


class Failed(Exception):
    """One line: what failed and what to do next."""


def environment(name: str) -> Path:
    """The Python of a peer."""
    requirements = EXPORT_REQUIREMENTS if name == "export-env" else HERE / f"requirements-{name}.txt"
    try:
        return venvs.python_of(requirements, name if name == "export-env" else f"bench-peers/{name}", "bench-peers")
    except wheels.WheelError as error:
        raise Failed(f"{name} cannot be installed: {error}; or leave it out with PEERS=…") from error


def sets() -> Path:
    """A folder with 12mp/, 1200px/, webp/ and captions.txt."""
    return _made("sets", [HERE / "sets.py", EXPORT_REQUIREMENTS], lambda folder: [[_export(), HERE / "sets.py", folder]])


def model() -> Path:
    """The measured model as clipstream's directory."""
    variant, checkpoint = MODEL.split("/")
    which = ["--model", variant, "--pretrained", checkpoint, "--random-seed", SEED, "--precision", "fp32,int8"]
    command = [PROJECT / "tools" / "export_openclip.py", *which]
    sources = sorted((PROJECT / "tools" / "openclip_export").glob("*.py"))
    return _made("model", [*sources, EXPORT_REQUIREMENTS], lambda folder: [[_export(), *command, "--output", folder, "--force"]])


def is_measured_model(folder: Path) -> None:
    """An error where a directory that was made elsewhere is another model: the torch and candle peers would compute another one."""
    try:
        manifest = json.loads((folder / "clipstream.json").read_text())
    except (OSError, ValueError) as error:
        raise Failed(f"{folder} is no model directory: {error}") from error
    found = (manifest.get("model"), manifest.get("weights"), {"fp32", "int8"} <= set(manifest.get("precisions", ())))
    if found != (MODEL, f"random seed {SEED}", True):
        raise Failed(f"{folder} has {manifest.get('model')} of {manifest.get('weights')}; expected {MODEL} of random seed {SEED} in fp32 and int8")


def hugging_face() -> Path:
    """The same weights as a `CLIPModel`, compared with OpenCLIP in transformers before it is used."""
    sources = [HERE / "hugging_face.py", HERE / "check_hugging_face.py", *sorted((PROJECT / "tools" / "openclip_export").glob("*.py"))]

    def commands(folder: Path) -> list:
        check = [environment("sentence-transformers"), HERE / "check_hugging_face.py", folder]
        return [[_export(), HERE / "hugging_face.py", folder], check]

    return _made("hugging-face", sources, commands)


def _export() -> Path:
    return environment("export-env")


def _made(name: str, sources: list, commands) -> Path:
    """The folder that these commands fill. Its name has the hash of what it is made by, and it appears whole or not at all."""
    digest = hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()[:12]
    folder = wheels.cache_folder() / "bench-peers" / f"{name}-{digest}"
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{name}-", dir=folder.parent) as temporary:
        made = Path(temporary) / "made"
        made.mkdir()
        print(f"bench-peers: making {folder}", file=sys.stderr, flush=True)
        for command in commands(made):
            if subprocess.run([str(word) for word in command], stdin=subprocess.DEVNULL, stdout=sys.stderr).returncode != 0:
                raise Failed(f"{Path(command[1]).name} failed, and {folder.name} is not made; its messages are above")
        made.rename(folder)
    return folder
