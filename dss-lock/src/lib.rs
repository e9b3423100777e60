//! Locks that survive their holders: leases, fencing tokens and exact deadlock detection.
