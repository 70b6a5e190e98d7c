import subprocess
import sys

_PROGRAM = """
import sys
from l3net.inference import saved_model
saved_model.use_bfloat16()
assert "tensorflow" in sys.modules and "keras" not in sys.modules
import tensorflow as tf
assert tf.keras.layers.Dense(2)(tf.zeros([3, 1])).shape == (3, 2)
assert isinstance(tf.keras.optimizers.Adam(), sys.modules["keras"].optimizers.Adam)
"""


def test_running_networks_imports_no_keras_but_leaves_it_usable():
    done = subprocess.run([sys.executable, "-c", _PROGRAM], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
