"""Shards, pair sampling, augmentation and the input pipeline."""
