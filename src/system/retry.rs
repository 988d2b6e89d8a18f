//! Retries: delays that grow up to a bound or follow the other side's request, until a deadline. Not responsible for:
//! deciding what may be retried.

use std::time::Duration;

use backon::{BackoffBuilder as _, ExponentialBackoff, ExponentialBuilder};
use tokio::time::Instant;

use crate::domain::base::human_duration;

/// The number of retries and the delays between them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Backoff {
    first: Duration,
    longest: Duration,
    factor: f32,
    retries: u32,
    jitter: bool,
}

/// Whether a retry may help. A delay that the other side requests replaces ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retry {
    /// It would fail again.
    Never,
    /// Counts towards the limit of retries.
    Counted(Option<Duration>),
    /// Nobody answered: each try costs a whole timeout, so there is one more and no other. It counts, too.
    Once,
    /// A temporary condition: only the deadline limits it.
    Uncounted(Option<Duration>),
}

/// The longest delay that another side's request is waited for. Who asks for more has its answer reported instead: nobody
/// watches a command for an hour.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// A delay that the other side asks for: at most `longest`, if it is one that is waited for at all.
pub fn within(asked: Duration, longest: Duration) -> Duration {
    if asked > PATIENCE { asked } else { asked.min(longest) }
}

/// What to say of a delay that is not waited for, behind the refusal; empty for others.
pub fn not_waited_for(asked: Option<Duration>) -> String {
    let words = |asked| format!("; it wants to be asked again in {}, not before", human_duration(asked));
    asked.filter(|asked| *asked > PATIENCE).map_or_else(String::new, words)
}

impl Backoff {
    /// For requests: this many retries, each delay twice the previous one, at most `longest`. Each is shortened at
    /// random by up to half, so that clients that failed together do not retry together.
    pub const fn of_requests(first: Duration, longest: Duration, retries: u32) -> Self {
        Self { first, longest, factor: 2.0, retries, jitter: true }
    }

    /// For polling: without limit, with exact delays.
    pub const fn of_polls(first: Duration, longest: Duration) -> Self {
        Self { first, longest, factor: 2.0, retries: u32::MAX, jitter: false }
    }

    /// The same, with another growth factor than 2.
    #[must_use]
    pub const fn factor(self, factor: f32) -> Self {
        Self { factor, ..self }
    }

    /// Delays for one operation.
    pub fn pauses(self) -> Pauses {
        // backon's jitter multiplies a delay by 1 to 2.
        let part = if self.jitter { 2 } else { 1 };
        let delays = ExponentialBuilder::new()
            .with_min_delay(self.first / part)
            .with_max_delay(self.longest / part)
            .with_factor(self.factor)
            .without_max_times();
        let delays = if self.jitter { delays.with_jitter() } else { delays };
        Pauses { delays: delays.build(), backoff: self, left: self.retries, deadline: None, asked_once: false }
    }
}

/// The delays of one operation.
#[derive(Debug)]
pub struct Pauses {
    delays: ExponentialBackoff,
    backoff: Backoff,
    left: u32,
    deadline: Option<Instant>,
    /// Whether [`Retry::Once`] is used up.
    asked_once: bool,
}

impl Pauses {
    /// The same with a deadline: no wait that would end after it.
    #[must_use]
    pub fn until(self, deadline: Instant) -> Self {
        Self { deadline: Some(deadline), ..self }
    }

    /// Waits before the next attempt and returns true. Returns false at once if a retry would not help, the retries
    /// are used up, or the wait would pass the deadline or [`PATIENCE`].
    pub async fn wait(&mut self, retry: Retry) -> bool {
        let asked = match retry {
            Retry::Never => return false,
            Retry::Counted(_) | Retry::Once if self.left == 0 => return false,
            Retry::Once if std::mem::replace(&mut self.asked_once, true) => return false,
            Retry::Once => {
                self.left -= 1;
                None
            }
            Retry::Counted(asked) => {
                self.left -= 1;
                asked
            }
            Retry::Uncounted(asked) => asked,
        };
        if asked.is_some_and(|asked| asked > PATIENCE) {
            return false;
        }
        let grown = self.delays.next().unwrap_or(self.backoff.longest);
        let pause = asked.map_or(grown, |asked| asked.max(self.backoff.first));
        if self.deadline.is_some_and(|deadline| pause > deadline.saturating_duration_since(Instant::now())) {
            return false;
        }
        tokio::time::sleep(pause).await;
        true
    }

    /// Waits before the next poll. Returns whether there is one before the deadline.
    pub async fn poll(&mut self) -> bool {
        self.wait(Retry::Uncounted(None)).await
    }

    /// The number of counted retries.
    pub fn counted(&self) -> u32 {
        self.backoff.retries - self.left
    }
}

