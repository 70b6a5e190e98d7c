"""Files made to do harm: to read other files, to call out, or to eat time and memory.

Each file that names another names a named pipe: opening it is seen at its other end, whatever
becomes of the clip.
"""

import base64
import contextlib
import os
import pathlib
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest

from l3net.media import ffmpeg, ffmpeg_process
from tests.conftest import make_video, run_ffmpeg
from tests.tiny_ffmpeg import failure_of, fake_ffmpeg, outcome_of

ROOT = pathlib.Path(__file__).parents[3]
# Which of the two depends on whether this ffmpeg recognizes a list under such a name.
REFUSALS = {("failed", "refused"), ("failed", "not_media")}
HOURS_10 = 36_000


@pytest.fixture(scope="module")
def innocent(tmp_path_factory) -> pathlib.Path:
    return make_video(tmp_path_factory.mktemp("innocent") / "innocent.mp4")


@contextlib.contextmanager
def bait(path: pathlib.Path) -> Iterator[threading.Event]:
    """A named pipe; the event tells whether anybody has opened it."""
    os.mkfifo(path)
    taken, over = threading.Event(), threading.Event()

    def watch() -> None:
        while not over.wait(0.005):
            with contextlib.suppress(OSError):  # refused while nobody reads
                os.close(os.open(path, os.O_WRONLY | os.O_NONBLOCK))
                taken.set()
                return

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield taken
    finally:
        over.set()
        watcher.join()


# --- Files that name other files -----------------------------------------------------------------
HLS = "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{name}\n#EXT-X-ENDLIST\n"
DASH = """<?xml version="1.0"?>
<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" mediaPresentationDuration="PT2S"
 minBufferTime="PT1S" profiles="urn:mpeg:dash:profile:isoff-on-demand:2011"><Period>
<AdaptationSet mimeType="video/mp4"><Representation id="0" codecs="avc1" bandwidth="9" width="64"
 height="48"><BaseURL>{name}</BaseURL><SegmentBase/></Representation></AdaptationSet>
</Period></MPD>
"""
LISTS = {
    "hls": HLS,
    "hls of hls": "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=9\n{name}\n",
    "hls key": '#EXTM3U\n#EXT-X-KEY:METHOD=AES-128,URI="{name}"\n#EXTINF:9,\n{name}\n',
    "dash": DASH,
    "ffconcat": "ffconcat version 1.0\nfile {name}\n",
    "asx": "[Reference]\nRef1=file:{name}\n",
    "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 9 RTP/AVP 96\n",
}


# As an attacker would name it, and as such lists are named.
SUFFIXES = {"hls": "m3u8", "hls of hls": "m3u8", "hls key": "m3u8", "dash": "mpd"}


@pytest.mark.parametrize(
    ("kind", "suffix"),
    [pair for kind in LISTS for pair in ((kind, "mp4"), (kind, SUFFIXES.get(kind, kind)))],
)
def test_a_list_reads_no_other_file(tmp_path, kind, suffix):
    path = tmp_path / f"list.{suffix}"
    with bait(tmp_path / "bait.ts") as taken:
        for name in ("bait.ts", f"{tmp_path}/bait.ts", f"file:{tmp_path}/bait.ts"):
            path.write_text(LISTS[kind].format(name=name))
            assert outcome_of(path) in REFUSALS
        assert not taken.wait(0.02)


def test_without_the_rules_the_bait_is_taken(tmp_path, monkeypatch):
    formats = f"{ffmpeg_process._FORMATS},concat"
    monkeypatch.setattr(ffmpeg_process, "_FORMATS", formats)
    path = tmp_path / "list.mp4"
    path.write_text(LISTS["ffconcat"].format(name="bait.ts"))
    with bait(tmp_path / "bait.ts") as taken:
        assert bites(ffmpeg_process.input_arguments(path), taken)


def bites(arguments: list[str], taken: threading.Event) -> bool:
    """Runs ffmpeg until the bait is taken."""
    command = [ffmpeg.find_ffmpeg(), *arguments, "-f", "null", "-"]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        try:
            return taken.wait(10)
        finally:
            process.kill()


