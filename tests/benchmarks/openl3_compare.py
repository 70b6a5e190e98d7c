"""Imported networks against the real openl3's outputs: the largest differences.

    python -m tests.benchmarks.openl3_compare runs/openl3/real.npz     (make prove-openl3)

Each of the twelve layouts, with weights made from a seed, is imported by `l3net.import_openl3` at
both sizes. A difference is the largest one of an output, as a share of the output's largest value;
1e-5 or more is an error, but for sound that is resampled: the last bits of two resamplers are all
that there is above half the old rate. Writes differences.md beside the file, and some of the real
outputs to tests/l3net/inference/openl3_expected.json, with which a fast test compares.
"""

import json
import pathlib
import sys
import tempfile

import numpy as np

import l3net
from l3net import import_openl3
from l3net.inference import saved_model
from tests import tiny_openl3

LARGEST_DIFFERENCE = 1e-5
EXPECTED = pathlib.Path(__file__).parents[1] / "l3net/inference/openl3_expected.json"


def difference(got: np.ndarray, expected: np.ndarray) -> float:
    """Returns the largest difference as a share of the largest value; infinite for other shapes."""
    if got.shape != expected.shape:
        return np.inf
    return float(np.abs(got - expected).max() / np.abs(expected).max())


def differences(name: str, real: dict[str, np.ndarray], folder: pathlib.Path) -> list[float]:
    """Returns the differences of both sizes and, for sound, of `get_audio_embedding` at rates."""
    path = tiny_openl3.write_weights(folder / f"{name}-v0_4_0.h5.gz", tiny_openl3.layers(name))
    is_audio = "_audio_" in name
    signature = saved_model.AUDIO if is_audio else saved_model.VISION
    batch = tiny_openl3.waveforms() if is_audio else tiny_openl3.images()
    found = []
    for size in tiny_openl3.sizes_of(name):
        out = folder / "saved_model"
        import_openl3.main(import_openl3.Config(str(path), str(out), size))
        model = l3net.SavedModel(out)
        got = model.features(signature, "embedding")(batch)
        found.append(difference(got, real[f"{name}/{size}"]))
    for rate in tiny_openl3.RATES_HZ if is_audio else ():
        whole, times = l3net.get_audio_embedding(tiny_openl3.sound(), rate, model=model)
        np.testing.assert_allclose(times, real[f"{name}/{rate}/times"], atol=1e-9)
        found.append(difference(whole, real[f"{name}/{rate}"]))
    path.unlink()
    return found


def expected_outputs(real: dict[str, np.ndarray]) -> dict[str, dict[str, list[float]]]:
    """Returns some outputs of the first window or image of every layout, and their maxima."""
    layouts = {tuple(name.split("_")[1:3]): name for name in reversed(tiny_openl3.NAMES)}
    names = [name for key, name in layouts.items() if key[0] == "audio" or key[1] == "mel256"]
    return {
        f"{name}/{size}": [
            float(f"{value:.6g}")
            for row in [real[f"{name}/{size}"][0]]
            for value in [np.abs(row).max(), *tiny_openl3.picked(row)]
        ]
        for name in sorted(names)
        for size in tiny_openl3.sizes_of(name)
    }


def main(real_outputs: str) -> None:
    """Compares, prints and writes."""
    with np.load(real_outputs) as file:
        real = dict(file)
    table = [
        "| file | larger embedding | 512 | `get_audio_embedding` | of 44.1 kHz |",
        "|---|---|---|---|---|",
    ]
    worst = 0.0
    with tempfile.TemporaryDirectory() as folder:
        for name in tiny_openl3.NAMES:
            found = differences(name, real, pathlib.Path(folder))
            cells = [f"{value:.1e}" for value in found] + ["–"] * (4 - len(found))
            table.append(f"| {name} | {' | '.join(cells)} |")
            sys.stdout.write(table[-1] + "\n")
            worst = max(worst, *found[:3])
    pathlib.Path(real_outputs).with_name("differences.md").write_text("\n".join(table) + "\n")
    EXPECTED.write_text(json.dumps(expected_outputs(real), indent=0) + "\n")
    if not worst < LARGEST_DIFFERENCE:
        sys.exit(f"the largest difference is {worst:.1e}; need less than {LARGEST_DIFFERENCE:g}")


if __name__ == "__main__":
    main(sys.argv[1])
