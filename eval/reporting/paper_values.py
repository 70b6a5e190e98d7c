"""The papers' numbers, each with the data set it was measured on: the only place that has them.

A table shows one beside ours only where our row's data is that data set; see `values`. Methods are
named as in the tables of `eval`. L3 = Look, Listen and Learn, OTS = Objects that Sound.
"""

import re

FLICKR, KINETICS = "Flickr-SoundNet", "Kinetics-Sounds"
AUDIOSET = "AudioSet-Instruments"
ESC50, ESC10, DCASE, IMAGENET = "ESC-50", "ESC-10", "DCASE 2013", "ImageNet"

# Names of prepared folders (--dataset_name, as `data_prep.datasets` calls them) begin so.
_FOLDER_NAMES: dict[str, str | None] = {
    "flickrsoundnettest": None,  # the annotated frames of Flickr, another set
    "flickrsoundnet": FLICKR,
    "kineticssounds": KINETICS,
    "audiosetinstruments": AUDIOSET,
}
# Test clips in the papers, as they round them (L3 §3.1; OTS §3.1).
_NUM_TEST_CLIPS = {FLICKR: (50_000, 1000), KINETICS: (1_900, 100), AUDIOSET: (4_300, 100)}

_DIRECTIONS = ("im_im", "im_aud", "aud_im", "aud_aud")


def _accuracies(numbers: dict[str, float]) -> dict[str, dict[str, float]]:
    return {method: {"accuracy": number} for method, number in numbers.items()}


def _ndcg(*numbers: float) -> dict[str, float]:
    return dict(zip(_DIRECTIONS, numbers, strict=False))


def _clusters(nmi: float, *units: float) -> dict[str, float]:
    return {"nmi": nmi, **dict(zip(("units_4_of_5", "units_3_of_5"), units, strict=False))}


# (table, data set) -> method -> metric -> number.
_VALUES: dict[tuple[str, str], dict[str, dict[str, float]]] = {
    # L3 Table 1.
    ("avc_accuracy", FLICKR): _accuracies({"L3-Net": 78.0}),
    ("avc_accuracy", KINETICS): _accuracies(
        {"Supervised direct": 65.0, "Supervised pretraining": 74.0, "L3-Net": 74.0}
    ),
    # OTS §3.1 to §3.3; §4.1 for AVOL-Net, "as AVE-Net".
    ("avc_accuracy", AUDIOSET): _accuracies(
        {
            "L3-Net, as in OTS": 80.8,
            "AVE-Net": 81.9,
            "AVE-Net, no shortcut prevention": 87.6,
            "AVE+MF": 84.7,
            "AVE+OF": 84.9,
            "AVOL-Net": 81.9,
        }
    ),
    # L3 Table 2; ESC-10 from the data set's authors (Piczak 2015, §3; his ConvNet's notebooks).
    ("table2", ESC50): _accuracies(
        {
            "SVM-MFCC": 39.6,
            "Autoencoder": 39.9,
            "Random Forest": 44.3,
            "Piczak ConvNet": 64.5,
            "SoundNet": 74.2,
            "Ours random": 62.5,
            "Ours": 79.3,
            "Human perf.": 81.3,
        }
    ),
    ("table2", ESC10): _accuracies(
        {"SVM-MFCC": 67.5, "Random Forest": 72.7, "Piczak ConvNet": 78.5, "Human perf.": 95.7}
    ),
    ("table2", DCASE): _accuracies(
        {
            "RG": 69.0,
            "LTT": 72.0,
            "RNH": 77.0,
            "Ensemble": 78.0,
            "SoundNet": 88.0,
            "Ours random": 85.0,
            "Ours": 93.0,
        }
    ),
    # L3 Table 3; §3.4 for the last row.
    ("table3", IMAGENET): _accuracies(
        {
            "Random": 18.3,
            "Pathak et al.": 22.3,
            "Krähenbühl et al.": 24.5,
            "Donahue et al.": 31.0,
            "Doersch et al.": 31.7,
            "Zhang et al.": 32.6,
            "Noroozi and Favaro": 34.7,
            "Ours random": 12.9,
            "Ours": 32.3,
            "Ours, trained from scratch": 59.2,
        }
    ),
    # L3 Table 4; of 34 classes, how many have a high-preference unit: L3 §3.5.3.
    ("table4 vision", KINETICS): {
        "Random assignments": _clusters(0.165),
        "Ours random": _clusters(0.204, 1, 4),
        "Ours": _clusters(0.409, 10, 23),
    },
    ("table4 audio", KINETICS): {
        "Random assignments": _clusters(0.165),
        "Ours random": _clusters(0.219, 1, 3),
        "Ours": _clusters(0.330, 11, 20),
    },
    # OTS Table 1, mean nDCG@30.
    ("retrieval", AUDIOSET): {
        "Random chance": _ndcg(0.407, 0.407, 0.407, 0.407),
        "L3-Net": _ndcg(0.567, 0.418, 0.385, 0.653),
        "L3-Net with CCA": _ndcg(0.578, 0.531, 0.560, 0.649),
        "VGG16-ImageNet": _ndcg(0.600),
        "VGG16-ImageNet + L3-Audio CCA": _ndcg(0.493, 0.458, 0.464, 0.618),
        "AVE-Net": _ndcg(0.604, 0.561, 0.587, 0.665),
        "AVE+OF": _ndcg(0.608, 0.558, 0.588, 0.665),
    },
    # OTS §4.1, 500 clips of the validation split.
    ("localization", AUDIOSET): {"Image centre": {"hits": 57.2}, "AVOL-Net": {"hits": 81.7}},
}


def data_set_of(dataset_name: str) -> str | None:
    """Returns the papers' name of a prepared folder's data set, or None if it is no such set.

    Args:
        dataset_name: what the folder's clips say, such as "kinetics_sounds" or "demo".
    """
    plain = re.sub("[^a-z0-9]", "", dataset_name.lower())
    return next((name for start, name in _FOLDER_NAMES.items() if plain.startswith(start)), None)


def values(table: str, data_set: str | None, method: str) -> dict[str, float]:
    """Returns a copy of the paper's numbers by metric; empty if it has none on that data set."""
    return dict(_VALUES.get((table, data_set or ""), {}).get(method, {}))


def methods(table: str, data_set: str | None) -> list[str]:
    """Returns the methods of a paper's table on a data set, in the paper's order."""
    return list(_VALUES.get((table, data_set or ""), {}))


def near(data_set: str | None, num_test_clips: int) -> str:
    """Returns a remark where our test split is not of the paper's size; else "".

    `near("Kinetics-Sounds", 3400)` is "paper: about 1900 test clips, here 3400".
    """
    about, rounding = _NUM_TEST_CLIPS.get(data_set or "", (0, 1))
    if not about or abs(num_test_clips - about) < rounding:
        return ""
    return f"paper: about {about} test clips, here {num_test_clips}"
