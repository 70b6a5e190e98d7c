"""Which clips a data set has, and where their media are."""
