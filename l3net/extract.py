"""Features of sound, image and video files from a SavedModel of ours: one .npz per file.

    python -m l3net.extract --saved_model=runs/x/saved_model --out_dir=features a.wav videos/

Inputs are files, or folders that are searched to any depth. `a.wav` gives `features/a.wav.npz`,
`videos/sub/b.mp4` gives `features/sub/b.mp4.npz`, with these arrays:

    file    keys
    sound   embedding float32 [T, D], timestamps float64 [T]           (openl3's names)
    image   embedding float32 [1, D], timestamps [0.0]
    video   audio_embedding, audio_timestamps, image_embedding, image_timestamps
    all     metadata: JSON text with the source's name, the settings and the network's weights

Timestamps are seconds on the file's own time line, one for sound and picture of a video: where a
window of one second starts (with --center, its middle), or when a frame is shown.

The next two files are decoded while the network computes. Memory does not grow with the length of
a file. A finished file is kept whatever happens to the next one; run the same command again to go
on after an interruption. Another --batch_size or machine changes the numbers by float32 rounding
(about 1e-6 of the largest value), and so does a hop whose windows share their spectrogram (a
multiple of 5 ms below one second).
"""

import contextlib
import dataclasses
import json
import logging
import pathlib
import shutil
import tempfile
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from l3net import flags
from l3net.errors import UserError, first_line
from l3net.files import CannotWriteError, written_whole
from l3net.flags import REQUIRED, setting
from l3net.inference import file_features, saved_model
from l3net.inference.file_features import Settings
from l3net.json_files import parse
from l3net.media import file_kinds
from l3net.npz_files import open_npz
from l3net.progress import progress

FLOAT32, BFLOAT16 = "float32", "bfloat16"
_FILES_AHEAD = 2  # are decoded while the network computes (our choice)
_PREFIXES = {file_kinds.SOUND: "audio_", file_kinds.IMAGE: "image_"}  # of a video's keys

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Config:
    """Where features come from and go to."""

    saved_model: str = setting(
        REQUIRED, "Folder that l3net.export wrote, or hf://owner/name on the Hub."
    )
    out_dir: str = setting(REQUIRED, "Folder for the .npz files; made if need be.")
    batch_size: int = setting(
        32, "Windows or pictures that go through the network at once.", at_least=1
    )
    overwrite: bool = setting(False, "Make .npz files that exist again.")
    precision: str = setting(
        FLOAT32,
        "Arithmetic of the convolutions. bfloat16: about 1.8 times as fast on processors that have "
        "it (AVX512_BF16, AMX), within some 1 % of the largest value; on others nothing changes.",
        choices=(FLOAT32, BFLOAT16),
    )


@dataclasses.dataclass(frozen=True)
class Outcome:
    """An input is "done", "skipped" (its .npz exists already) or "failed", for a reason."""

    path: pathlib.Path
    status: str
    reason: str = ""


# --- The list ------------------------------------------------------------------------------------
def extract_files(
    inputs: Iterable[str | pathlib.Path], config: Config, settings: Settings
) -> list[Outcome]:
    """Writes one .npz per file; a bad file does not stop the others.

    Raises UserError if nothing can be done at all: an unusable SavedModel or setting, or two inputs
    that would be written to the same .npz.
    """
    settings.check()
    if config.precision == BFLOAT16:
        saved_model.use_bfloat16()
    extractor = _Extractor(saved_model.SavedModel(config.saved_model), settings, config)
    files, outcomes = find_files(inputs, pathlib.Path(config.out_dir))
    extractor.features.require({file_kinds.kind_in_folder(path) for path in files.values()})
    num_failed = len(outcomes)
    todo = list(files.items())
    with (
        contextlib.closing(extractor.features),
        progress("extracting", unit="file", total=len(files)) as bar,
    ):
        for number, (out, path) in enumerate(todo):
            for later, following in todo[number + 1 :][:_FILES_AHEAD]:
                if config.overwrite or not later.exists():
                    extractor.features.begin(following)
            outcomes.append(_extract_or_explain(extractor, path, out, config.overwrite))
            num_failed += outcomes[-1].status == "failed"
            bar.note(f"{num_failed} failed" if num_failed else "")
            bar.advance()
    return outcomes


def find_files(
    inputs: Iterable[str | pathlib.Path], out_dir: pathlib.Path
) -> tuple[dict[pathlib.Path, pathlib.Path], list[Outcome]]:
    """Lists what to do: files as named, and all sound, images and video below folders.

    Files below a folder keep their relative path; hidden files and folders are left out. Returns
    .npz path -> file, and failures: folders that are unreadable or hold no file for us.
    """
    files: dict[pathlib.Path, pathlib.Path] = {}
    failures = []
    for given in map(pathlib.Path, inputs):
        if given.is_dir():
            base, (paths, problems) = given, file_features.files_below(given)
            failures += [Outcome(given, "failed", problem) for problem in problems]
        else:
            base, paths = given.parent, [given]
        for path in paths:
            relative = path.relative_to(base)
            out = out_dir / relative.with_name(f"{relative.name}.npz")
            if files.setdefault(out, path).absolute() != path.absolute():
                raise UserError(
                    f"{files[out]} and {path} would both be written to {out}; give the folder "
                    "above both, or extract them into two folders"
                )
    return files, failures


