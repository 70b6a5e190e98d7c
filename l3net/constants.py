"""Quantities that the two papers fix, with their units and sections; our own choices at the end.

L3 = Look, Listen and Learn (ICCV 2017). OTS = Objects that Sound (ECCV 2018).
"""

# --- Sound (L3 §2.2; OTS §3.3) -------------------------------------------------------------------
SAMPLE_RATE_HZ = 48_000
AUDIO_SECONDS = 1.0
AUDIO_SAMPLES = 48_000  # one second at 48 kHz
STFT_WINDOW_SAMPLES = 480  # 0.01 s
STFT_HOP_SAMPLES = 240  # half-window overlap
FFT_LENGTH = 512  # gives the papers' 257 bands
NUM_BANDS = 257
NUM_WINDOWS_L3 = 199  # L3: (48000 - 480) // 240 + 1
NUM_WINDOWS_OTS = 200  # OTS: one window more; our choice: pad the end
VOLUME_JITTER = 0.1  # "changing the volume up to 10 %", one factor per second of sound

# --- Frames (L3 §2.2; OTS §3.3) ------------------------------------------------------------------
FRAME_RATE_HZ = 25  # OTS §3.3: "multiple of 0.04 s (the video frame rate is 25 fps)"
FRAME_PX = 224
SMALLEST_SIDE_PX = 256  # frames are scaled to this smallest side before the 224 crop
CLIP_SECONDS = 10.0  # L3 §3.1: the first 10 s of each video

# --- Networks (L3 Fig. 2; OTS Fig. 2) ------------------------------------------------------------
KERNEL_PX = 3
FC1_UNITS = 128
EMBEDDING_UNITS = 128  # OTS Fig. 2c: fc2 of AVE-Net
POOL4_UNITS = 512
AUDIO_GRID = (4, 3)  # L3 §3.3: conv4_2 of sound max-pooled to 4x3x512, 6144-D
IMAGE_GRID = (4, 4)  # L3 §3.4: conv4_2 of images max-pooled to 4x4x512, 8192-D
NUM_FRAMES_MF = 25  # OTS §3.2: AVE+MF
NUM_FLOW_FRAMES = 10  # OTS §3.2: AVE+OF
NUM_KINETICS_SOUNDS_CLASSES = 34  # L3 §3.1

# --- Training (L3 §2.2; OTS §3.3) ----------------------------------------------------------------
WEIGHT_DECAY = 1e-5
LEARNING_RATE = 1e-4  # "1e-4 usually works well"
LEARNING_RATE_DECAY = 0.94  # OTS: "decreased by 6 % every 16 epochs"
EPOCHS_PER_DECAY = 16

# --- Our choices ---------------------------------------------------------------------------------
ADAM_EPSILON = 1e-8  # Adam's paper and TensorFlow of 2017; Keras has 1e-7 today
MISALIGNMENT_SECONDS = 0.5  # "by up to 1 s" (OTS §3.3): the shifts span 1 s, -0.5 to 0.5 s
# Names of the networks' inputs, and of the targets in a batch.
FRAME, FRAMES, FLOW, LOG_SPECTROGRAM = "frame", "frames", "flow", "log_spectrogram"
CORRESPONDS_KEY, FRAME_LABEL, AUDIO_LABEL = "corresponds", "frame_label", "audio_label"
CORRESPONDS = 1  # index of "match" in the 2-way softmax, and the value of `corresponds`
# Flow frames in shards: level = 128 + 127 * displacement / (20/256 of the smallest side).
FLOW_ZERO_LEVEL, FLOW_LEVELS, FLOW_BOUND = 128, 127, 20 / 256
# Samples beyond full scale, 1: decoders of lossy sound go somewhat beyond it; +24 dB is another
# scale (16-bit values in floats) or damage. Louder sound is refused wherever it comes in.
MAX_LEVEL = 16
LOG_OFFSET = 1e-3  # added to the magnitude before the logarithm; see log_spectrogram.py
MICROSECONDS = 1_000_000  # per second; timestamps in shards are int64 microseconds
