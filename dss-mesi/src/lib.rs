//! A coherent distributed cache: the MESI protocol, linearizable per key through crashes.
