"""NumPy's .npz files, read so that any damage is one kind of error."""

import contextlib
import pathlib
import tokenize
import zipfile
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from l3net.errors import first_line
from l3net.files import regular

# NumPy evaluates a header as a piece of Python; a zip's members may claim to be packed in other
# ways, to be encrypted, or of any size.
ARRAY_ERRORS = (
    *(ValueError, KeyError, EOFError, SyntaxError, TypeError, MemoryError, OverflowError),
    *(NotImplementedError, RuntimeError, tokenize.TokenError, zipfile.BadZipFile, zlib.error),
)


@contextlib.contextmanager
def open_npz(path: str | pathlib.Path) -> Iterator[Any]:
    """Opens a .npz, whose arrays are read, and compared with their checksums, when asked for.

    Raises:
        FileNotFoundError: if there is none.
        OSError: if it cannot be read.
        ValueError: if it is damaged, is another file, or lacks an array that is asked for.
    """
    try:
        with contextlib.ExitStack() as opened:
            file = opened.enter_context(open(regular(path), "rb"))
            if not zipfile.is_zipfile(file):
                raise ValueError("it is no .npz file")
            file.seek(0)
            yield opened.enter_context(np.load(file, allow_pickle=False))
    except ARRAY_ERRORS as error:
        raise ValueError(first_line(error)) from error
