"""Virtual environments in the user's cache folder, one per file of requirements; for the scripts beside this file and bench/peers.

An environment lies in a folder whose name has the hash of its requirements: an existing one is reused, a changed file creates a
new one.
"""

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import wheels

DONE = "installed"


def folder_of(requirements: Path, name: str) -> Path:
    """Where the environment of this file is, whether it exists or not. `name` is a path below the cache folder."""
    return wheels.cache_folder() / name / hashlib.sha256(requirements.read_bytes()).hexdigest()[:12]


def python_of(requirements: Path, name: str, caller: str) -> Path:
    """The Python of the environment, which is created if it does not exist. `caller` is who says so on stderr."""
    if sys.version_info < (3, 11):
        raise wheels.WheelError(f"this is Python {sys.version.split()[0]}; expected 3.11 or newer, which the versions in {requirements.name} need")
    folder = folder_of(requirements, name)
    python = folder / "bin" / "python"
    # A virtual environment cannot be moved into place, so this file marks it as complete.
    if (folder / DONE).is_file():
        return python
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    print(f"{caller}: installing {requirements.name} into {folder}", file=sys.stderr, flush=True)
    _run([sys.executable, "-m", "venv", str(folder)], "next: install Python's venv (Debian: apt-get install python3-venv)")
    install = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input", "--requirement", str(requirements)]
    _run(install, "next: check the network and pip's settings and run this again")
    (folder / DONE).touch()
    return python


def _run(command: list, hint: str) -> None:
    # pip's output goes to stderr, because stdout belongs to the caller.
    if subprocess.run(command, stdin=subprocess.DEVNULL, stdout=sys.stderr, env={**os.environ, "PYTHONNOUSERSITE": "1"}).returncode != 0:
        raise wheels.WheelError(f"{' '.join(command[1:4])} failed; {hint}")
