"""Distances in AudioSet's ontology, and relevance between clips by their labels."""

import csv
import itertools
import json
import pathlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.demo_data import clips
from eval.metrics import ndcg
from eval.sets import ontology
from l3net.errors import UserError

AUDIOSET = pathlib.Path(__file__).parents[3] / "shared" / "data" / "audioset"
needs_audioset = pytest.mark.skipif(
    not (AUDIOSET / "ontology.json").is_file(), reason="AudioSet's ontology is not at hand"
)
#   a      b
#  / \    / \
# c   d--    e     f alone; d has two parents: the DAG is no tree
DAG = ontology.Ontology({"a": ["c", "d"], "b": ["d", "e"], "f": []})
LABELS = tuple("abcdef")
DISTANCES = {pair: DAG.distance(*pair) for pair in itertools.product(LABELS, repeat=2)}


def test_distance_goes_up_and_down_and_through_every_parent():
    assert DAG.distance("a", "a") == 0
    assert DAG.distance("c", "d") == 2
    assert DAG.distance("c", "e") == 4  # c - a - d - b - e: only through d's second parent
    assert DAG.distance("c", "f") == np.inf


def test_an_unknown_label_or_none_is_one_clear_line():
    with pytest.raises(UserError, match=r"1 label\(s\) such as 'z' .* --ontology=PATH"):
        DAG.distances(["a", "z"])
    with pytest.raises(ValueError, match="clip 1 has no label"):
        ontology.Relevance(DAG, [("a",), ()])


def test_relevance_of_the_papers_distances():
    relevance = ontology.Relevance(DAG, [("a",), ("c",), ("d", "c"), ("f",), ("e",)])
    queries, everything = np.arange(5), np.tile(np.arange(5), (5, 1))
    assert relevance.between(queries, everything).tolist() == [
        [20, 19, 19, 0, 17],
        [19, 20, 20, 0, 16],
        [19, 20, 20, 0, 18],
        [0, 0, 0, 20, 0],
        [17, 16, 18, 0, 20],
    ]


@settings(deadline=None)
@given(st.lists(st.lists(st.sampled_from(LABELS), min_size=1, max_size=4), min_size=1, max_size=12))
def test_clips_are_as_relevant_as_their_closest_labels(labels):
    relevance = ontology.Relevance(DAG, labels)
    everything = np.tile(np.arange(len(labels)), (len(labels), 1))
    levels = relevance.between(np.arange(len(labels)), everything)
    expected = [
        [max(max(0, 20 - DISTANCES[a, b]) for a in query for b in item) for item in labels]
        for query in labels
    ]
    assert levels.tolist() == expected
    counts = [np.bincount(row, minlength=ontology.NUM_LEVELS).tolist() for row in levels]
    assert relevance.histograms()[relevance.set_of].tolist() == counts


def test_a_file_that_is_no_ontology_or_is_missing(tmp_path):
    path = tmp_path / "ontology.json"
    with pytest.raises(UserError, match="ontology.json .No such file"):
        ontology.read_ontology(path)
    for content in ("", '{"id": 1}', "[1]", '[{"id": "a"}]', "[" * 100_000):
        path.write_text(content)
        with pytest.raises(UserError, match="need AudioSet's ontology.json"):
            ontology.read_ontology(path)


def test_names_and_ids_are_the_same_class(tmp_path):
    nodes = [
        {"id": "/m/1", "name": "Guitar", "child_ids": ["/m/2"]},
        {"id": "/m/2", "name": "Acoustic guitar", "child_ids": []},
    ]
    path = tmp_path / "ontology.json"
    path.write_text(json.dumps(nodes))
    read = ontology.read_ontology(path)
    assert read.distance("/m/1", "Acoustic guitar") == 1
    assert read.distance("/m/2", "Acoustic guitar") == 0


def test_the_built_in_part_knows_all_labels_of_the_demo_data():
    families = {kind.family for kind in clips.KINDS.values()}
    distances = ontology.read_ontology(None).distances([*clips.LABELS, *families])
    assert np.isfinite(distances).all()


# --- AudioSet's own files ------------------------------------------------------------------------
@pytest.fixture(scope="module")
def real():
    return ontology.read_ontology(AUDIOSET / "ontology.json")


@needs_audioset
def test_the_papers_examples_on_the_real_ontology(real):
    assert real.distance("Acoustic guitar", "Acoustic guitar") == 0
    assert real.distance("Acoustic guitar", "Electric guitar") == 2
    assert real.distance("Acoustic guitar", "Drum") == 5
    assert real.distance("/m/042v_gx", "/m/026t6") == 5  # the same two by id
    names = sorted({*ontology.BUILT_IN, *sum(ontology.BUILT_IN.values(), ())})
    built_in = ontology.read_ontology(None).distances(names)
    np.testing.assert_array_equal(built_in, real.distances(names))


def _instrument_clips() -> tuple[list[list[str]], set[str]]:
    """Labels of the official test clips of AudioSet-Instruments; the 110 labels."""
    with open(AUDIOSET / "instruments_110.csv", newline="", encoding="utf-8") as file:
        wanted = {row["mid"] for row in csv.DictReader(file)}
    lines = (AUDIOSET / "eval_segments.csv").read_text().splitlines()
    labels = [line.split('"')[1].split(",") for line in lines if not line.startswith("#")]
    return [of_clip for of_clip in labels if wanted & set(of_clip)], wanted


@needs_audioset
@pytest.mark.parametrize(
    ("gain", "instruments_only", "expected"),
    [
        (ndcg.EXPONENTIAL, False, 0.350), (ndcg.EXPONENTIAL, True, 0.188),
        (ndcg.LINEAR, False, 0.886), (ndcg.LINEAR, True, 0.837),
    ],
)  # fmt: skip
def test_random_chance_on_the_official_test_clips(real, gain, instruments_only, expected):
    labels, wanted = _instrument_clips()
    assert len(labels) == 4361
    if instruments_only:
        labels = [[label for label in of_clip if label in wanted] for of_clip in labels]
    relevance = ontology.Relevance(real, labels)
    by_set = ndcg.random_ndcg(relevance.histograms(), 30, gain=gain)
    assert by_set[relevance.set_of].mean() == pytest.approx(expected, abs=1e-3)
