"""Where a result comes from: the commit of this code and the versions of what it depends on."""

import importlib.metadata
import pathlib
import platform
import subprocess

_PACKAGES = (
    "l3net",
    "keras",
    "librosa",
    "numpy",
    "scikit-learn",
    "scipy",
    "soundfile",
    "tensorflow",
)


def commit() -> str | None:
    """Returns the commit of this source tree, "-dirty" if files differ; None without git."""
    folder = pathlib.Path(__file__).parent
    command = ["git", "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=40"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def versions() -> dict[str, str]:
    """Returns the versions of Python and of the packages that results can depend on."""
    known = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            known[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            known[package] = "not installed"
    return known
