"""Which files are sound, images and video, by their suffix."""

SOUND, IMAGE, VIDEO = "sound", "image", "video"
SUFFIXES = {
    SOUND: (".aac", ".aif", ".aiff", ".flac", ".m4a", ".mp3", ".ogg", ".opus", ".wav"),
    IMAGE: (".bmp", ".jpeg", ".jpg", ".png", ".webp"),
    VIDEO: (
        *(".3g2", ".3gp", ".asf", ".avi", ".f4v", ".flv", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4"),
        *(".mpeg", ".mpg", ".mts", ".ogv", ".qt", ".ts", ".vob", ".webm", ".wmv"),
    ),
}
KINDS = {suffix: kind for kind, suffixes in SUFFIXES.items() for suffix in suffixes}
