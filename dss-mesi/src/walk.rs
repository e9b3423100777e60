#![doc = include_str!("../docs/walk.md")]
