"""What exported networks are used for: features, search."""
