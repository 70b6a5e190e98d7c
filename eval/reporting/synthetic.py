"""Which data is drawn by data_prep.demo, and how tables say so."""

NOTE = "The demo data is synthetic: its numbers show that everything runs, no more."
DEMO = "demo data (synthetic)"


def is_synthetic(dataset_name: str) -> bool:
    """Returns whether a prepared folder's data set is the demo's, by its name."""
    return dataset_name.startswith("demo")


def display_name(dataset_name: str) -> str:
    """Returns how a row or a title names a data set; the demo data says what it is."""
    return DEMO if is_synthetic(dataset_name) else dataset_name
