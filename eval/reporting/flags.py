"""Flags that every table script shares. Read them in `main` only and hand the values on."""

from absl import flags

from l3net.errors import UserError


def define() -> dict[str, flags.FlagHolder]:
    """Defines the shared flags; the keys are their names."""
    string = flags.DEFINE_string
    holders = [
        string(
            "saved_model", None, "SavedModel of the trained network, as l3net.export writes it."
        ),
        string(
            "random_saved_model",
            None,
            'SavedModel of the same network untrained: the row "ours random".',
        ),
        string(
            "demo_shards",
            None,
            "Prepared shard folder that stands in where the real data is absent.",
        ),
        string("out_dir", "runs/tables", "Folder for the table's .json and .md."),
        string(
            "cache_dir",
            "runs/cache",
            "Folder for features and results that need not be computed twice.",
        ),
        flags.DEFINE_integer("seed", 0, "Seed of everything that is drawn."),
    ]
    return {holder.name: holder for holder in holders}


def positive_or_word(flag: str, text: str, word: str) -> float | None:
    """Reads the value of a flag that is a positive number, or a word that leaves it open.

    Args:
        flag: its name.
        text: its value.
        word: such as "choose".

    Returns:
        The number, None for the word.

    Raises:
        UserError: if it is neither.
    """
    if text == word:
        return None
    try:
        value = float(text)
    except ValueError:
        value = -1
    if not 0 < value < float("inf"):
        raise UserError(f'--{flag}={text}: need a positive number or "{word}"')
    return value
