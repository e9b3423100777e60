//! What a majority has reached.

/// The greatest value that at least `majority` of `values` reach, where there is one.
///
/// Counted plainly, without sorting or keeping anything between calls: an optimised quorum is where
/// others committed without one. Groups have a handful of voters.
pub(crate) fn reached_by_majority<T: Ord + Copy>(
    values: &(impl Iterator<Item = T> + Clone),
    majority: usize,
) -> Option<T> {
    let reached =
        |candidate: T| values.clone().filter(|value| *value >= candidate).count() >= majority;
    values.clone().filter(|candidate| reached(*candidate)).max()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::reached_by_majority;

    proptest! {
        #[test]
        fn it_is_what_sorting_says(mut values in prop::collection::vec(0u64..6, 1..8)) {
            let majority = values.len() / 2 + 1;
            let found = reached_by_majority(&values.iter().copied(), majority);
            values.sort_unstable_by(|a, b| b.cmp(a));
            prop_assert_eq!(found, Some(values[majority - 1]));
        }
    }

    #[test]
    fn fewer_values_than_a_majority_reach_nothing() {
        assert_eq!(reached_by_majority(&[7].into_iter(), 2), None);
        assert_eq!(reached_by_majority(&std::iter::empty::<u64>(), 1), None);
    }
}
