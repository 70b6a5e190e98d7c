"""L3-Net, AVE-Net and AVOL-Net in TensorFlow 2: learning from sound and picture of video."""

import os

# TensorFlow's C++ start-up notes (duplicate CUDA factories, CPU features) say nothing a user can
# act on. Respect the user's own setting.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

__version__ = "0.1.0"
