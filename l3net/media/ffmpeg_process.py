"""One ffmpeg process on a file from a stranger: which program, its rules and limits, why it failed.

The file may make it read no other file, call nobody, and take no more time, memory and output than
allowed; whatever becomes of the process is a MediaError with a reason.
"""

import contextlib
import errno
import functools
import math
import os
import pathlib
import re
import select
import selectors
import shutil
import signal
import stat
import subprocess
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import IO, NoReturn, TypeAlias, cast

from l3net import constants
from l3net.errors import UserError

try:
    import fcntl
    import resource
except ImportError:  # not a POSIX system
    fcntl = resource = None  # type: ignore[assignment]

_OLDEST = (5, 1)  # knows -fps_mode
ENVIRONMENT_VARIABLE = "L3NET_FFMPEG"
# Capital V: attached cover art is no video.
PICTURE, SOUND = "0:V", "0:a"  # before ":" and a track's number
_MISSING = {PICTURE: "no_video", SOUND: "no_audio"}
NAMES = {PICTURE: "picture", SOUND: "sound"}

# Containers that hold their streams themselves; playlists, concat lists and image patterns would
# let a file name other files.
_FORMATS = (
    "mov,mp4,matroska,webm,avi,flv,mpegts,mpeg,mpegvideo,asf,ogg,mxf,dv,rm,"
    "mp3,wav,w64,flac,aac,aiff,caf,amr,ac3,eac3,dts,au,voc,wv,tta,ape"
)
_MAX_PIXELS = 35_389_440  # 8192 x 4320
_MAX_BLOCK_BYTES = 256 << 20  # of one piece of memory
_MAX_CHANNELS = 16  # without a layout; ffmpeg cannot mix more
_MAX_STREAMS = 64  # films carry a stream per subtitle language
_MAX_HELD = 64  # pieces of data, until the streams are listed
_MAX_LISTED = 1000  # lines: a stream is listed once per programme that it belongs to
_PROBE_BYTES = 10_000_000
_PROBE_MICROSECONDS = 10_000_000
_MAX_ADDRESS_SPACE_BYTES = 4 << 30
_MAX_OUTPUT_BYTES = 1 << 30
_ERROR_TAIL_BYTES = 4096
_READ_BYTES = 1 << 16
# Of a clip's data. Linux lets all processes of a user have 64 MB of pipes: 90 clips at a time.
_LARGE_PIPE_BYTES = 1 << 18
_SHORTEST_REST_SECONDS, _LONGEST_REST_SECONDS = 0.001, 0.1
_STALL_SECONDS = 120.0
_DIAGNOSIS_SECONDS = 60.0
# ffmpeg's word, at exit status 0, for a gap in the sound too long to be filled.
_LOST_TIME = b"Failed to compensate for timestamp delta"
# What the filters of `sound_check` write among the error messages.
_IMPLAUSIBLE = b"lavfi.silence_end"
# "[h264 @ 0x5581] [error] text", with "-loglevel level+...".
_LEVELS = b"quiet|panic|fatal|error|warning|info|verbose|debug|trace"
_LEVEL = re.compile(rb"((?:\[[^\]]*\] )*?)\[(" + _LEVELS + rb")\] (.*)", re.DOTALL)
_ERRORS = (b"panic", b"fatal", b"error")
OnListing: TypeAlias = Callable[[list[str]], None]  # takes what `list_streams` returns


class MediaError(UserError):
    """A file that gives no clip.

    Attributes:
        outcome: "skipped" (a valid file that is no use to us) or "failed".
        reason: skipped: "no_audio", "no_video", "no_track", "too_short"; failed: "missing",
            "refused", "not_media", "decode", "bad_samples", "timeout", "killed", "damaged" (an
            archive).
        detail: more words, such as the end of ffmpeg's messages.
    """

    def __init__(
        self, path: str | os.PathLike, outcome: str, reason: str, detail: str = ""
    ) -> None:
        super().__init__(f"{path}: {outcome} ({reason}){': ' if detail else ''}{detail}")
        self.path, self.outcome, self.reason, self.detail = path, outcome, reason, detail

    def __reduce__(self):  # travels between processes
        return type(self), (self.path, self.outcome, self.reason, self.detail)


