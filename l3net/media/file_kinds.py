"""Which files are sound, images and video: by their suffix, else by their content."""

import os
import pathlib
import stat

from l3net.errors import UserError
from l3net.media import tracks

SOUND, IMAGE, VIDEO = "sound", "image", "video"
SUFFIXES = {
    SOUND: (
        *(".aac", ".ac3", ".aif", ".aifc", ".aiff", ".amr", ".ape", ".au", ".caf", ".dts", ".eac3"),
        *(".flac", ".m4a", ".m4b", ".mka", ".mp2", ".mp3", ".oga", ".ogg", ".opus", ".snd", ".spx"),
        *(".tta", ".voc", ".w64", ".wav", ".weba", ".wma", ".wv"),
    ),
    IMAGE: (
        *(".avif", ".bmp", ".dib", ".gif", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg", ".mpo"),
        *(".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"),
    ),
    VIDEO: (
        *(".3g2", ".3gp", ".asf", ".avi", ".divx", ".dv", ".f4v", ".flv", ".m2ts", ".m2v", ".m4v"),
        *(".mk3d", ".mkv", ".mov", ".mp4", ".mpe", ".mpeg", ".mpg", ".mts", ".mxf", ".ogm", ".ogv"),
        *(".qt", ".rm", ".rmvb", ".ts", ".vob", ".webm", ".wmv"),
    ),
}
KINDS = {suffix: kind for kind, suffixes in SUFFIXES.items() for suffix in suffixes}
# What a file without one of its streams needs, by the reason of a `ffmpeg.MediaError`.
LACKING = {
    "no_audio": "no audio track (for a video, --video_streams=picture takes the pictures alone)",
    "no_video": "no picture (for a video, --video_streams=sound takes the sound alone)",
}


# How files begin, where their suffix says nothing. TIFF is not among them: so do the raw files of
# cameras, which are no pictures yet.
_IMAGES = (
    *(b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF87a", b"GIF89a", b"\0\0\0\x0cjP  "),
    *(b"P5\n", b"P6\n"),
)
_SOUND_OR_VIDEO = (
    *(b"\x1aE\xdf\xa3", b"OggS", b"fLaC", b"ID3", b"FLV\x01", b"caff", b".snd", b"#!AMR", b".RMF"),
    *(b"\0\0\x01\xba", b"\0\0\x01\xb3", b"0&\xb2u\x8ef\xcf\x11", b"riff.\x91\xcf\x11", b"wvpk"),
    *(b"RF64", b"TTA1", b"MAC ", b"\x0bw", b"Creative Voice", b"\x06\x0e+4", b"\x7f\xfe\x80\x01"),
)
_RIFF = {b"WAVE": SOUND, b"WEBP": IMAGE, b"AVI ": VIDEO}
_STILLS = (b"heic", b"heix", b"heim", b"hevc", b"mif1", b"msf1")  # of phones, in an MP4
_HEAD_BYTES = 512
_TS_BYTES = 188  # of a packet of MPEG-TS; of cameras' 4 more, in front
# Downloads that are not complete yet; found in folders they are left out.
_PARTIAL = {".aria2", ".crdownload", ".download", ".part", ".partial", ".temp", ".tmp", ".ytdl"}


def kind_of(path: pathlib.Path) -> str:
    """Returns `SOUND`, `IMAGE` or `VIDEO` by a file's suffix, by its content if that is unknown.

    Raises UserError if the file does not exist, has no content, or has an unknown suffix and a
    content of no kind.
    """
    kind = KINDS.get(path.suffix.lower())
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    if path.stat().st_size == 0:
        raise UserError(f"{path}: the file is empty (zero bytes)")
    kind = kind or _kind_of_content(path, _head(path))
    if kind is None:
        raise UserError(
            f"{path}: unknown suffix {path.suffix!r}, and by its content neither sound, image nor "
            f"video; known are {', '.join(KINDS)}"
        )
    return kind


def kind_in_folder(path: pathlib.Path) -> str | None:
    """Returns the kind of a file that nobody named, None if it is none for us.

    A suffix of a kind decides. Else the first bytes do, 512 at most (our choice), and only if they
    are those of a container of sound or video, ffmpeg says which; partial downloads are none.
    """
    suffix = path.suffix.lower()
    if suffix in KINDS or suffix in _PARTIAL:
        return KINDS.get(suffix)
    head = _head(path)
    return _kind_of_content(path, head) if _begins_like(head) is not None else None


def _head(path: pathlib.Path) -> bytes:
    try:
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
            is_regular = stat.S_ISREG(os.fstat(file.fileno()).st_mode)
            return file.read(_HEAD_BYTES) if is_regular else b""
    except OSError:
        return b""


def _begins_like(head: bytes) -> str | None:
    """Returns a kind, or "" for a container of sound or video; None if it is no media."""
    if head.startswith(_IMAGES) or (head[:2] == b"BM" and head[6:10] == bytes(4)):
        return IMAGE
    if head[:4] == b"RIFF":
        return _RIFF.get(head[8:12])
    if head[4:8] == b"ftyp":
        return None if head[8:12] in _STILLS else IMAGE if head[8:11] == b"avi" else ""
    is_transport_stream = b"GG" in (head[::_TS_BYTES][:2], head[4 :: _TS_BYTES + 4][:2])
    is_mpeg_audio = head[:1] == b"\xff" and b"\xe0" < head[1:2] < b"\xfe"  # no UTF-16
    is_quicktime = head[4:8] in (b"moov", b"mdat", b"wide")
    is_aiff = head[:4] == b"FORM" and head[8:11] == b"AIF"
    others = is_transport_stream or is_mpeg_audio or is_quicktime or is_aiff
    return "" if others or head.startswith(_SOUND_OR_VIDEO) else None


def _kind_of_content(path: pathlib.Path, head: bytes) -> str | None:
    if kind := _begins_like(head):
        return kind
    for stream, kind in ((tracks.PICTURE, VIDEO), (tracks.SOUND, SOUND)):
        if tracks.choose(path, stream).num_tracks:
            return kind
    return None
