"""Evaluations of both papers. Networks are seen only as SavedModels."""

import l3net  # noqa: F401  (before TensorFlow: it quiets TensorFlow's start-up notes)
