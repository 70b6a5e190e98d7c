"""Lets pip build openl3 without its weights: its setup.py fetches twelve files, here empty ones."""

import gzip
import urllib.request

urllib.request.urlretrieve = lambda url, path: gzip.open(path, "wb").close()
