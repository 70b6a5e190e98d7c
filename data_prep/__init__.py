"""Offline preparation: videos on disk to TFRecord shards. No Keras here."""

import l3net  # noqa: F401  (before TensorFlow: it quiets TensorFlow's start-up notes)
