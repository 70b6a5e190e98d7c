"""openl3's published weights as a SavedModel with this package's signatures.

    python -m l3net.import_openl3 --weights=openl3_audio_mel256_music-v0_4_0.h5.gz --out=saved_model

What takes a SavedModel of l3net.export takes the result. docs/embeddings.md says where the files
are and what each is good for. They are under the licence CC BY 4.0: name their authors.
"""

import dataclasses
import logging

from l3net import flags
from l3net.flags import REQUIRED, setting
from l3net.inference import openl3

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Config:
    """What to import, and where to."""

    weights: str = setting(
        REQUIRED,
        "One of the twelve files that openl3 publishes, packed or unpacked, under its own name, "
        "such as openl3_audio_mel256_music-v0_4_0.h5.gz.",
    )
    out: str = setting(REQUIRED, "Folder to write, replaced if it is a SavedModel of ours.")
    embedding_size: int = setting(
        0,
        "Size of the output embedding: 512, or 6144 for sound and 8192 for images; 0: the larger, "
        "openl3's default.",
        at_least=0,
    )


def main(config: Config) -> None:
    """Imports."""
    sizes = openl3.import_weights(config.weights, config.out, embedding_size=config.embedding_size)
    _log.info("wrote %s: features %s", config.out, sizes)


if __name__ == "__main__":
    flags.run(main, Config)
