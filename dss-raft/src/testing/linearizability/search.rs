//! The search for an order.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use super::{Model, NotLinearizable};

/// How many beginnings of orders are tried before a history counts as undecided.
const TRIES_MAX: usize = 1_000_000;

/// The calls of one key.
#[derive(Debug)]
pub(super) struct Search<'a, M: Model> {
    /// Those that returned, by when they were called.
    returned: Vec<Returned<'a, M>>,
    /// The others, which may be left out.
    open: Vec<Open<'a, M>>,
}

#[derive(Debug)]
struct Returned<'a, M: Model> {
    called: u64,
    at: u64,
    operation: &'a M::Operation,
    reply: &'a M::Reply,
}

#[derive(Debug)]
struct Open<'a, M: Model> {
    called: u64,
    operation: &'a M::Operation,
}

impl<M: Model> Default for Search<'_, M> {
    fn default() -> Self {
        Self { returned: Vec::new(), open: Vec::new() }
    }
}

/// Which of the calls that returned have their place: all before one, and a few after it, since
/// an order strays from that of the calls no further than calls overlap.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Placed {
    all_before: usize,
    /// Ascending, each greater than `all_before`.
    ahead: Vec<usize>,
}

impl Placed {
    fn count(&self) -> usize {
        self.all_before + self.ahead.len()
    }

    fn with(&self, call: usize) -> Self {
        let mut placed = self.clone();
        if call > placed.all_before {
            let position = placed.ahead.partition_point(|other| *other < call);
            placed.ahead.insert(position, call);
            return placed;
        }
        placed.all_before += 1;
        let joined = (placed.ahead.iter().zip(placed.all_before..))
            .take_while(|(call, next)| *call == next)
            .count();
        placed.ahead.drain(..joined);
        placed.all_before += joined;
        placed
    }
}

/// The beginning of an order.
struct Beginning<S> {
    placed: Placed,
    /// The open calls in it, ascending.
    taken: Vec<usize>,
    state: S,
}

/// What to try next: first what explains most replies, there what guesses least.
type Rank = (usize, Reverse<usize>);

struct Frontier<S> {
    beginnings: Vec<Beginning<S>>,
    queue: BinaryHeap<(Rank, Goal, Reverse<usize>)>,
    /// Where the search has been. Whoever gets to the same place having taken more open calls has
    /// nothing to gain: whatever it can do, the other can.
    seen: BTreeMap<(Placed, S), Vec<Vec<usize>>>,
}

/// By which calls a beginning is to be continued: by open ones only if no other way leads on, since
/// they fit anywhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Goal {
    Open,
    Returned,
}

impl<S: Ord + Clone> Frontier<S> {
    fn add(&mut self, beginning: Beginning<S>) {
        let ways = self.seen.entry((beginning.placed.clone(), beginning.state.clone()));
        let ways = ways.or_default();
        if ways.iter().any(|taken| is_part_of(taken, &beginning.taken)) {
            return;
        }
        ways.push(beginning.taken.clone());
        self.beginnings.push(beginning);
        self.plan(self.beginnings.len() - 1, Goal::Returned);
    }

    fn plan(&mut self, number: usize, goal: Goal) {
        let Beginning { placed, taken, .. } = &self.beginnings[number];
        let guesses = taken.len() + usize::from(goal == Goal::Open);
        self.queue.push(((placed.count(), Reverse(guesses)), goal, Reverse(number)));
    }
}

/// Whether all of `part` is in `whole`, both ascending.
fn is_part_of(part: &[usize], whole: &[usize]) -> bool {
    let mut rest = whole.iter();
    part.iter().all(|one| rest.any(|other| other == one))
}

impl<'a, M: Model> Search<'a, M> {
    pub(super) fn add_open(&mut self, called: u64, operation: &'a M::Operation) {
        self.open.push(Open { called, operation });
    }

    pub(super) fn add_returned(
        &mut self,
        called: u64,
        at: u64,
        operation: &'a M::Operation,
        reply: &'a M::Reply,
    ) {
        self.returned.push(Returned { called, at, operation, reply });
    }

