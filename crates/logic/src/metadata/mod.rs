//! The cluster metadata: an image, changed only by commands applied in order.
