"""Losses of the networks, and which of a batch they classify correctly.

All take the outputs of a model and the target, int32 [batch]: 1 = match, 0 = mismatch, or a class.
"""

from collections.abc import Callable

import tensorflow as tf

from l3net import constants

Loss = Callable[[dict[str, tf.Tensor], tf.Tensor], tf.Tensor]


def softmax_cross_entropy(outputs: dict[str, tf.Tensor], target: tf.Tensor) -> tf.Tensor:
    """Softmax cross-entropy: 2-way in L3-Net and AVE-Net (L3 §2.1; OTS §3); float32 [batch]."""
    logits = tf.cast(outputs["logits"], tf.float32)
    return tf.nn.sparse_softmax_cross_entropy_with_logits(labels=target, logits=logits)


def logistic_loss(outputs: dict[str, tf.Tensor], target: tf.Tensor) -> tf.Tensor:
    """AVOL-Net's logistic loss on the score of the best position (OTS §4); float32 [batch]."""
    logit = tf.cast(outputs["logit"], tf.float32)
    return tf.nn.sigmoid_cross_entropy_with_logits(labels=tf.cast(target, tf.float32), logits=logit)


def correct_pairs(outputs: dict[str, tf.Tensor], target: tf.Tensor) -> tf.Tensor:
    """Returns which pairs are classified correctly as match or mismatch; bool [batch]."""
    return (outputs["corresponds"] > 0.5) == (target == constants.CORRESPONDS)


def correct_classes(outputs: dict[str, tf.Tensor], target: tf.Tensor) -> tf.Tensor:
    """Returns which of a batch get their class; bool [batch]."""
    return tf.argmax(outputs["logits"], axis=-1, output_type=tf.int32) == target
