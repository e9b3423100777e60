//! Breadth-first search through the states of a model, with the shortest way to what is wrong.

use std::collections::VecDeque;

#[expect(clippy::disallowed_types, reason = "membership alone is asked for, never an order")]
use std::collections::HashSet;

/// How many steps a cluster may need to come to rest.
const REST_MAX: usize = 500;

/// Something with states and steps between them.
pub(super) trait Model {
    type State: Clone;
    type Step: Copy;

    fn initial(&mut self) -> Self::State;

    /// Everything that may happen next.
    fn steps(&mut self, state: &Self::State, steps: &mut Vec<Self::Step>);

    /// What comes of it, or what is wrong with that.
    fn take(&mut self, state: &Self::State, step: Self::Step) -> Result<Self::State, String>;

    fn describe(&self, state: &Self::State, step: Self::Step) -> String;

    fn fingerprint(&self, state: &Self::State) -> u64;

    /// One step on a fair way to rest; `None` where all is at rest.
    fn settle(&mut self, state: &Self::State) -> Result<Option<Self::State>, String>;

    /// A fingerprint of what decides on the way to rest.
    fn outline(&self, state: &Self::State) -> u64;
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

#[expect(clippy::disallowed_types, reason = "membership alone is asked for, never an order")]
type Seen = HashSet<u64>;

struct Search<M: Model> {
    model: M,
    seen: Seen,
    /// From where, and how, each state was reached first.
    links: Vec<(u32, Option<M::Step>)>,
    /// Outlines from which the way to rest is known to end.
    restful: Seen,
}

/// Looks at up to `states_max` states of the model, nearest first.
pub(super) fn search<M: Model>(mut model: M, states_max: usize) -> Outcome {
    let initial = model.initial();
    let first = model.fingerprint(&initial);
    let mut search =
        Search { model, seen: Seen::from([first]), links: vec![(0, None)], restful: Seen::new() };
    let mut outcome = Outcome { states: 1, steps: 0, depth: 0, complete: true, violation: None };
    let mut frontier = VecDeque::from([(0_u32, 0_usize, initial.clone())]);
    let mut steps = Vec::new();
    while let Some((place, depth, state)) = frontier.pop_front() {
        outcome.depth = depth;
        steps.clear();
        search.model.steps(&state, &mut steps);
        for step in steps.iter().copied() {
            outcome.steps += 1;
            let (next, what) = match search.model.take(&state, step) {
                Ok(next) => (next, None),
                Err(what) => (state.clone(), Some(what)),
            };
            if what.is_none() && !search.seen.insert(search.model.fingerprint(&next)) {
                continue;
            }
            let number = u32::try_from(search.links.len()).unwrap();
            search.links.push((place, Some(step)));
            if let Some(what) = what.or_else(|| search.rest(&next).err()) {
                let trace = search.trace(&initial, number);
                outcome.violation = Some(Violation { what, trace });
                return outcome;
            }
            outcome.states += 1;
            if outcome.states >= states_max {
                outcome.complete = false;
                return outcome;
            }
            frontier.push_back((number, depth + 1, next));
        }
    }
    outcome
}

impl<M: Model> Search<M> {
    /// Goes on from `state` until all is at rest. What comes next depends on the outline alone: one
    /// that comes again would come for ever.
    fn rest(&mut self, state: &M::State) -> Result<(), String> {
        let mut state = state.clone();
        let mut passed = Vec::new();
        loop {
            let outline = self.model.outline(&state);
            if self.restful.contains(&outline) {
                break;
            }
            if passed.contains(&outline) {
                return Err("goes round and never comes to rest".to_owned());
            }
            passed.push(outline);
            if passed.len() > REST_MAX {
                return Err("does not come to rest".to_owned());
            }
            match self.model.settle(&state) {
                Ok(None) => break,
                Ok(Some(next)) => state = next,
                Err(what) => return Err(format!("{what}, {} fair steps later", passed.len())),
            }
        }
        self.restful.extend(passed);
        Ok(())
    }

    fn trace(&mut self, initial: &M::State, mut number: u32) -> Vec<String> {
        let mut steps = Vec::new();
        while let (from, Some(step)) = self.links[number as usize] {
            steps.push(step);
            number = from;
        }
        let mut state = initial.clone();
        let mut trace = Vec::new();
        for step in steps.into_iter().rev() {
            trace.push(self.model.describe(&state, step));
            if let Ok(next) = self.model.take(&state, step) {
                state = next;
            }
        }
        trace
    }
}
