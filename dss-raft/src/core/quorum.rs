//! What a majority has reached.

use crate::entry::Configuration;

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
    values.clone().fold(None, |best, candidate| {
        let is_better = best.is_none_or(|best| candidate > best);
        if is_better && reached(candidate) { Some(candidate) } else { best }
    })
}

/// The greatest value that a quorum of `configuration` reaches, given those of its voters that have
/// one: a majority of each of its sets of voters.
pub(crate) fn reached_by_quorum<T: Ord + Copy>(
    configuration: &Configuration,
    incoming: &(impl Iterator<Item = T> + Clone),
    outgoing: &(impl Iterator<Item = T> + Clone),
) -> Option<T> {
    let reached = reached_by_majority(incoming, configuration.voters.len() / 2 + 1)?;
    if !configuration.is_joint() {
        return Some(reached);
    }
    let left = reached_by_majority(outgoing, configuration.outgoing.len() / 2 + 1)?;
    Some(reached.min(left))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::{reached_by_majority, reached_by_quorum};
    use crate::core::Random;
    use crate::entry::Configuration;
    use crate::types::NodeId;

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

    /// The values a quorum has reached, by trying all of them against every set of nodes.
    fn by_brute_force(configuration: &Configuration, value: impl Fn(NodeId) -> u64) -> Option<u64> {
        let members: Vec<NodeId> = configuration.others(NodeId::new(u64::MAX)).collect();
        let is_majority = |chosen: &[NodeId], voters: &BTreeSet<NodeId>| {
            2 * voters.iter().filter(|voter| chosen.contains(voter)).count() > voters.len()
        };
        let subsets = (0u32..1 << members.len()).map(|bits| {
            let chosen = members.iter().enumerate().filter(|(at, _)| (bits >> at) & 1 == 1);
            chosen.map(|(_, member)| *member).collect::<Vec<_>>()
        });
        subsets
            .filter(|chosen| is_majority(chosen, &configuration.voters))
            .filter(|chosen| {
                !configuration.is_joint() || is_majority(chosen, &configuration.outgoing)
            })
            .filter_map(|chosen| chosen.into_iter().map(&value).min())
            .max()
    }

    fn nodes(bits: u32) -> BTreeSet<NodeId> {
        (0..7).filter(|at| (bits >> at) & 1 == 1).map(NodeId::new).collect()
    }

    /// All configurations with up to seven voters, joint ones too: 127 times 128 of them.
    #[test]
    fn all_configurations_of_seven_decide_as_brute_force_does() {
        let mut random = Random::new(7);
        for voters in 1u32..128 {
            for outgoing in 0u32..128 {
                let configuration = Configuration {
                    voters: nodes(voters),
                    outgoing: nodes(outgoing),
                    ..Configuration::default()
                };
                let values: Vec<u64> = (0..7).map(|_| random.below(4)).collect();
                let value = |node: NodeId| values[usize::try_from(node.get()).unwrap()];
                let expected = by_brute_force(&configuration, value);
                assert_eq!(
                    reached(&configuration, value),
                    expected,
                    "{configuration:?} {values:?}"
                );
                for least in 0..4 {
                    let decides = configuration.is_quorum(|node| value(node) >= least);
                    assert_eq!(decides, expected.is_some_and(|expected| expected >= least));
                }
            }
        }
    }

    fn reached(configuration: &Configuration, value: impl Fn(NodeId) -> u64) -> Option<u64> {
        let incoming = configuration.voters.iter().map(|voter| value(*voter));
        let outgoing = configuration.outgoing.iter().map(|voter| value(*voter));
        reached_by_quorum(configuration, &incoming, &outgoing)
    }
}
