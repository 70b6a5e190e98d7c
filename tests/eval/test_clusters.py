"""Clusters and units against hand-computed numbers and the paper's own row of chance."""

import numpy as np
import pytest
import sklearn.cluster

from eval.metrics import clusters


def test_nmi_by_hand():
    classes = np.array(["a", "a", "b", "b"])
    # H = 1 bit and 0.8113 bit; what they share is 0.8113 - 0.5 = 0.3113 bit.
    expected = 0.311278 / ((1 + 0.811278) / 2)
    assert clusters.nmi(classes, np.array([0, 0, 0, 1])) == pytest.approx(expected, abs=1e-5)
    assert clusters.nmi(classes, np.array([7, 7, 3, 3])) == pytest.approx(1)
    assert clusters.nmi(classes, np.array([0, 1, 0, 1])) == pytest.approx(0)


def test_random_assignments_give_the_papers_row():
    # Table 4: 1.9k test clips of 34 classes, 64 clusters: .165, which each clip twice is far from.
    classes = np.arange(1900) % 34
    drawn = clusters.random_clusterings(1900, 64, num_draws=10, seed=0)
    found = clusters.agreement(classes, drawn)
    assert np.mean(found.nmi) == pytest.approx(0.165, abs=0.002)
    assert np.mean(found.adjusted) == pytest.approx(0, abs=0.005)
    twice = clusters.random_clusterings(3800, 64, num_draws=3, seed=0)
    assert np.mean(clusters.agreement(np.arange(3800) % 34, twice).nmi) < 0.11


def test_error_of_nmi_is_the_jackknife_by_definition():
    rng = np.random.default_rng(0)
    classes = rng.integers(4, size=30)
    drawn = [np.where(rng.random(30) < 0.5, classes, rng.integers(6, size=30)) for _ in range(2)]
    without = [
        np.mean([clusters.nmi(np.delete(classes, k), np.delete(each, k)) for each in drawn])
        for k in range(30)
    ]
    expected = np.sqrt(29 / 30 * np.sum((np.array(without) - np.mean(without)) ** 2))
    assert clusters.nmi_error(classes, drawn) == pytest.approx(expected)
    assert clusters.nmi_error(classes, [classes]) == pytest.approx(0, abs=1e-12)


def test_error_of_nmi_is_that_over_other_clips():
    rng = np.random.default_rng(0)

    def draw():
        classes = rng.integers(34, size=1900)
        return classes, np.where(rng.random(1900) < 0.5, classes, rng.integers(64, size=1900))

    spread = np.std([clusters.nmi(*draw()) for _ in range(100)])
    classes, drawn = draw()
    assert clusters.nmi_error(classes, [drawn]) == pytest.approx(spread, rel=0.25)


def test_random_clusterings_are_uniform_and_repeat():
    first, second = clusters.random_clusterings(6400, 64, num_draws=2, seed=3)
    assert first.min() == 0 and first.max() == 63 and (first != second).any()
    assert np.bincount(first).min() > 50
    again, _ = clusters.random_clusterings(6400, 64, num_draws=2, seed=3)
    assert (first == again).all()


def test_kmeans_finds_what_is_apart():
    rng = np.random.default_rng(0)
    classes = np.arange(60) % 3
    features = np.eye(3)[classes] * 10 + rng.normal(size=(60, 3)) * 0.1
    found = clusters.kmeans_clustering(features, 3, seed=0)
    assert clusters.nmi(classes, found) == pytest.approx(1)
    assert (found == clusters.kmeans_clustering(features, 3, seed=0)).all()


def test_kmeans_is_the_best_of_ten_starts(monkeypatch):
    made, kmeans = [], sklearn.cluster.KMeans

    def recorded(num_clusters, **settings):
        made.append((num_clusters, settings))
        return kmeans(num_clusters, **settings)

    monkeypatch.setattr(sklearn.cluster, "KMeans", recorded)
    clusters.kmeans_clustering(np.arange(8.0)[:, None], 2, seed=5)
    assert made == [(2, {"n_init": 10, "random_state": 5})]


def test_unit_length():
    assert np.allclose(clusters.unit_length(np.array([[3.0, 4], [0, 0]])), [[0.6, 0.8], [0, 0]])


def _preferred(activations, classes, **settings):
    activations, classes = np.array(activations, float), np.array(list(classes))
    return clusters.preferred_classes(activations, classes, **settings)


def test_preferred_classes_by_hand():
    assert _preferred([[3], [1], [2]], "aba", num_needed=2, top=2) == {"a": 0}
    # Unit 0: top five a a a a b; unit 1: b b b c c; seven items.
    activations = [[9, 1], [8, 2], [7, 3], [6, 8], [5, 9], [4, 7], [3, 6]]
    assert _preferred(activations, "aaaabbc", num_needed=4) == {"a": 0}
    # Unit 0: a a a c b; unit 1: b c b c a.
    assert _preferred(activations, "aaacbbc", num_needed=3) == {"a": 0}
    assert _preferred(activations, "aaacbbc", num_needed=2) == {"a": 0, "b": 1, "c": 1}
    # Of units alike, the first is named.
    assert _preferred([[0, 1, 1]] * 3 + [[0, 0, 0]] * 3, "aaabbb", num_needed=3) == {"a": 1}


def test_equal_activations_rank_by_index():
    activations = [[1], [1], [1], [1], [0]]
    assert _preferred(activations, "aabbb", num_needed=2, top=3) == {"a": 0}
    assert _preferred(activations, "bbaaa", num_needed=2, top=3) == {"b": 0}


def test_units_that_nothing_excites_prefer_no_class():
    assert _preferred([[2]] * 6, "aaaabb", num_needed=3) == {}
    # Two items excite it; the next by index would be of class a, too.
    assert _preferred([[0], [0], [0], [5], [4], [0]], "aaaaab", num_needed=3) == {}
    assert _preferred([[0], [0], [0], [5], [4], [0]], "aaaaab", num_needed=2) == {"a": 0}
