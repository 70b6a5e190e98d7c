"""Sound, images and video: ffmpeg, reading and writing."""