def test_a_playlist_for_subtitles_in_an_avi_reads_no_other_file(tmp_path):
    path = make_video(tmp_path / "x.avi", options=("-c:a", "pcm_s16le"))
    plain = ffmpeg.decode_clip(path)
    playlist = HLS.format(name=f"file:{tmp_path}/bait.ts").encode()
    gab2 = b"GAB2\0" + struct.pack("<HIHI", 2, 0, 4, len(playlist)) + playlist
    gab2 += b"\0" * (len(gab2) % 2)
    header = b"txts" + bytes(16) + struct.pack("<IIIIIII", 1, 1, 0, 1, 0, 0, 0) + bytes(8)
    stream = _riff(b"LIST", b"strl" + _riff(b"strh", header) + _riff(b"strf", b""))
    data = path.read_bytes()
    lists = {data[at + 8 : at + 12]: at for at in _chunks(data, 12)}
    first, movie = lists[b"hdrl"], lists[b"movi"]
    end = first + 8 + int.from_bytes(data[first + 4 : first + 8], "little")
    movie_end = movie + 8 + int.from_bytes(data[movie + 4 : movie + 8], "little")
    headers = _riff(b"LIST", data[first + 8 : end] + stream)
    packets = _riff(b"LIST", b"movi" + _riff(b"02tx", gab2) + data[movie + 12 : movie_end])
    path.write_bytes(_riff(b"RIFF", b"AVI " + headers + packets))
    with bait(tmp_path / "bait.ts") as taken:
        clip = ffmpeg.decode_clip(path)
        assert not taken.wait(0.02)
    assert clip.frames == plain.frames[: len(clip.frames)]


def _riff(name: bytes, content: bytes) -> bytes:
    return name + struct.pack("<I", len(content)) + content


def _chunks(data: bytes, position: int) -> Iterator[int]:
    while position < len(data):
        yield position
        size = int.from_bytes(data[position + 4 : position + 8], "little")
        position += 8 + size + size % 2


def _with_outside_media(data: bytes, name: str) -> bytes:
    """Makes a QuickTime file say that its first track's samples lie in another file."""
    alias = bytes(10 + 28 + 12 + 64 + 16) + struct.pack(">HH", 1, 1) + bytes(16)
    alias += struct.pack(">HH", 2, len(name)) + name.encode() + bytes(len(name) % 2)
    alias += b"\xff\xff\0\0"
    old = data.index(b"url \0\0\0\1") - 4
    new = struct.pack(">I4sI", 12 + len(alias), b"alis", 0) + alias
    grown = len(new) - 12
    data = data[:old] + new + data[old + 12 :]
    for box in (b"moov", b"trak", b"mdia", b"minf", b"dinf", b"dref"):
        at = data.index(box) - 4  # the first track's; what grew is at the end of the file
        size = int.from_bytes(data[at : at + 4], "big") + grown
        data = data[:at] + size.to_bytes(4, "big") + data[at + 4 :]
    return data


def test_media_outside_of_the_file_is_not_read(tmp_path):
    path = make_video(tmp_path / "x.mov")
    path.write_bytes(_with_outside_media(path.read_bytes(), "bait.ts"))
    with bait(tmp_path / "bait.ts") as taken:
        with contextlib.suppress(ffmpeg.MediaError):
            ffmpeg.decode_clip(path)
        assert not taken.wait(0.02)
        # The file is what it claims to be: with the option that nobody should pass, it bites.
        assert bites(["-nostdin", "-enable_drefs", "1", "-i", str(path)], taken)


@pytest.mark.parametrize("kind", ["hls", "dash", "ffconcat"])
def test_nothing_calls_out(tmp_path, kind):
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        address = f"127.0.0.1:{server.getsockname()[1]}"
        path = tmp_path / "list.mp4"
        path.write_text(LISTS[kind].format(name=f"http://{address}/x.ts"))
        assert outcome_of(path) in REFUSALS
        for protocol in ("http", "tcp", "rtmp", "ftp", "rtsp"):
            assert outcome_of(f"{protocol}://{address}/x.mp4") == ("failed", "missing")
        with pytest.raises(BlockingIOError):
            server.accept()


def test_a_protocol_is_no_path(innocent):
    content = base64.b64encode(innocent.read_bytes()).decode()
    for path in (
        f"file:{innocent}",
        f"concat:{innocent}|{innocent}",
        f"subfile,,start,0,end,0,,:{innocent}",
        f"cache:{innocent}",
        f"async:{innocent}",
        f"crypto:{innocent}",
        f"data:video/mp4;base64,{content}",
        "pipe:0",
        "fd:0",
        "-",
    ):
        assert outcome_of(path) == ("failed", "missing")


