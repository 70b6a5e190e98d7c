"""From rows of a manifest to shards."""
