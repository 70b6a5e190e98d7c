"""Numbers that sum up results."""
