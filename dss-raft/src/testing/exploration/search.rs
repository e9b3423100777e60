//! Breadth-first search through the states of a model, with the shortest way to what is wrong.

use std::collections::VecDeque;

#[expect(clippy::disallowed_types, reason = "membership alone is asked for, never an order")]
type Seen = std::collections::HashSet<u64>;

/// Something with states and steps between them.
pub(super) trait Model {
    type State: Clone;
    type Step: Copy;

    fn initial(&self) -> Self::State;

    /// Everything that may happen next.
    fn steps(&self, state: &Self::State, steps: &mut Vec<Self::Step>);

    /// What comes of it, or what is wrong with that.
    fn take(&self, state: &Self::State, step: Self::Step) -> Result<Self::State, String>;

    fn describe(&self, state: &Self::State, step: Self::Step) -> String;

    fn fingerprint(&self, state: &Self::State) -> u64;
}

/// What a search has seen.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) states: usize,
    pub(super) steps: usize,
    pub(super) depth: usize,
    /// Whether these are all states.
    pub(super) complete: bool,
    pub(super) violation: Option<Violation>,
}

/// The shortest way to something that is wrong.
#[derive(Debug)]
pub(super) struct Violation {
    pub(super) what: String,
    pub(super) trace: Vec<String>,
}

/// Looks at up to `states_max` states of the model, nearest first.
pub(super) fn search<M: Model>(model: &M, states_max: usize) -> Outcome {
    let initial = model.initial();
    let mut seen = Seen::from([model.fingerprint(&initial)]);
    // From where, and how, each state was reached first.
    let mut links: Vec<(u32, Option<M::Step>)> = vec![(0, None)];
    let mut outcome = Outcome { states: 1, steps: 0, depth: 0, complete: true, violation: None };
    let mut frontier = VecDeque::from([(0_u32, 0_usize, initial)]);
    let mut steps = Vec::new();
    while let Some((place, depth, state)) = frontier.pop_front() {
        outcome.depth = depth;
        steps.clear();
        model.steps(&state, &mut steps);
        for step in steps.iter().copied() {
            outcome.steps += 1;
            let number = u32::try_from(links.len()).expect("far fewer states fit into memory");
            match model.take(&state, step) {
                Err(what) => {
                    links.push((place, Some(step)));
                    outcome.violation =
                        Some(Violation { what, trace: trace(model, &links, number) });
                    return outcome;
                }
                Ok(next) => {
                    if !seen.insert(model.fingerprint(&next)) {
                        continue;
                    }
                    links.push((place, Some(step)));
                    outcome.states += 1;
                    if outcome.states >= states_max {
                        outcome.complete = false;
                        return outcome;
                    }
                    frontier.push_back((number, depth + 1, next));
                }
            }
        }
    }
    outcome
}

fn trace<M: Model>(model: &M, links: &[(u32, Option<M::Step>)], mut number: u32) -> Vec<String> {
    let mut steps = Vec::new();
    while let (from, Some(step)) = links[number as usize] {
        steps.push(step);
        number = from;
    }
    let mut state = model.initial();
    let mut trace = Vec::new();
    for step in steps.into_iter().rev() {
        trace.push(model.describe(&state, step));
        if let Ok(next) = model.take(&state, step) {
            state = next;
        }
    }
    trace
}
