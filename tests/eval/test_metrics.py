"""Sums of predictions against hand-computed numbers."""

import numpy as np

from eval.metrics import accuracy


def test_best_threshold_is_the_middle_of_the_docstring():
    assert accuracy.best_threshold(np.array([0.1, 0.4, 0.6]), np.array([0, 1, 1])) == 0.25