# --- Which file ----------------------------------------------------------------------------------
def test_only_regular_files_inside_the_folder(tmp_path):
    root, outside = tmp_path / "root", tmp_path / "outside.mp4"
    (root / "sub").mkdir(parents=True)
    outside.write_bytes(b"secret")
    (root / "real.mp4").touch()
    (root / "link.mp4").symlink_to("real.mp4")
    (root / "sub" / "up.mp4").symlink_to(root / "link.mp4")
    (tmp_path / "linked_root").symlink_to(root)
    for folder in (root, tmp_path / "linked_root"):
        for name in ("real.mp4", "link.mp4", "sub/up.mp4", "sub/../real.mp4"):
            assert ffmpeg.inside(folder, name) == (root / "real.mp4").resolve()
    (root / "out.mp4").symlink_to(outside)
    (root / "parent").symlink_to(tmp_path)
    (root / "zero.mp4").symlink_to("/dev/zero")
    (root / "loop.mp4").symlink_to("loop.mp4")
    os.mkfifo(root / "fifo.mp4")
    with socket.socket(socket.AF_UNIX) as unix:
        unix.bind(os.path.relpath(root / "socket.mp4"))
    for name in (
        *("out.mp4", "parent/outside.mp4", "zero.mp4", "loop.mp4", "fifo.mp4", "socket.mp4"),
        *("sub", "..", "../outside.mp4", str(outside), "/dev/zero", "nul\0.mp4"),
    ):
        with pytest.raises(ffmpeg.MediaError) as caught:
            ffmpeg.inside(root, name)
        assert (caught.value.outcome, caught.value.reason) == ("failed", "refused"), name
    with pytest.raises(ffmpeg.MediaError) as caught:
        ffmpeg.inside(root, "none.mp4")
    assert (caught.value.outcome, caught.value.reason) == ("failed", "missing")


def test_devices_pipes_and_sockets_are_refused_by_any_path(tmp_path):
    with socket.socket(socket.AF_UNIX) as unix:
        unix.bind(os.path.relpath(tmp_path / "socket"))
        assert outcome_of(tmp_path / "socket") == ("failed", "refused")
    read_end, write_end = os.pipe()  # endless: nobody ever writes
    try:
        assert outcome_of(f"/dev/fd/{read_end}") == ("failed", "refused")
    finally:
        os.close(read_end)
        os.close(write_end)
    assert outcome_of("/dev/zero") == ("failed", "refused")


# --- Files that eat time and memory --------------------------------------------------------------
# A new process's ru_maxrss begins with its parent's; the kernel's own high-water mark does not.
_MEASURED = """
import pathlib, re, resource, sys
from l3net.media import ffmpeg
try:
    clip = ffmpeg.decode_clip(sys.argv[1], timeout_seconds=60)
    result = f"ok {len(clip.frames)}"
except ffmpeg.MediaError as error:
    result = f"{error.outcome} {error.reason}"
own = int(re.search(r"VmHWM:\\s+(\\d+)", pathlib.Path("/proc/self/status").read_text())[1])
children = resource.getrusage(resource.RUSAGE_CHILDREN)
print(result, own // 1024, children.ru_maxrss // 1024, children.ru_utime, sep=",")
"""


def measured(path: pathlib.Path) -> tuple[str, int, int, float]:
    """Returns what became of a clip, peak MB of this process and of ffmpeg, ffmpeg's CPU time."""
    command = [sys.executable, "-c", _MEASURED, str(path)]
    output = subprocess.check_output(command, cwd=ROOT, text=True, timeout=100)
    result, own, theirs, seconds = output.strip().split(",")
    return result, int(own), int(theirs), float(seconds)


def apart(path: pathlib.Path, stream: str) -> pathlib.Path:
    """Four seconds of picture and sound; ten hours between the halves of one of the two."""
    gaps = {"picture": f",setpts=PTS+gte(N\\,50)*{HOURS_10}/TB", "sound": ""}
    if stream == "sound":
        gaps = {"picture": "", "sound": f",asetpts=PTS+gte(T\\,2)*{HOURS_10}/TB"}
    return make_video(
        path,
        picture=f"color=gray:s=64x48:r=25:d=4{gaps['picture']}",
        sound=f"sine=440:r=48000:d=4{gaps['sound']}",
        seconds=2 * HOURS_10,
        options=("-c:v", "mjpeg", "-pix_fmt", "yuvj420p"),  # not every MPEG-4 encoder can
    )


@pytest.mark.parametrize(("stream", "num_frames"), [("picture", 100), ("sound", 50)])
def test_ten_hours_between_two_packets(tmp_path, stream, num_frames):
    result, own, theirs, seconds = measured(apart(tmp_path / "gap.mkv", stream))
    outcome, count = result.split()
    assert outcome == "ok"
    assert int(count) == pytest.approx(num_frames, abs=1)
    assert max(own, theirs) < 300
    assert seconds < 10