def _extract_or_explain(
    extractor: "_Extractor", path: pathlib.Path, out: pathlib.Path, overwrite: bool
) -> Outcome:
    try:
        if out.exists() and not overwrite:
            extractor.check_made_alike(out)
            return Outcome(path, "skipped")
        extractor.extract(path, out)
    except CannotWriteError:
        raise  # nor the next file's
    except UserError as error:
        return Outcome(path, "failed", str(error))
    except Exception as error:  # whatever is wrong with this file, the others must go on
        _log.debug("%s", path, exc_info=True)
        return Outcome(path, "failed", f"{path}: {type(error).__name__}: {first_line(error)}")
    return Outcome(path, "done")


# --- One file ------------------------------------------------------------------------------------
class _Extractor:
    """A network and settings, ready to turn files into .npz files."""

    def __init__(self, model: saved_model.SavedModel, settings: Settings, config: Config):
        self.features = file_features.FileFeatures(model, settings, config.batch_size)
        self._model = model
        self._made_with = {
            **dataclasses.asdict(settings),
            "weights_sha256": model.metadata.get("weights_sha256"),
            "precision": config.precision,
        }

    def extract(self, path: pathlib.Path, out: pathlib.Path) -> None:
        """Writes the complete .npz of one file or none; raises UserError if it has no features."""
        kind = file_kinds.kind_of(path)
        with _npz_when_complete(out) as npz:
            for stream in self.features.streams(path, kind):
                prefix = _PREFIXES[stream.kind] if kind == file_kinds.VIDEO else ""
                num_rows = npz.add_rows(f"{prefix}embedding", stream.chunks)
                npz.add(f"{prefix}timestamps", stream.times_seconds(num_rows))
            metadata = {"source": path.name, "kind": kind, **self._made_with}
            metadata["network"] = self._model.metadata.get("model_config")
            metadata["trained_steps"] = self._model.metadata.get("trained_steps")
            npz.add("metadata", np.array(json.dumps(metadata)))

    def check_made_alike(self, out: pathlib.Path) -> None:
        """Raises UserError unless an existing .npz was made with this network and settings."""
        remedy = "give --overwrite or another --out_dir"
        try:
            with open_npz(out) as npz:
                if (damaged := npz.zip.testzip()) is not None:
                    raise ValueError(f"{damaged} has another checksum")
                metadata = parse(out, str(npz["metadata"].item()), dict[str, Any], remedy)
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or first_line(error)
            raise UserError(
                f"{out}: exists and is damaged or not ours ({reason}); {remedy}"
            ) from error
        metadata.setdefault("precision", FLOAT32)  # before there was a choice
        for key, value in self._made_with.items():
            if metadata.get(key) != value:
                raise UserError(
                    f"{out}: exists, made with {key} {metadata.get(key)}, not {value}; {remedy}"
                )


# --- .npz ----------------------------------------------------------------------------------------
class _Npz:
    """Writes a .npz as `np.savez` does, but rows of any number in bounded memory."""

    def __init__(self, archive: zipfile.ZipFile, folder: pathlib.Path):
        self._archive, self._folder = archive, folder

    def add(self, name: str, array: np.ndarray) -> None:
        with self._archive.open(f"{name}.npy", "w", force_zip64=True) as entry:
            np.lib.format.write_array(entry, array, allow_pickle=False)

    def add_rows(self, name: str, chunks: Iterable[np.ndarray]) -> int:
        """Adds float32 chunks [n, D] as one array [sum of n, D]; returns the number of rows."""
        num_rows = num_columns = 0
        # The header says how many rows follow, which is known only at the end.
        with tempfile.TemporaryFile(dir=self._folder) as spool:
            for chunk in chunks:
                spool.write(chunk.astype("<f4", copy=False).tobytes())
                num_rows, num_columns = num_rows + len(chunk), chunk.shape[1]
            spool.seek(0)
            header = {"descr": "<f4", "fortran_order": False, "shape": (num_rows, num_columns)}
            with self._archive.open(f"{name}.npy", "w", force_zip64=True) as entry:
                np.lib.format.write_array_header_1_0(entry, header)
                shutil.copyfileobj(spool, entry)
        return num_rows


@contextlib.contextmanager
def _npz_when_complete(out: pathlib.Path) -> Iterator[_Npz]:
    """Yields a .npz to fill, which appears under its name only if nothing was raised."""
    with written_whole(out) as partial, zipfile.ZipFile(partial, "w") as archive:
        yield _Npz(archive, out.parent)


# --- The command ---------------------------------------------------------------------------------
def main(inputs: Sequence[str], config: Config, settings: Settings) -> None:
    """Extracts; fails at the end if any file failed."""
    if not inputs:
        raise UserError("no input; name files or folders of sound, images or video")
    _report(extract_files(inputs, config, settings))


def _report(outcomes: list[Outcome]) -> None:
    failed = [outcome for outcome in outcomes if outcome.status == "failed"]
    if len(outcomes) == 1 and failed:
        raise UserError(failed[0].reason)
    for outcome in failed:
        _log.error("failed: %s", outcome.reason)
    statuses = [outcome.status for outcome in outcomes]
    counts = (f"{statuses.count(status)} {status}" for status in ("done", "skipped", "failed"))
    _log.info("%d files: %s", len(outcomes), ", ".join(counts))
    if failed:
        raise UserError(f"{len(failed)} of {len(outcomes)} inputs failed; their reasons are above")


if __name__ == "__main__":
    flags.run(main, Config, Settings, arguments="files, or folders that are searched to any depth.")
