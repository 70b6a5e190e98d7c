"""Prepares training pairs for trainers on this and other machines, as tf.data's service.

    python -m l3net.data_service --host=prep1 --port=5000
    python -m l3net.train ... --pairs_per_clip=8 --data_service=grpc://prep1:5000

It knows nothing of the data: a trainer sends it the graph of its pipeline, and it reads the
trainer's --shards, which must be at the same place here. It runs until it is ended. Whoever reaches
its two ports can read and write files as its user: run it in a network of your own.
"""

import dataclasses

from l3net import flags
from l3net.data import service
from l3net.flags import setting


@dataclasses.dataclass(frozen=True)
class Config:
    """Where it listens."""

    host: str = setting(
        "localhost",
        "Name or address by which trainers reach this machine; localhost: trainers on it alone.",
    )
    port: int = setting(
        5000, "Port of the address that trainers are given; batches come from the next one."
    )


def main(config: Config) -> None:
    """Serves until it is ended."""
    service.serve(config.host, config.port)


if __name__ == "__main__":
    flags.run(main, Config)
