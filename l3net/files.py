"""Writes a file whole, then gives it its name: nobody ever sees half of it."""

import os
import pathlib
import secrets


def write_whole(path: str | pathlib.Path, data: str | bytes) -> None:
    """Writes a file so that it is never seen in part, even after a power cut.

    Args:
        path: of the file, replaced if it exists; its folder is made if need be.
        data: its contents; text is written as UTF-8.
    """
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # Drawn: two processes, on one machine or two, that write the same file share no half of it.
    partial = path.with_name(f"{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with open(partial, "wb") as file:
            file.write(data.encode() if isinstance(data, str) else data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
