"""Prepared folders behind an address, such as s3://bucket/shards, read as those on a disk are.

TensorFlow reads addresses through its own file systems (`tf.io.gfile`). Those that it lacks come
with tensorflow-io, which is imported when an address needs it. Credentials and the endpoint are in
the environment, as the file system wants them: for S3 AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY,
AWS_REGION, S3_ENDPOINT, ….
"""

import contextlib
import ctypes
import dataclasses
import functools
import os
import pathlib
import secrets
from collections.abc import Iterator

import tensorflow as tf

from l3net import files
from l3net.errors import UserError, first_line, needs_extra


@dataclasses.dataclass(frozen=True)
class RemotePath:
    """A file or folder at an address: the methods of `pathlib.Path` that reading shards needs.

    What cannot be read raises OSError, FileNotFoundError where there is nothing.

    Attributes:
        address: with its scheme, without a slash at the end.
    """

    address: str

    def __str__(self) -> str:
        return self.address

    def __truediv__(self, name: str) -> "RemotePath":
        return RemotePath(f"{self.address}/{name}")

    @property
    def name(self) -> str:
        """What comes after the last slash."""
        return self.address.rpartition("/")[2]

    @property
    def parent(self) -> "RemotePath":
        """The folder that holds it."""
        return RemotePath(self.address.rpartition("/")[0])

    def with_name(self, name: str) -> "RemotePath":
        """Returns another file of the same folder."""
        return self.parent / name

    def is_dir(self) -> bool:
        """Returns whether it is a folder; object storage has those that hold something."""
        with _os_errors(), contextlib.suppress(tf.errors.NotFoundError):
            return tf.io.gfile.stat(self.address).is_directory
        return False

    def exists(self) -> bool:
        """Returns whether there is a file or folder."""
        with _os_errors(), contextlib.suppress(tf.errors.NotFoundError):
            tf.io.gfile.stat(self.address)
            return True
        return False

    def iterdir(self) -> Iterator["RemotePath"]:
        """Yields what a folder holds."""
        with _os_errors():
            names = tf.io.gfile.listdir(self.address)
        for name in names:
            yield self / name.rstrip("/")

    def read_text(self) -> str:
        """Reads a file of UTF-8 text."""
        with _os_errors(), self.open() as file:
            return file.read().decode()

    def num_bytes(self) -> int:
        """Returns a file's size."""
        with _os_errors():
            return tf.io.gfile.stat(self.address).length

    def open(self) -> tf.io.gfile.GFile:
        """Opens a file for reading bytes; it reads half a megabyte ahead."""
        return tf.io.gfile.GFile(self.address, "rb")


Location = pathlib.Path | RemotePath


def read_head(path: Location, num_bytes: int) -> tuple[bytes, int]:
    """Returns a file's first bytes, and its size; OSError if it cannot be read."""
    if isinstance(path, RemotePath):
        with _os_errors(), path.open() as file:
            return file.read(num_bytes), file.size()
    with open(files.regular(path), "rb", buffering=0) as file:
        return file.read(num_bytes), os.fstat(file.fileno()).st_size


def locate(address: str | Location) -> Location:
    """Returns what reads a folder: `RemotePath` if it has a scheme, such as s3:// or gs://.

    Raises:
        UserError: if TensorFlow has no file system for that scheme, and tensorflow-io is missing or
            brings none, either.
    """
    if not isinstance(address, str):
        return address
    scheme, has_scheme, _ = address.partition("://")
    if not has_scheme:
        return pathlib.Path(address)
    if scheme not in _schemes():
        with needs_extra("io", f"reading {address}"):
            import tensorflow_io
        if scheme not in _schemes():
            raise UserError(
                f"cannot read {address}: neither TensorFlow {tf.__version__} nor tensorflow-io "
                f"{tensorflow_io.__version__}, which must fit it, has a file system {scheme}://"
            )
    if scheme == "s3":
        _end_without_destructors()
    return RemotePath(address.rstrip("/"))


@functools.cache
def _end_without_destructors() -> None:
    """Lets this process end with its own status, once S3 was read.

    tensorflow-io 0.37.1 destroys the log of its S3 client before the client, which then aborts
    ("pure virtual method called"). So C's `exit` ends here, after all of Python's own clean-up.
    """
    libc = ctypes.CDLL(None)
    if hasattr(libc, "on_exit"):  # glibc
        libc.on_exit(libc._exit, None)


def _schemes() -> list[str]:
    known = tf.io.gfile.get_registered_schemes()
    return [scheme.decode() if isinstance(scheme, bytes) else scheme for scheme in known]


@contextlib.contextmanager
def written_whole(path: Location) -> Iterator[Location]:
    """Yields where to write a file, which gets its own name when it is complete.

    Raises:
        UserError: if that is at an address where nothing can be written.
    """
    if isinstance(path, pathlib.Path):
        with files.written_whole(path) as partial:
            yield partial
        return
    unfinished = path.with_name(f"{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        tf.io.gfile.makedirs(str(path.parent))
        yield unfinished
        tf.io.gfile.rename(str(unfinished), str(path), overwrite=True)
    except tf.errors.OpError as error:
        raise UserError(
            f"cannot write {path} ({first_line(error)}); it is kept with the shards"
        ) from error
    finally:
        with contextlib.suppress(tf.errors.OpError):
            tf.io.gfile.remove(str(unfinished))


@contextlib.contextmanager
def _os_errors() -> Iterator[None]:
    """Raises TensorFlow's errors of reading as those of a disk."""
    try:
        yield
    except tf.errors.NotFoundError as error:
        raise FileNotFoundError(first_line(error)) from error
    except tf.errors.OpError as error:
        raise OSError(first_line(error)) from error
