"""All items of a small prepared folder at once."""

import dataclasses

import numpy as np

from eval.sets import clips


def read_items(folder, split, **settings) -> clips.Items:
    """Joins all that `clips.read_blocks` yields."""
    blocks = list(clips.read_blocks(folder, split, **settings))

    def join(name):
        values = [getattr(block, name) for block in blocks]
        if isinstance(values[0], tuple):
            return sum(values, ())
        return None if values[0] is None else np.concatenate(values)

    return clips.Items(
        **{field.name: join(field.name) for field in dataclasses.fields(clips.Items)}
    )
