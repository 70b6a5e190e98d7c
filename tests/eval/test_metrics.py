"""Sums of predictions against hand-computed numbers."""

import numpy as np

from eval.metrics import accuracy


def test_confusion_matrix_counts_by_true_class():
    matrix = accuracy.confusion_matrix(np.array([0, 0, 1]), np.array([0, 1, 1]), 2)
    assert matrix.tolist() == [[1, 1], [0, 1]]


def test_best_threshold_is_the_middle_of_the_docstring():
    assert accuracy.best_threshold(np.array([0.1, 0.4, 0.6]), np.array([0, 1, 1])) == 0.25
