"""AVC accuracy of an exported network on fixed held-out pairs (L3 §3.2).

    python -m eval.avc_accuracy --saved_model=runs/l3/saved_model --shards=data/flickr/shards

The pairs are drawn once by seed and kept in the prepared folder, so that networks are compared on
the same ones; half are positives, so chance is 50 %. A pair is told right if the network gives its
label more than 50 %.
"""

import pathlib
import time
from collections.abc import Sequence

import numpy as np
from absl import flags
from tqdm import tqdm

from eval import flags as shared
from eval import report
from l3net import errors, saved_model
from l3net.data import avc_pairs, fixed_pairs, schema
from l3net.errors import UserError

_SHARDS = flags.DEFINE_string("shards", None, "Prepared folder of the held-out clips.")
_SPLIT = flags.DEFINE_string("split", "test", "Split to draw the pairs from.")
_NUM_PAIRS = flags.DEFINE_integer("num_pairs", 2048, "Fixed pairs; even.")
_SAMPLING = flags.DEFINE_enum(
    "sampling", "l3", avc_pairs.SAMPLINGS, "Which second of sound goes with a frame."
)
_BATCH_SIZE = 64


def accuracy(model: saved_model.SavedModel, pairs: pathlib.Path) -> tuple[float, int]:
    """Measures the share of pairs told right, every pair once.

    Args:
        model: with a signature `avc`.
        pairs: as `fixed_pairs.fixed_pairs` returned it.

    Returns:
        Accuracy in [0, 1] and the number of pairs.

    Raises:
        UserError: if the SavedModel has no signature `avc`.
    """
    judge = model.correspondence()
    dataset = fixed_pairs.read_pairs(pairs, batch_size=_BATCH_SIZE, frame_px=model.frame_px)
    right = []
    for batch in tqdm(dataset.as_numpy_iterator(), desc="pairs", unit="batch", disable=None):
        waveform = batch["waveform"].astype(np.float32) / schema.INT16_SCALE
        right.append((judge(batch["image"], waveform) > 0.5) == (batch["corresponds"] == 1))
    right = np.concatenate(right)
    return float(right.mean()), len(right)


def make_table(
    model: saved_model.SavedModel,
    shards: str,
    *,
    split: str,
    num_pairs: int,
    sampling: str,
    seed: int,
) -> report.Table:
    """Measures and describes the accuracy.

    Args:
        model: with a signature `avc`.
        shards: prepared folder.
        split: of the folder.
        num_pairs: even.
        sampling: see `avc_pairs`.
        seed: of the pairs.

    Returns:
        A table of one row.
    """
    pairs = fixed_pairs.fixed_pairs(
        shards, split, num_pairs=num_pairs, sampling=sampling, seed=seed
    )
    measured, count = accuracy(model, pairs)
    name = next(schema.read_clips(schema.find_shards(shards, split))).dataset_name
    synthetic = " (synthetic)" if name == "demo" else ""
    row = report.Row(
        f"{name} data{synthetic}, {count} fixed {split} pairs",
        str(model.metadata.get("model_config", {}).get("model", "network")),
        report.RUN,
        ours={"accuracy": 100 * measured},
        note=f"{model.metadata.get('trained_steps', '?')} steps",
        details={"pairs": pairs.name, "metadata": model.metadata},
    )
    return report.Table(
        "avc_accuracy",
        "AVC accuracy on held-out pairs (chance 50 %)",
        [report.Metric("accuracy", "accuracy %")],
        [row],
        ["The paper's L3-Net: 78 on Flickr-SoundNet, 74 on Kinetics-Sounds (L3 Table 1)."],
    )


def main(argv: Sequence[str]) -> None:
    """Reads the flags, measures, writes the table."""
    if not shared.SAVED_MODEL.value or not _SHARDS.value:
        raise UserError("--saved_model and --shards are needed; see --help")
    started = time.monotonic()
    table = make_table(
        saved_model.SavedModel(shared.SAVED_MODEL.value),
        _SHARDS.value,
        split=_SPLIT.value,
        num_pairs=_NUM_PAIRS.value,
        sampling=_SAMPLING.value,
        seed=shared.SEED.value,
    )
    report.write_table(
        table,
        shared.OUT_DIR.value,
        flags=shared.values_of(argv[0]),
        seconds=time.monotonic() - started,
    )


if __name__ == "__main__":
    errors.run(main)
