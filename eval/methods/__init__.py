"""What is evaluated: features and the classifiers on them."""
