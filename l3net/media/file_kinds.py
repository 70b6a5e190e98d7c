"""Which files are sound, images and video, by their suffix."""

import pathlib

from l3net.errors import UserError

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


def kind_of(path: pathlib.Path) -> str:
    """Returns `SOUND`, `IMAGE` or `VIDEO` by a file's suffix, in upper or lower case.

    Raises UserError if the suffix is unknown, the file does not exist or has no content.
    """
    kind = KINDS.get(path.suffix.lower())
    if kind is None:
        raise UserError(f"{path}: unknown suffix {path.suffix!r}; need one of {', '.join(KINDS)}")
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    if path.stat().st_size == 0:
        raise UserError(f"{path}: the file is empty (zero bytes)")
    return kind
