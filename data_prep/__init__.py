"""Offline preparation: videos on disk to TFRecord shards. No Keras here."""
