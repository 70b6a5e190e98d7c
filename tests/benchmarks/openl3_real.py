"""Outputs of the real openl3 0.4.2 with kapre 0.4.1 for weights made from a seed (its environment).

    .venv/openl3/bin/python -m tests.benchmarks.openl3_real runs/openl3/real.npz

One array per network and size of `tests.tiny_openl3`, such as "openl3_audio_mel256_music/512", of
the windows and images there; "…/48000" is `openl3.get_audio_embedding` of a longer sound.
"""

import pathlib
import sys
import tempfile

import numpy as np
import openl3.core
import openl3.models

from tests import tiny_openl3


def outputs_of(name: str, path: pathlib.Path) -> dict[str, np.ndarray]:
    """Returns what the real openl3 makes of a weights file."""
    _, _, input_repr, _ = name.split("_")
    found = {}
    for size in tiny_openl3.sizes_of(name):
        if "_audio_" in name:
            model = openl3.models.load_audio_embedding_model_from_path(str(path), input_repr, size)
            batch = tiny_openl3.waveforms()[:, np.newaxis]
        else:
            model = openl3.models.load_image_embedding_model_from_path(str(path), size)
            batch = openl3.core._preprocess_image_batch(tiny_openl3.images())
        found[f"{name}/{size}"] = model.predict(batch, verbose=0)
    for rate in tiny_openl3.RATES_HZ if "_audio_" in name else ():
        whole, times = openl3.get_audio_embedding(
            tiny_openl3.sound(), rate, model=model, verbose=False
        )
        found[f"{name}/{rate}"], found[f"{name}/{rate}/times"] = whole, times
    return found


def main(out: str) -> None:
    """Writes the outputs of all networks."""
    found: dict[str, np.ndarray] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in tiny_openl3.NAMES:
            path = pathlib.Path(folder, f"{name}.h5")
            tiny_openl3.write_weights(path, tiny_openl3.layers(name))
            found |= outputs_of(name, path)
            path.unlink()
    pathlib.Path(out).parent.mkdir(parents=True, exist_ok=True)
    np.savez(out, **found)


if __name__ == "__main__":
    main(sys.argv[1])