@pytest.mark.slow
def test_a_streamed_gap_that_cannot_be_filled_fails(tmp_path):
    with pytest.raises(ffmpeg.MediaError, match="Failed to compensate"):
        for _ in ffmpeg.stream_audio(apart(tmp_path / "gap.mkv", "sound")):
            pass


def test_a_streamed_gap_of_hours_in_a_small_file_is_not_filled(tmp_path):
    path, num_frames = apart(tmp_path / "gap.mkv", "picture"), 0
    with pytest.raises(ffmpeg.MediaError, match="refused.*over .* s of picture from"):
        for _ in ffmpeg.stream_frames(path, frame_rate_hz=1, smallest_side_px=32):
            num_frames += 1
    assert num_frames <= 60 + path.stat().st_size / 20 < HOURS_10


def test_a_stream_that_is_hours_late_is_refused(tmp_path):
    for stream in ("picture", "sound"):
        late = {f"{stream}_late_seconds": HOURS_10}
        path = make_video(tmp_path / f"{stream}.mkv", **late)
        assert outcome_of(path) == ("skipped", "too_short")
        read = ffmpeg.stream_audio if stream == "sound" else ffmpeg.stream_frames
        with pytest.raises(ffmpeg.MediaError, match=f"refused.*over .* s of {stream} from"):
            next(read(path))
        other = ffmpeg.stream_frames if stream == "sound" else ffmpeg.stream_audio
        assert next(other(path)) is not None


def test_giant_frames_are_refused(tmp_path):
    path = tmp_path / "giant.mkv"
    picture = "color=gray:s=8000x8000:r=1:d=1"
    run_ffmpeg(
        *("-f", "lavfi", "-i", picture, "-f", "lavfi", "-i", "sine=d=2", "-frames:v", "1"),
        *("-c:v", "mjpeg", "-q:v", "31", "-c:a", "pcm_s16le", str(path)),
    )
    assert path.stat().st_size < 2_000_000
    result, own, theirs, _ = measured(path)
    assert result == "failed decode"
    assert max(own, theirs) < 300


def test_a_long_banner_is_cut_off(tmp_path):
    path = make_video(tmp_path / "banner.mkv", picture="color=gray:s=4096x16:r=25")
    clip = ffmpeg.decode_clip(path, smallest_side_px=32)
    assert (clip.height_px, clip.width_px) == (32, 32 * ffmpeg.MAX_ASPECT)


def test_a_file_that_grows_gives_what_was_asked(tmp_path):
    codecs = ("-c:v", "mpeg2video", "-c:a", "mp2")
    part = make_video(tmp_path / "part.ts", seconds=4.0, options=codecs)
    content, path = part.read_bytes(), tmp_path / "grows.ts"
    path.write_bytes(content)
    over = threading.Event()

    def grow() -> None:
        with open(path, "ab") as file:
            while not over.wait(0.001) and file.tell() < 100_000_000:
                file.write(content)

    writer = threading.Thread(target=grow)
    writer.start()
    try:
        clip = ffmpeg.decode_clip(path, seconds=2.0, timeout_seconds=30.0)
    finally:
        over.set()
        writer.join()
    assert len(clip.frames) == pytest.approx(50, abs=2)


def test_a_hollow_file_of_a_terabyte_is_no_video(tmp_path, innocent):
    for name, start in (("zeros.mp4", b""), ("tail.mp4", innocent.read_bytes()[:40])):
        path = tmp_path / name
        path.write_bytes(start)
        os.truncate(path, 1 << 40)
        began = time.monotonic()
        assert outcome_of(path)[0] == "failed"
        assert time.monotonic() - began < 20


def test_streams_beyond_the_limit_are_not_read(tmp_path, monkeypatch):
    path = tmp_path / "many.mkv"
    maps = ("-map", "0") * 4 + ("-map", "1") * 4
    picture, sound = "color=gray:s=16x16:r=25:d=2", "sine=d=2"
    codecs = ("-c:v", "mpeg4", "-c:a", "pcm_s16le")
    run_ffmpeg("-f", "lavfi", "-i", picture, "-f", "lavfi", "-i", sound, *maps, *codecs, str(path))
    assert len(ffmpeg.decode_clip(path).frames) == 50
    monkeypatch.setattr(ffmpeg_process, "_MAX_STREAMS", 3)
    assert failure_of(path)


# --- The child process ---------------------------------------------------------------------------
# Limits are set from outside; the one on processor time is the last.
AWAIT_LIMITS = "while [ $(ulimit -t) = unlimited ]; do sleep 0.02; done"


