//! An at-least-once message queue: consumer groups, leases, retries and dead letters.
