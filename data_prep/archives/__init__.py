"""Archives of videos: their members, one by one, never unpacked as a whole."""
