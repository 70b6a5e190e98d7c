import os
import signal

import keras
import numpy as np
import pytest
import tensorflow as tf

from l3net.training import stop


class Killed(keras.layers.Layer):
    def call(self, inputs):
        os.kill(os.getpid(), signal.SIGTERM)
        sum(range(1000))  # where Python looks for signals
        return inputs


def _callback():
    tf.numpy_function(lambda: os.kill(os.getpid(), signal.SIGTERM) or np.float32(0), [], tf.float32)
    sum(range(1000))


@pytest.mark.parametrize("where", ["in a layer", "in a traced layer", "in a callback"])
def test_a_signal_amid_a_library_is_still_the_end_in_good_order(where):
    layer = Killed()
    work = {
        "in a layer": lambda: layer(tf.zeros([1, 2])),
        "in a traced layer": lambda: tf.function(layer)(tf.zeros([1, 2])),
        "in a callback": _callback,
    }[where]
    with (
        pytest.raises(stop.StoppedError, match="stopped by SIGTERM") as error,
        stop.on_signals() as request,
        request.at_once(),
    ):
        work()
    assert error.value.status == 143


def test_other_errors_pass():
    with pytest.raises(ZeroDivisionError), stop.on_signals() as request, request.at_once():
        raise ZeroDivisionError
