"""What becomes of a clip, and an ffmpeg that is none."""

import pathlib

import pytest

from l3net.media import ffmpeg


def failure_of(path: pathlib.Path | str, **settings) -> ffmpeg.MediaError:
    """Returns why a file gives no clip."""
    with pytest.raises(ffmpeg.MediaError) as caught:
        ffmpeg.decode_clip(path, **settings)
    return caught.value


def outcome_of(path: pathlib.Path | str, **settings) -> tuple[str, str]:
    """Returns the outcome and the reason of a file that gives no clip."""
    error = failure_of(path, **settings)
    return error.outcome, error.reason


def fake_ffmpeg(folder: pathlib.Path, monkeypatch, body: str, version: str = "7.7-test") -> None:
    """Makes a shell script the ffmpeg in use."""
    program = folder / "fake_ffmpeg"
    answer = f"[ $1 = -version ] && {{ echo ffmpeg version {version} Copyright; exit; }}"
    program.write_text(f"#!/bin/sh\n{answer}\n{body}\n")
    program.chmod(0o755)
    monkeypatch.setenv(ffmpeg.ENVIRONMENT_VARIABLE, str(program))
