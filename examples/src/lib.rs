//! The example server of dss is in `cluster/`; its tests are in `tests/`.
