//! A simulated network.

use std::time::Duration;

use super::options::Options;
use crate::core::Random;

/// Which links carry anything, and what happens on them.
#[derive(Debug)]
pub(super) struct Network {
    nodes: usize,
    /// By sender and receiver: whether the link from one to the other is cut.
    cut: Vec<bool>,
    loss_permille: u64,
    duplicate_permille: u64,
    delay_max: Duration,
}

/// No link is faster.
const DELAY_MIN: Duration = Duration::from_micros(50);

impl Network {
    pub(super) fn new(options: &Options) -> Self {
        Self {
            nodes: options.nodes,
            cut: vec![false; options.nodes * options.nodes],
            loss_permille: options.loss_permille,
            duplicate_permille: options.duplicate_permille,
            delay_max: options.delay_max,
        }
    }

    /// When the copies of a message arrive, if any do.
    pub(super) fn deliveries(
        &self,
        random: &mut Random,
        from: usize,
        to: usize,
    ) -> [Option<Duration>; 2] {
        if self.cut[from * self.nodes + to] || random.below(1000) < self.loss_permille {
            return [None, None];
        }
        let again = random.below(1000) < self.duplicate_permille;
        let first = self.delay(random);
        // A second copy may come much later: that is the one that must confirm nothing.
        [Some(first), again.then(|| self.delay(random) * 8)]
    }

    fn delay(&self, random: &mut Random) -> Duration {
        random.span(DELAY_MIN, self.delay_max.max(DELAY_MIN))
    }

    pub(super) fn cut(&mut self, from: usize, to: usize) {
        self.cut[from * self.nodes + to] = true;
    }

    /// Mends every link.
    pub(super) fn heal(&mut self) {
        self.cut.fill(false);
    }

    /// Mends every link, and loses and doubles nothing any more.
    pub(super) fn calm(&mut self) {
        self.heal();
        self.loss_permille = 0;
        self.duplicate_permille = 0;
        self.delay_max = self.delay_max.min(Duration::from_millis(10));
    }
}
