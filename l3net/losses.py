"""Losses of the networks."""

import tensorflow as tf


def correspondence_loss(outputs: dict[str, tf.Tensor], corresponds: tf.Tensor) -> tf.Tensor:
    """Cross-entropy of the 2-way softmax (L3 §2.1; OTS §3.3).

    Args:
        outputs: of the model; "logits" float32 [batch, 2].
        corresponds: int32 [batch], 1 = match, 0 = mismatch.

    Returns:
        float32 [batch].
    """
    logits = tf.cast(outputs["logits"], tf.float32)
    return tf.nn.sparse_softmax_cross_entropy_with_logits(labels=corresponds, logits=logits)