# --- Which ffmpeg --------------------------------------------------------------------------------
def find_ffmpeg() -> str:
    """Returns the ffmpeg to run: $L3NET_FFMPEG, else ffmpeg on PATH, else imageio-ffmpeg's.

    One on PATH that is too old is passed over; UserError if there is none that is new enough.
    """
    oldest = ".".join(map(str, _OLDEST))
    wanted = os.environ.get(ENVIRONMENT_VARIABLE)
    program = shutil.which(wanted or "ffmpeg")
    if wanted and not program:
        raise UserError(f"{ENVIRONMENT_VARIABLE} is {wanted!r}, which is no program; unset it?")
    if program and _is_new_enough(program):
        return program
    if wanted:
        raise UserError(
            f"{ENVIRONMENT_VARIABLE} is {wanted!r}, version {_version_of(program)}; need {oldest} "
            "or newer"
        )
    try:
        import imageio_ffmpeg

        return imageio_ffmpeg.get_ffmpeg_exe()
    except (ImportError, RuntimeError) as error:
        raise UserError(
            f"no ffmpeg of version {oldest} or newer; install one (apt install ffmpeg) or run pip "
            f"install imageio-ffmpeg, or name one in {ENVIRONMENT_VARIABLE}"
        ) from error


def ffmpeg_version() -> str:
    """Returns the version of the ffmpeg in use, such as "5.1.9-0+deb12u1"."""
    return _version_of(find_ffmpeg())


@functools.cache
def _version_of(program: str) -> str:
    try:
        answer = subprocess.run(
            [program, "-version"], capture_output=True, text=True, timeout=60, check=True
        ).stdout
    except (OSError, subprocess.SubprocessError) as error:
        raise UserError(f"{program} does not run ({error}); name another ffmpeg") from error
    match = re.match(r"ffmpeg version (\S+)", answer)
    if not match:
        raise UserError(f"{program} is no ffmpeg: its -version says {answer[:60]!r}")
    return match[1]


def has_filters(*names: str) -> bool:
    """Returns whether the ffmpeg in use was made with these filters."""
    return set(names) <= _filters_of(find_ffmpeg())


@functools.cache
def _filters_of(program: str) -> frozenset[str]:
    answer = subprocess.run(
        [program, "-hide_banner", "-filters"], capture_output=True, text=True, timeout=60
    ).stdout
    return frozenset(re.findall(r"^ \S+ +(\w+) ", answer, re.MULTILINE))


def _is_new_enough(program: str) -> bool:
    # "n9.0.2-17-g2a571b6068" and "5.1.9-0+deb12u1" are releases; a snapshot such as "N-12345-g..."
    # or "git-2024-01-01" has no number and passes.
    match = re.match(r"n?(\d+)\.(\d+)", _version_of(program))
    return match is None or (int(match[1]), int(match[2])) >= _OLDEST


# --- Which file -----------------------------------------------------------------------------------
def inside(root: str | pathlib.Path, relative: str | pathlib.Path) -> pathlib.Path:
    """Returns the absolute path of the regular file that a list of files names, links resolved.

    The root itself may be a link. The result holds no link any more, so what was checked is what
    is read, unless somebody who may write to the root changes it meanwhile. Raises MediaError
    "refused" if it leads out of the root or to anything but a regular file, else "missing".
    """
    try:
        root = pathlib.Path(root).resolve()
        path = (root / relative).resolve()
    except (OSError, RuntimeError, ValueError) as error:  # a loop of links, a NUL
        raise MediaError(relative, "failed", "refused", str(error)) from error
    if not path.is_relative_to(root):
        raise MediaError(relative, "failed", "refused", "leads out of the folder of the videos")
    _check_regular(path)
    return path


def _check_regular(path: str | pathlib.Path) -> None:
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError) as error:
        # Whether `resolve` raises for a loop of links depends on the version of Python.
        reason = "refused" if getattr(error, "errno", None) == errno.ELOOP else "missing"
        detail = getattr(error, "strerror", str(error))
        raise MediaError(path, "failed", reason, detail) from error
    if not stat.S_ISREG(mode):
        raise MediaError(path, "failed", "refused", "not a regular file")


