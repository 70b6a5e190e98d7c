"""Which of the papers' networks a SavedModel holds, as its metadata tells."""

from l3net import saved_model

NAIVE = "naive"


def kind(model: saved_model.SavedModel) -> str:
    """Returns the name under which `l3net.train` knows the network, such as "ave_net"."""
    return str(model.metadata.get("model_config", {}).get("model", "network"))


def training_flag(model: saved_model.SavedModel, name: str) -> str | None:
    """Returns the value of a flag of its training run, None if the SavedModel does not tell."""
    start = f"--{name}="
    values = [line for line in model.metadata.get("run_flags", []) if line.startswith(start)]
    return values[-1].removeprefix(start) if values else None


def is_random(model: saved_model.SavedModel) -> bool:
    """Returns whether the network was never trained."""
    return bool(model.metadata.get("random_weights"))


def in_words(model: saved_model.SavedModel) -> str:
    """Returns in a few words what it is and how long it was trained, for a table's note."""
    words = [kind(model), f"{model.metadata.get('trained_steps', '?')} steps"]
    trained_on = model.metadata.get("trained_on")
    return ", ".join(words + ([f"on {trained_on}"] if trained_on else []))
