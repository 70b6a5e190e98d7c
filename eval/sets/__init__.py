"""What is evaluated on: recordings, clips, images, boxes."""
