//! A consistent hash ring with weights, preference lists and a written hash rule.
