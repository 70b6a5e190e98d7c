"""Tables, cached results, claims, seeds, curves."""