# --- Rules ----------------------------------------------------------------------------------------
def input_arguments(
    path: str | pathlib.Path,
    *,
    seek_seconds: float = 0.0,
    seconds: float | None = None,
    strict: bool = False,
    listing: bool = False,
) -> list[str]:
    """Returns the arguments before the outputs: what a file from a stranger may make ffmpeg do.

    Reading begins at `seek_seconds` of the file's own time line and lasts for `seconds`, None: to
    the end. If `strict`, ffmpeg stops at the least decoding error; if `listing`, it lists the
    streams of the file among its messages, see `run_to_end`.
    """
    return [
        *("-nostdin", "-hide_banner", "-nostats", "-filter_threads", "1"),
        *("-loglevel", "level+info" if listing else "error"),
        *(["-xerror", "-err_detect", "explode"] if strict else []),
        *("-threads", "1", "-protocol_whitelist", "file", "-format_whitelist", _FORMATS),
        *("-max_pixels", str(_MAX_PIXELS), "-max_alloc", str(_MAX_BLOCK_BYTES)),
        *("-max_streams", str(_MAX_STREAMS), "-probesize", str(_PROBE_BYTES)),
        *("-analyzeduration", str(_PROBE_MICROSECONDS)),
        *(["-ss", f"{seek_seconds:.6f}"] if seek_seconds else []),
        *(["-t", f"{seconds:.6f}"] if seconds is not None else []),
        *("-i", f"file:{path}", "-sn", "-dn"),
    ]


def sound_check() -> str:
    """Returns filters that end the decoding with "bad_samples" at the first implausible sample.

    Those are NaN, infinite or beyond `MAX_LEVEL`, which 16-bit sound cannot show any more. They
    look at a copy as floats and leave the sound as it is. What is within the level is `silence` to
    them, a millisecond of zeros put in front the first of it, so the first other sample ends it.
    """
    return (
        "asplit[sound],aresample,aformat=sample_fmts=fltp|dblp,adelay=1:all=1,"
        f"silencedetect=n={constants.MAX_LEVEL}:d=0,"
        "ametadata=mode=print:key=lavfi.silence_end:direct=1:file='pipe\\:2',anullsink;[sound]"
    )


# --- Running it -----------------------------------------------------------------------------------
def run_to_end(
    path: str | pathlib.Path,
    arguments: Callable[..., list[str]],
    num_pipes: tuple[int, int],
    timeout_seconds: float,
    strict: bool,
    on_listing: OnListing | None = None,
) -> list[bytearray]:
    """Runs ffmpeg to its end; returns what came out of each pipe.

    `arguments` takes one file descriptor per pipe, first those for a few words, then those for
    data, and returns ffmpeg's arguments. If `strict`, any message is a failure. `on_listing` gets
    the streams (see `list_streams`) before the decoding begins; what it raises ends it. Raises
    MediaError if the file is none for us, or ffmpeg failed, was killed or wrote too much.
    """
    num_words, num_data = num_pipes
    outputs = [bytearray() for _ in range(num_words + num_data)]
    with _started(path, arguments, len(outputs), on_listing, timeout_seconds) as child:
        for index, chunk in child.chunks(gathered=range(num_words, len(outputs))):
            outputs[index] += chunk
            if sum(map(len, outputs)) > _MAX_OUTPUT_BYTES:
                raise MediaError(path, "failed", "refused", "too much output for one clip")
        child.check(strict)
    return outputs


def stream(
    path: str | pathlib.Path,
    arguments: Callable[..., list[str]],
    on_listing: OnListing | None = None,
) -> Generator[bytes, None, None]:
    """Runs ffmpeg with two pipes: a few words come out of the first one, data out of the second.

    Yields all words that came before the first data, then the data; nothing if there is no data.
    `on_listing` is as in `run_to_end`. Raises MediaError as that does, but only waiting for output
    is limited, not the total time.
    """
    with _started(path, arguments, 2, on_listing, None) as child:
        words, started = b"", False
        for index, chunk in child.chunks():
            if index == 0:
                words += chunk
                continue
            if not started:
                started = True
                yield words
            yield chunk
        child.check()


def _started(
    path: str | pathlib.Path,
    arguments: Callable[..., list[str]],
    num_pipes: int,
    on_listing: OnListing | None,
    timeout_seconds: float | None,
) -> "_Child":
    if on_listing is None:
        return _Child(path, arguments, num_pipes, timeout_seconds=timeout_seconds)
    return _Telling(path, arguments, num_pipes, on_listing, timeout_seconds)