def test_limits_reach_the_child(tmp_path, monkeypatch, innocent):
    result = "echo cpu $(ulimit -t) kb $(ulimit -v) blocks $(ulimit -f) core $(ulimit -c)"
    fake_ffmpeg(tmp_path, monkeypatch, f"{AWAIT_LIMITS}; {result} >&2; exit 1")
    expected = f"cpu 7 kb {ffmpeg_process._MAX_ADDRESS_SPACE_BYTES // 1024} blocks 0 core 0"
    assert failure_of(innocent, timeout_seconds=7.0).detail == expected


def test_a_child_without_bounds_is_stopped(tmp_path, monkeypatch, innocent):
    greedy = f"exec {sys.executable} -c 'bytearray(8 << 30)'"
    fake_ffmpeg(tmp_path, monkeypatch, f"{AWAIT_LIMITS}; {greedy}")
    assert "MemoryError" in failure_of(innocent).detail
    fake_ffmpeg(tmp_path, monkeypatch, "while :; do :; done")
    # The processor time, not the clock: the limit that is set is shorter.
    limit = ffmpeg_process._limit
    monkeypatch.setattr(ffmpeg_process, "_limit", lambda pid, _: limit(pid, 1.0))
    error = failure_of(innocent, timeout_seconds=60.0)
    assert (error.reason, error.detail) == ("timeout", "SIGXCPU")


# The last is a real-time signal, which has no name.
@pytest.mark.parametrize("name", ["SEGV", "ABRT", "BUS", "ILL", "SYS", "KILL", "40"])
def test_a_decoder_that_dies_of_a_signal_is_a_failure(tmp_path, monkeypatch, innocent, name):
    fake_ffmpeg(tmp_path, monkeypatch, f"kill -{name} $$")
    result = "signal 40" if name == "40" else f"SIG{name}"
    error = failure_of(innocent)
    assert (error.reason, error.detail) == ("killed", result)


def test_steady_complaints_do_not_hold_off_the_clock(tmp_path, monkeypatch, innocent):
    messages = "for i in $(seq 1000); do echo complaint >&2; sleep 0.02; done"
    fake_ffmpeg(tmp_path, monkeypatch, messages)
    assert outcome_of(innocent, timeout_seconds=0.3) == ("failed", "timeout")
    monkeypatch.setattr(ffmpeg_process, "_STALL_SECONDS", 0.3)
    for read in (ffmpeg.stream_audio, ffmpeg.stream_frames):
        with pytest.raises(ffmpeg.MediaError) as caught:
            list(read(innocent))
        assert caught.value.reason == "timeout"


def test_a_decoder_that_closes_everything_and_stays_is_killed(tmp_path, monkeypatch, innocent):
    body = "import os, time; os.closerange(0, 999); time.sleep(60)"
    fake_ffmpeg(tmp_path, monkeypatch, f"exec {sys.executable} -c '{body}'")
    began = time.monotonic()
    assert outcome_of(innocent, timeout_seconds=1.0) == ("failed", "timeout")
    assert time.monotonic() - began < 20


def test_a_diagnosis_that_hangs_is_a_timeout_and_no_other_reason(tmp_path, monkeypatch, innocent):
    monkeypatch.setattr(ffmpeg_process, "_DIAGNOSIS_SECONDS", 0.5)
    fake_ffmpeg(tmp_path, monkeypatch, 'case "$*" in *ffmetadata*) exec sleep 60;; esac; exit 1')
    assert outcome_of(innocent) == ("failed", "timeout")


def test_lost_time_fails_whatever_is_said_afterwards(tmp_path, monkeypatch, innocent):
    lost = "echo Failed to compensate for timestamp delta of 36000 >&2"
    fake_ffmpeg(tmp_path, monkeypatch, f"{lost}; yes complaint | head -c 200000 >&2")
    assert outcome_of(innocent) == ("failed", "decode")


def test_a_stream_that_stalls_fails_but_a_slow_reader_does_not(tmp_path, monkeypatch, innocent):
    monkeypatch.setattr(ffmpeg_process, "_STALL_SECONDS", 2.5)
    blocks = ffmpeg.stream_audio(innocent, block_samples=10_000)
    first = next(blocks)
    time.sleep(3.0)  # ffmpeg waits with most of the sound: more than a pipe holds
    assert len(np.concatenate([first, *blocks])) >= 96_000
    monkeypatch.setattr(ffmpeg_process, "_STALL_SECONDS", 0.3)
    fake_ffmpeg(tmp_path, monkeypatch, "exec sleep 60")
    with pytest.raises(ffmpeg.MediaError, match=r"no output for 0\.3 s"):
        list(ffmpeg.stream_audio(innocent))