    pub(super) fn run(&self, key: &M::Key) -> Result<(), NotLinearizable> {
        let mut frontier =
            Frontier { beginnings: Vec::new(), queue: BinaryHeap::new(), seen: BTreeMap::new() };
        let placed = Placed { all_before: 0, ahead: Vec::new() };
        frontier.add(Beginning { placed, taken: Vec::new(), state: M::initial(key) });
        let mut best = Placed { all_before: 0, ahead: Vec::new() };
        while let Some((_, goal, Reverse(number))) = frontier.queue.pop() {
            let placed = frontier.beginnings[number].placed.clone();
            if placed.count() == self.returned.len() {
                return Ok(());
            }
            if frontier.beginnings.len() > TRIES_MAX {
                return Err(NotLinearizable::Undecided {
                    key: format!("{key:?}"),
                    tried: TRIES_MAX,
                });
            }
            match goal {
                Goal::Returned => {
                    if !self.place_returned(&mut frontier, number) {
                        frontier.plan(number, Goal::Open);
                    }
                }
                Goal::Open => self.place_open(&mut frontier, number),
            }
            if placed.count() > best.count() {
                best = placed;
            }
        }
        Err(self.explain(key, &best))
    }

    /// The calls that returned, have no place, and may come next: none of the others had returned
    /// when they were called. And until when an open one must have been called to come next.
    fn candidates(&self, placed: &Placed) -> (Vec<usize>, u64) {
        let mut candidates = Vec::new();
        let mut first_return = u64::MAX;
        let mut ahead = placed.ahead.iter().peekable();
        for (number, call) in self.returned.iter().enumerate().skip(placed.all_before) {
            if ahead.next_if(|next| **next == number).is_some() {
                continue;
            }
            if call.called > first_return {
                break;
            }
            first_return = first_return.min(call.at);
            candidates.push(number);
        }
        candidates.retain(|number| self.returned[*number].called < first_return);
        (candidates, first_return)
    }

    /// Continues a beginning by calls that returned. Says whether nothing else need be tried: a read
    /// that fits may as well come at once, since wherever else it came nobody would miss it.
    fn place_returned(&self, frontier: &mut Frontier<M::State>, number: usize) -> bool {
        let (candidates, _) = self.candidates(&frontier.beginnings[number].placed);
        let mut changes = Vec::new();
        for candidate in candidates {
            let from = &frontier.beginnings[number];
            let call = &self.returned[candidate];
            let mut state = from.state.clone();
            if M::apply(&mut state, call.operation) != *call.reply {
                continue;
            }
            let placed = from.placed.with(candidate);
            let next = Beginning { placed, taken: from.taken.clone(), state };
            if M::is_read(call.operation) {
                frontier.add(next);
                return true;
            }
            changes.push(next);
        }
        changes.into_iter().for_each(|next| frontier.add(next));
        false
    }

    fn place_open(&self, frontier: &mut Frontier<M::State>, number: usize) {
        let (_, first_return) = self.candidates(&frontier.beginnings[number].placed);
        for (candidate, call) in self.open.iter().enumerate() {
            if call.called > first_return {
                break;
            }
            let from = &frontier.beginnings[number];
            let Err(position) = from.taken.binary_search(&candidate) else { continue };
            let mut state = from.state.clone();
            let _ = M::apply(&mut state, call.operation);
            if state == from.state {
                // Nobody can tell that it happened.
                continue;
            }
            let placed = from.placed.clone();
            let mut taken = from.taken.clone();
            taken.insert(position, candidate);
            frontier.add(Beginning { placed, taken, state });
        }
    }

    fn explain(&self, key: &M::Key, best: &Placed) -> NotLinearizable {
        let (candidates, _) = self.candidates(best);
        let print = |number: usize| {
            let call = &self.returned[number];
            format!("{:?} = {:?}", call.operation, call.reply)
        };
        NotLinearizable::NoOrder {
            key: format!("{key:?}"),
            calls: self.returned.len(),
            explained: best.count(),
            next: candidates.into_iter().map(print).collect(),
        }
    }
}
