"""A small real data set: handwritten digits that move while voices say them."""
