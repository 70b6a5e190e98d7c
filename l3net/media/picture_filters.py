"""ffmpeg's filters for pictures that are interlaced or of high dynamic range.

Progressive pictures of standard dynamic range pass as they are.
"""

import pathlib
import re

from l3net.media import ffmpeg_process
from l3net.media.ffmpeg_process import MediaError
from l3net.media.tracks import Track

# Transfer functions, as ffmpeg calls them.
_HDR = {"smpte2084": "PQ", "arib-std-b67": "HLG"}
_INTERLACED = "interlaced"  # the key under which the first such picture is printed
_REFERENCE_WHITE_NITS, _PEAK_NITS = 203, 1000  # of BT.2408; of most mastering displays


def print_first(kind: str, pipe: int, key: str = "first") -> str:
    """Returns filters that write the first frame's timestamp into a pipe; kind "a" for sound."""
    name = f"l3net_{key}"
    add = f"{kind}metadata=mode=add:key={name}:value=1:enable='lt(n,1)'"
    return f"{add},{kind}metadata=mode=print:key={name}:direct=1:file='pipe\\:{pipe}'"


def printed(words: bytes | bytearray, what: str, key: str = "first") -> str | None:
    """Returns "pts" or "pts_time" of what `print_first` printed; None if no frame came."""
    match = re.search(rf"\b{what}:(-?[\d.]+)[^\n]*\nl3net_{key}=".encode(), words)
    return match[1].decode() if match else None


def deinterlaced(track: Track, pipe: int) -> str:
    """Returns filters, each with a comma behind it, that deinterlace the frames flagged interlaced.

    One frame is made of each, at its time; other frames stay untouched. None are needed where the
    header says progressive. The first flagged frame is printed into the pipe, see `was_interlaced`.
    """
    is_flagged = re.search(r"\b(top|bottom) (coded )?first\b", track.words)
    # The headers of DV and MPEG-4, for example, say nothing, the frames do.
    is_unknown = re.search(r", yuvj?4\d\dp", track.words) and "progressive" not in track.words
    if not (is_flagged or is_unknown):
        return ""
    first = print_first("", pipe, _INTERLACED)
    return (
        f"split[all][copy];[copy]select='gt(interlace_type,0)',{first},nullsink;"
        "[all]bwdif=mode=send_frame:deint=interlaced,"
    )


def was_interlaced(words: bytes | bytearray) -> bool:
    """Returns whether any frame was, from what came out of the pipe of `deinterlaced`."""
    return printed(words, "pts", _INTERLACED) is not None


def hdr_of(track: Track) -> str | None:
    """Returns "PQ" or "HLG" for pictures of high dynamic range, None for others."""
    match = re.search(rf"[(/, ]({'|'.join(_HDR)})[)/, ]", track.words)
    return _HDR[match[1]] if match else None


def tone_mapped(path: str | pathlib.Path, track: Track) -> str:
    """Returns filters, each with a comma behind it, from high dynamic range to BT.709; else "".

    Our choice: BT.2408's reference white, 203 nits, becomes 0.68 of the screen's light; up to 0.3
    of reference white all stays, from there to 1000 nits it is compressed (ffmpeg's "mobius"), with
    the hue kept. The screen is BT.1886's, of gamma 2.4. It comes behind the scaling: a clip
    of 4K takes a quarter of the time, and PQ and HLG are about as even to the eye as the codes of
    standard video.

    Raises:
        MediaError: if this ffmpeg was made without the filter zscale (libzimg).
    """
    name = hdr_of(track)
    if name is None:
        return ""
    if not ffmpeg_process.has_filters("zscale", "tonemap"):
        detail = f"its pictures are of high dynamic range ({name}), and this ffmpeg lacks zscale to"
        detail += " map them; pip install imageio-ffmpeg, or name another in "
        raise MediaError(path, "failed", "refused", detail + ffmpeg_process.ENVIRONMENT_VARIABLE)
    transfer = next(key for key, value in _HDR.items() if value == name)
    peak = _PEAK_NITS / _REFERENCE_WHITE_NITS
    return (
        # Without subsampling, so that odd sizes pass; what is untagged is BT.2020.
        f"format=yuv444p10,{_tags(track, transfer)}"
        f"zscale=t=linear:npl={_REFERENCE_WHITE_NITS},format=gbrpf32,zscale=p=bt709,"
        f"tonemap=mobius:desat=0:peak={peak:.4f},zscale=t=bt709:m=bt709:r=tv,format=yuv444p,"
    )


def _tags(track: Track, transfer: str) -> str:
    matrix, primaries = "bt2020nc", "bt2020"
    if match := re.search(rf"[(, ]([a-z0-9-]+)/([a-z0-9-]+)/{transfer}[), ]", track.words):
        matrix, primaries = (
            default if given in ("unknown", "reserved") else given
            for given, default in zip(match.groups(), (matrix, primaries), strict=True)
        )
    return f"setparams=colorspace={matrix}:color_primaries={primaries}:color_trc={transfer},"
