"""Flags that every table script shares. Read them in `main` only and hand the values on."""

from typing import Any

from absl import flags

SAVED_MODEL = flags.DEFINE_string(
    "saved_model", None, "SavedModel of the trained network, as l3net.export writes it."
)
RANDOM_SAVED_MODEL = flags.DEFINE_string(
    "random_saved_model", None, 'SavedModel of the same network untrained: the row "ours random".'
)
DEMO_SHARDS = flags.DEFINE_string(
    "demo_shards", None, "Prepared shard folder that stands in where the real data is absent."
)
OUT_DIR = flags.DEFINE_string("out_dir", "runs/tables", "Folder for the table's .json and .md.")
CACHE_DIR = flags.DEFINE_string(
    "cache_dir", "runs/cache", "Folder for features and results that need not be computed twice."
)
SEED = flags.DEFINE_integer("seed", 0, "Seed of everything that is drawn.")


def define() -> dict[str, flags.FlagHolder]:
    """Returns the shared flags by name, to stand beside a script's own."""
    holders = (SAVED_MODEL, RANDOM_SAVED_MODEL, DEMO_SHARDS, OUT_DIR, CACHE_DIR, SEED)
    return {holder.name: holder for holder in holders}


def values_of(program: str) -> dict[str, Any]:
    """Returns the shared flags' values and those of the running script, for the table's record.

    Args:
        program: `argv[0]`, under which absl files the flags that the script itself defines.

    Returns:
        Flag name -> value.
    """
    by_module = flags.FLAGS.flags_by_module_dict()
    found = by_module.get(__name__, []) + by_module.get(program, [])
    return {flag.name: flag.value for flag in sorted(found, key=lambda flag: flag.name)}
