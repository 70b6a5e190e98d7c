"""The demo data set's pictures, motions and sounds."""
