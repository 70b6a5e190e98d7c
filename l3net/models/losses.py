"""Losses of the networks, and how many of a batch they tell right."""

import tensorflow as tf

from l3net import constants


def softmax_cross_entropy(outputs: dict[str, tf.Tensor], target: tf.Tensor) -> tf.Tensor:
    """Cross-entropy of a softmax: 2-way of L3-Net and AVE-Net (L3 §2.1; OTS §3), or of classes.

    Args:
        outputs: of the model; "logits" float32 [batch, classes].
        target: int32 [batch]: 1 = match, 0 = mismatch; or the class.

    Returns:
        float32 [batch].
    """
    logits = tf.cast(outputs["logits"], tf.float32)
    return tf.nn.sparse_softmax_cross_entropy_with_logits(labels=target, logits=logits)


def logistic_loss(outputs: dict[str, tf.Tensor], target: tf.Tensor) -> tf.Tensor:
    """AVOL-Net's logistic loss on the score of the best position (OTS §4).

    Args:
        outputs: of the model; "logit" float32 [batch], before the sigmoid.
        target: int32 [batch], 1 = match, 0 = mismatch.

    Returns:
        float32 [batch].
    """
    logit = tf.cast(outputs["logit"], tf.float32)
    return tf.nn.sigmoid_cross_entropy_with_logits(labels=tf.cast(target, tf.float32), logits=logit)


def num_pairs_right(outputs: dict[str, tf.Tensor], target: tf.Tensor) -> tf.Tensor:
    """Returns how many pairs are told right: int32 []; target int32 [batch], 1 = match."""
    says_match = outputs["corresponds"] > 0.5
    return _count(says_match == (target == constants.CORRESPONDS))


def num_classes_right(outputs: dict[str, tf.Tensor], target: tf.Tensor) -> tf.Tensor:
    """Returns how many classes are told right: int32 []; target int32 [batch]."""
    return _count(tf.argmax(outputs["logits"], axis=-1, output_type=tf.int32) == target)


def _count(right: tf.Tensor) -> tf.Tensor:
    return tf.reduce_sum(tf.cast(right, tf.int32))
