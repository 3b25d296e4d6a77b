//! What a run of the text tower costs beside its tokens, learned from the runs: it differs by ten times among processors.

use std::time::Duration;

/// How much less a run counts than the next one.
const DECAY: f64 = 0.98;
/// Runs of different sizes, less those that were forgotten, before anything is said.
const RUNS_MIN: f64 = 8.0;

/// A line through the times of runs, by least squares: `fixed + each * tokens`.
#[derive(Debug, Default)]
pub(super) struct RunCost {
    runs: f64,
    tokens: f64,
    seconds: f64,
    tokens_squared: f64,
    tokens_seconds: f64,
}

impl RunCost {
    pub(super) fn seen(&mut self, tokens: usize, took: Duration) {
        let (tokens, seconds) = (tokens as f64, took.as_secs_f64());
        let sums =
            [&mut self.runs, &mut self.tokens, &mut self.seconds, &mut self.tokens_squared, &mut self.tokens_seconds];
        for (sum, more) in sums.into_iter().zip([1.0, tokens, seconds, tokens * tokens, tokens * seconds]) {
            *sum = *sum * DECAY + more;
        }
    }

    /// The fixed cost of a run, in tokens that take as long. `None`: too little is known.
    pub(super) fn in_tokens(&self) -> Option<usize> {
        let (tokens, seconds) = (self.tokens / self.runs, self.seconds / self.runs);
        let spread = self.tokens_squared / self.runs - tokens * tokens;
        if self.runs < RUNS_MIN || spread < 0.01 * tokens * tokens {
            return None;
        }
        let each = (self.tokens_seconds / self.runs - tokens * seconds) / spread;
        let fixed = seconds - each * tokens;
        (each > 0.0).then(|| (fixed / each).clamp(1.0, 8192.0) as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fixed_part_of_a_run_is_found_in_tokens() {
        let mut cost = RunCost::default();
        for n in 1..=40 {
            // 9 ms and 0.3 ms for each token, a tenth more or less.
            let noise = if n % 2 == 0 { 1.1 } else { 0.9 };
            cost.seen(n * 37 % 600, Duration::from_secs_f64(noise * (0.009 + 0.0003 * (n * 37 % 600) as f64)));
        }
        let found = cost.in_tokens().unwrap();
        assert!((15..=60).contains(&found), "{found}");
        // Another machine, or another load.
        for n in 1..=400 {
            cost.seen(n * 37 % 600, Duration::from_secs_f64(0.009 + 0.00003 * (n * 37 % 600) as f64));
        }
        let found = cost.in_tokens().unwrap();
        assert!((290..=310).contains(&found), "{found}");
    }

    #[test]
    fn runs_of_one_size_tell_nothing() {
        let mut cost = RunCost::default();
        assert_eq!(cost.in_tokens(), None);
        (0..100).for_each(|_| cost.seen(320, Duration::from_millis(100)));
        assert_eq!(cost.in_tokens(), None);
    }
}