/// Retries an operation until it succeeds, its error is final, or the retries are used up.
pub async fn retry<T, E, F: Future<Output = Result<T, E>>>(
    mut pauses: Pauses,
    mut work: impl FnMut() -> F,
    mut judge: impl FnMut(&E) -> Retry,
) -> Result<T, E> {
    loop {
        let error = match work().await {
            Ok(done) => return Ok(done),
            Err(error) => error,
        };
        let verdict = judge(&error);
        if !pauses.wait(verdict).await {
            return Err(error);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// Each delay in milliseconds.
    async fn lengths(pauses: &mut Pauses, retries: &[Retry]) -> Vec<u128> {
        let mut lengths = Vec::new();
        for retry in retries {
            let began = Instant::now();
            if pauses.wait(*retry).await {
                lengths.push(began.elapsed().as_millis());
            }
        }
        lengths
    }

    #[tokio::test(start_paused = true)]
    async fn polls_grow_exactly_up_to_the_longest() {
        let mut pauses = Backoff::of_polls(SECOND, SECOND * 5).factor(1.5).pauses();
        let grown = lengths(&mut pauses, &[Retry::Uncounted(None); 6]).await;
        assert_eq!(grown, [1000, 1500, 2250, 3375, 5000, 5000]);
    }

    #[tokio::test(start_paused = true)]
    async fn requests_are_counted_and_wait_between_half_and_whole() {
        let policy = Backoff::of_requests(SECOND, SECOND * 3, 4);
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..20 {
            let mut pauses = policy.pauses();
            let waited = lengths(&mut pauses, &[Retry::Counted(None); 6]).await;
            assert_eq!((waited.len(), pauses.counted()), (4, 4));
            for (waited, most) in waited.iter().zip([1000, 2000, 3000, 3000]) {
                assert!((most / 2..=most + 1).contains(waited), "{waited} of {most}");
            }
            seen.extend(waited);
        }
        assert!(seen.len() > 20, "no chance in {seen:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn the_other_side_says_how_long_and_waiting_for_it_may_not_count() {
        let mut pauses = Backoff::of_requests(SECOND, SECOND * 3, 1).pauses();
        let asked = |seconds| Some(SECOND * seconds);
        let retries = [
            Retry::Uncounted(asked(60)),
            Retry::Counted(asked(0)),
            Retry::Uncounted(asked(7)),
            Retry::Counted(asked(1)),
            Retry::Never,
        ];
        assert_eq!(lengths(&mut pauses, &retries).await, [60_000, 1000, 7000]);
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_is_waited_for_as_long_as_they_like() {
        let mut pauses = Backoff::of_requests(SECOND, SECOND * 3, 5).pauses();
        let retries = [Retry::Uncounted(Some(PATIENCE)), Retry::Uncounted(Some(PATIENCE + SECOND))];
        assert_eq!(lengths(&mut pauses, &retries).await, [PATIENCE.as_millis()]);
        assert_eq!((within(SECOND * 50, SECOND * 30), within(SECOND * 500, SECOND * 30)), (SECOND * 30, SECOND * 500));
        assert_eq!(not_waited_for(Some(PATIENCE)), "");
        assert!(not_waited_for(Some(SECOND * 3600)).contains("in 1h"), "{}", not_waited_for(Some(SECOND * 3600)));
    }

    #[tokio::test(start_paused = true)]
    async fn who_never_answers_is_asked_once_more_and_no_more() {
        let mut pauses = Backoff::of_requests(SECOND, SECOND * 3, 5).pauses();
        let retries = [Retry::Once, Retry::Counted(None), Retry::Once, Retry::Counted(None)];
        assert_eq!(lengths(&mut pauses, &retries).await.len(), 3);
        assert_eq!(pauses.counted(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_for_a_try_after_the_deadline() {
        let began = Instant::now();
        let mut pauses = Backoff::of_polls(SECOND, SECOND * 9).pauses().until(began + SECOND * 4);
        while pauses.poll().await {}
        assert_eq!(began.elapsed(), SECOND * 3, "1 and 2, and 4 would be too late");
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_beyond_all_time_is_after_every_deadline() {
        let mut pauses = Backoff::of_polls(SECOND, SECOND).pauses().until(Instant::now() + SECOND);
        assert!(!pauses.wait(Retry::Counted(Some(Duration::MAX))).await);
    }

    #[tokio::test(start_paused = true)]
    async fn work_is_done_again_until_it_is_done_or_judged() {
        let done = async |worth: Retry| {
            let mut tries = 0;
            let work = || {
                tries += 1;
                std::future::ready(if tries == 3 { Ok("done") } else { Err(tries) })
            };
            (retry(Backoff::of_requests(SECOND, SECOND, 5).pauses(), work, |_| worth).await, tries)
        };
        assert_eq!(done(Retry::Counted(None)).await, (Ok("done"), 3));
        assert_eq!(done(Retry::Never).await, (Err(1), 1));
        let failing = retry(
            Backoff::of_requests(SECOND, SECOND, 2).pauses(),
            || async { Err::<(), _>(()) },
            |()| Retry::Counted(None),
        );
        assert_eq!(failing.await, Err(()));
    }
}