class _Child:
    """One ffmpeg process with several pipes out of it; a context manager.

    A timeout of None limits each wait for output instead of the total time, so that a slow reader
    of a long stream is no reason to kill. Error messages are no output.
    """

    def __init__(
        self,
        path: str | pathlib.Path,
        arguments: Callable[..., list[str]],
        num_pipes: int,
        *,
        timeout_seconds: float | None = None,
    ) -> None:
        _check_regular(path)
        self._path, self._timeout_seconds = path, timeout_seconds
        self._error_tail, self._has_lost_time = b"", False
        program, pipes = find_ffmpeg(), [os.pipe() for _ in range(num_pipes)]
        self._readers = [reader for reader, _ in pipes]
        writers = [writer for _, writer in pipes]
        self._arguments = arguments(*writers)
        try:
            self._process = subprocess.Popen(
                [program, *self._arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                pass_fds=writers,
                start_new_session=True,  # a process group of its own, to be killed as one
            )
        except OSError as error:
            self._close_readers()
            raise UserError(f"cannot start {program}: {error}") from error
        finally:
            for writer in writers:
                os.close(writer)
        self._errors = cast(IO[bytes], self._process.stderr)
        self._deadline = self._new_deadline()
        _limit(self._process.pid, timeout_seconds)

    def __enter__(self) -> "_Child":
        return self

    def __exit__(self, *_) -> None:
        self._close_readers()
        if self._process.poll() is None:
            self._kill()
        self._errors.close()
        self._process.wait()

    def chunks(self, gathered: Sequence[int] = ()) -> Iterator[tuple[int, bytes]]:
        """Yields (pipe index, bytes), lower pipes first; those `gathered` carry the most data."""
        error_pipe = self._errors.fileno()
        indices = {reader: index for index, reader in enumerate(self._readers)}
        rest = _Rest([self._readers[index] for index in gathered], error_pipe)
        with selectors.DefaultSelector() as selector:
            for reader in (*self._readers, error_pipe):
                selector.register(reader, selectors.EVENT_READ)
            while selector.get_map():
                ready = selector.select(max(0.0, self._deadline - time.monotonic()))
                if not ready or time.monotonic() > self._deadline:
                    self._give_up()
                if gathered:
                    rest.take()
                    ready = selector.select(0)
                for reader in sorted(key.fd for key, _ in ready):
                    chunk = rest.read(reader)
                    if not chunk:
                        selector.unregister(reader)
                    elif reader == error_pipe:
                        self._keep_message(chunk)
                    else:
                        yield indices[reader], chunk
                        if self._timeout_seconds is None:
                            self._deadline = self._new_deadline()

    def _keep_message(self, message: bytes) -> None:
        tail = self._error_tail + message
        self._has_lost_time |= _LOST_TIME in tail  # later messages may push it out
        if _IMPLAUSIBLE in tail:
            detail = f"sound with NaN, infinite values or beyond {constants.MAX_LEVEL} x full scale"
            raise MediaError(self._path, "failed", "bad_samples", detail)
        self._error_tail = tail[-_ERROR_TAIL_BYTES:]

    def check(self, strict: bool = False) -> None:
        """Waits for the end; raises MediaError, with the class of failure, unless all went well."""
        code = self._wait()
        message = one_line(self._error_tail, self._path)
        if not code:
            if self._has_lost_time:
                raise MediaError(self._path, "failed", "decode", _LOST_TIME.decode())
            if strict and message:
                raise MediaError(self._path, "failed", "decode", message)
            return
        if code > 0:
            raise _diagnosis(self._path, self._wanted(), message)
        for stream in self._wanted() if -code == signal.SIGABRT else ():
            if _kind(stream) == SOUND and _is_empty(self._path, stream):
                raise _empty(self._path, stream)  # some versions abort then
        reason = "timeout" if -code == signal.SIGXCPU else "killed"
        raise MediaError(self._path, "failed", reason, f"{_signal_name(-code)} {message}".strip())

    def _wanted(self) -> list[str]:
        """Returns the streams that were to be decoded."""
        return [each for each in self._arguments if _kind(each) in NAMES]

    @property
    def messages(self) -> bytes:
        """The end of what ffmpeg said so far."""
        return self._error_tail

    def succeeds(self) -> bool:
        """Waits for the end, whatever comes out; returns whether ffmpeg reports success."""
        for _ in self.chunks():
            pass
        return self._wait() == 0

    def _new_deadline(self) -> float:
        patience = _STALL_SECONDS if self._timeout_seconds is None else self._timeout_seconds
        return time.monotonic() + patience

    def _wait(self) -> int:
        try:
            return self._process.wait(max(0.0, self._deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            self._give_up()

    def _give_up(self) -> NoReturn:
        self._kill()
        if self._timeout_seconds is None:
            detail = f"no output for {_STALL_SECONDS:g} s"
        else:
            detail = f"not done after {self._timeout_seconds:g} s"
        raise MediaError(self._path, "failed", "timeout", detail)

    def _kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def _close_readers(self) -> None:
        for reader in self._readers:
            os.close(reader)


class _Telling(_Child):
    """An ffmpeg that lists the streams of its file among its messages ("-loglevel level+info")."""

    def __init__(
        self,
        path: str | pathlib.Path,
        arguments: Callable[..., list[str]],
        num_pipes: int,
        on_listing: OnListing,
        timeout_seconds: float | None,
    ) -> None:
        self._lines: list[str] = []
        self._on_listing: OnListing | None = on_listing
        self._rest, self._num_bytes = b"", 0
        super().__init__(path, arguments, num_pipes, timeout_seconds=timeout_seconds)

    def chunks(self, gathered: Sequence[int] = ()) -> Iterator[tuple[int, bytes]]:
        """As `_Child.chunks`, after the listing: written first, it may be read second."""
        held = []
        for each in super().chunks(gathered):
            held.append(each)
            if self._on_listing is not None and len(held) < _MAX_HELD:
                continue
            self._tell()
            yield from held
            held.clear()
        self._tell()
        yield from held

    def _keep_message(self, message: bytes) -> None:
        self._num_bytes += len(message)
        if self._num_bytes > _MAX_OUTPUT_BYTES:
            raise MediaError(self._path, "failed", "refused", "too many messages")
        *lines, rest = (self._rest + message).split(b"\n")
        self._rest = rest[-_ERROR_TAIL_BYTES:]
        kept = []
        for line in lines:
            match = _LEVEL.match(line)
            if match is None:
                kept.append(line + b"\n")
            elif match[2] in _ERRORS:
                kept.append(match[1] + match[3] + b"\n")
            elif self._on_listing is not None:
                self._listen(match[3])
        super()._keep_message(b"".join(kept))

    def _listen(self, line: bytes) -> None:
        is_stream = line.lstrip().startswith(b"Stream #0:") and len(line) < _ERROR_TAIL_BYTES
        if is_stream and len(self._lines) < _MAX_LISTED:
            self._lines.append(line.decode(errors="replace"))
        elif line.startswith(b"Stream mapping:"):
            self._tell()

    def _tell(self) -> None:
        """Hands over the listing as far as it came, once."""
        on_listing, self._on_listing = self._on_listing, None
        if on_listing is not None:
            on_listing(self._lines)

    def check(self, strict: bool = False) -> None:
        self._keep_message(b"\n")  # the end of the last line
        super().check(strict)


def list_streams(path: str | pathlib.Path, timeout_seconds: float | None = None) -> list[str]:
    """Returns the lines "Stream #0:0: Video: ..." in which ffmpeg says what a file holds.

    None if it cannot be opened; decoding it says why. Raises MediaError if that takes longer than
    the timeout, None: than streams may stall.
    """
    lines: list[str] = []

    def arguments() -> list[str]:
        return input_arguments(path, listing=True)

    with _Telling(path, arguments, 0, lines.extend, timeout_seconds) as child:
        child.succeeds()  # never: it has no output
    return lines


class _Rest:
    """Between two looks at pipes, so that data gathers in them: each look costs.

    A rest is as long as the fullest pipe takes to be half full, judged by the last look; it ends
    when the pipe `end` is closed.
    """

    def __init__(self, pipes: Sequence[int], end: int) -> None:
        self._rooms = {pipe: _enlarged(pipe) for pipe in pipes}
        self._seconds, self._fullest = _SHORTEST_REST_SECONDS, 0.0  # share of a pipe's room
        self._end = select.poll()
        self._end.register(end, 0)  # no other event

    def take(self) -> None:
        """Waits."""
        seconds = self._seconds * 0.5 / max(self._fullest, 0.25)
        self._seconds = min(max(seconds, _SHORTEST_REST_SECONDS), _LONGEST_REST_SECONDS)
        self._fullest = 0.0
        self._end.poll(1000 * self._seconds)

    def read(self, pipe: int) -> bytes:
        """Returns what is in a pipe; b"" at its end."""
        room = self._rooms.get(pipe, _READ_BYTES)
        chunk = os.read(pipe, room)
        self._fullest = max(self._fullest, len(chunk) / room)
        return chunk


def _enlarged(pipe: int) -> int:
    """Makes a pipe larger, if the system allows; returns how many bytes it takes, at least."""
    if hasattr(fcntl, "F_SETPIPE_SZ"):
        with contextlib.suppress(OSError):  # this user has too many
            return fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, _LARGE_PIPE_BYTES)
    return _READ_BYTES


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # most real-time signals have no name
        return f"signal {number}"


def _limit(pid: int, cpu_seconds: float | None) -> None:
    """Limits a child's memory, processor time and files; on Linux, from outside.

    From outside because code between fork and exec is slow and unsafe in a process with threads.
    """
    if not hasattr(resource, "prlimit"):
        return
    limits = {
        resource.RLIMIT_AS: _MAX_ADDRESS_SPACE_BYTES,
        resource.RLIMIT_FSIZE: 0,  # pipes do not count; it has no file to write
        resource.RLIMIT_CORE: 0,
    }
    if cpu_seconds is not None:
        limits[resource.RLIMIT_CPU] = math.ceil(cpu_seconds)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        for limit, value in limits.items():
            hard = resource.prlimit(pid, limit)[1]
            if hard != resource.RLIM_INFINITY:
                value = min(value, hard)
            resource.prlimit(pid, limit, (value, hard))


# --- Why it failed --------------------------------------------------------------------------------
def one_line(messages: bytes, path: str | pathlib.Path) -> str:
    """Returns the end of ffmpeg's messages on one line, without what differs between two runs."""
    text = messages.decode(errors="replace")
    text = text.replace(f"file:{path}", "file").replace(str(path), "file")
    text = re.sub(r"\[([^\]@]+) @ 0x[0-9a-f]+\]", r"[\1]", text)
    text = re.sub(r"pipe:\d+", "pipe", text)
    lines = dict.fromkeys(line.strip() for line in text.splitlines() if line.strip())
    return "".join(c if c.isprintable() else "?" for c in "; ".join(lines))[-300:]


def _diagnosis(path: str | pathlib.Path, wanted: list[str], message: str) -> MediaError:
    """Returns why ffmpeg failed, asking it again what the file holds."""
    if not _succeeds(path, "-f", "ffmetadata"):
        refused = "whitelist" in message.lower()
        return MediaError(path, "failed", "refused" if refused else "not_media", message)
    for stream in wanted:
        copied = ("-c", "copy", "-frames", "1")
        if _succeeds(path, "-map", stream, *copied, "-f", "null"):
            continue
        # A stream that is there but cannot even be copied has no size, for one.
        if _succeeds(path, "-map", f"{stream}?", *copied, "-f", "ffmetadata"):
            return MediaError(path, "skipped", _MISSING[_kind(stream)])
    for stream in wanted:
        if _is_empty(path, stream):
            return _empty(path, stream)
    sounds = [stream for stream in wanted if _kind(stream) == SOUND]
    said = b"".join(_packet(path, stream)[2] for stream in sounds)
    channels = re.search(rb"Audio: .* (\d+) channels", said)
    if channels and int(channels[1]) > _MAX_CHANNELS:
        detail = f"{int(channels[1])} channels of sound without a layout; need at most"
        return MediaError(path, "failed", "refused", f"{detail} {_MAX_CHANNELS}: mix them first")
    return MediaError(path, "failed", "decode", message)


def _kind(stream: str) -> str:
    return stream.rpartition(":")[0]


def _is_empty(path: str | pathlib.Path, stream: str) -> bool:
    is_there, packet, _ = _packet(path, stream)
    return is_there and not packet


def _empty(path: str | pathlib.Path, stream: str) -> MediaError:
    return MediaError(path, "skipped", "too_short", f"its {NAMES[_kind(stream)]} has no content")


def _packet(path: str | pathlib.Path, stream: str) -> tuple[bool, bytes, bytes]:
    """Returns whether a stream can be copied, its first packet, and what ffmpeg says."""

    def arguments(pipe: int) -> list[str]:
        output = ("-map", stream, "-c", "copy", "-frames", "1", "-f", "data", f"pipe:{pipe}")
        return [*input_arguments(path), "-loglevel", "info", *output]

    with _Child(path, arguments, 1, timeout_seconds=_DIAGNOSIS_SECONDS) as child:
        packet = b"".join(chunk for _, chunk in child.chunks())
        return child.succeeds(), packet, child.messages


def _succeeds(path: str | pathlib.Path, *output: str) -> bool:
    """Returns whether ffmpeg reports success; raises MediaError if it takes too long."""

    def arguments(pipe: int) -> list[str]:
        return [*input_arguments(path), *output, f"pipe:{pipe}"]

    with _Child(path, arguments, 1, timeout_seconds=_DIAGNOSIS_SECONDS) as child:
        return child.succeeds()
