//! Samples a runner's counters during a build. Not responsible for: failing a build whose runner has no counters.

use crate::domain::model::{BuildEvent, Measured};
use crate::domain::ports::{BuildSink, Counters, Usage};

/// How long the last look may take.
const LAST_LOOK: std::time::Duration = std::time::Duration::from_secs(4);

/// Awaits a build and reports its usage meanwhile, then awaits `after`; returns the build's measurement if the runner
/// counts.
pub async fn measured<T, U>(
    counters: &(impl Counters + ?Sized),
    sink: &BuildSink<'_>,
    build: impl Future<Output = T>,
    after: impl Future<Output = U>,
) -> (T, U, Option<Measured>) {
    let mut sum = Sum::default();
    let built = tokio::select! {
        built = build => built,
        never = sample(counters, sink, &mut sum) => match never {},
    };
    // A quick build may end before the second sample.
    let last = async {
        match sum.first {
            // A runner that hangs must not hold up the end of its build.
            Some(_) => tokio::time::timeout(LAST_LOOK, counters.usage()).await.ok().and_then(Result::ok),
            None => None,
        }
    };
    let (last, after) = tokio::join!(last, after);
    if let Some(last) = last {
        sum.add(&last);
    }
    (built, after, sum.measured())
}

async fn sample(counters: &(impl Counters + ?Sized), sink: &BuildSink<'_>, sum: &mut Sum) -> std::convert::Infallible {
    let mut clock = tokio::time::interval(counters.pace());
    clock.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        clock.tick().await;
        match counters.usage().await {
            Ok(usage) if usage.memory_limit == 0 => return std::future::pending().await,
            Ok(usage) => {
                sum.add(&usage);
                sink(BuildEvent::Memory { used: usage.memory_now, limit: usage.memory_limit });
            }
            // The build itself reports what is wrong with the runner.
            Err(fault) => tracing::debug!("no counters: {}", fault.message),
        }
    }
}

#[derive(Default)]
struct Sum {
    first: Option<Usage>,
    last: Usage,
    peak: u64,
}

impl Sum {
    fn add(&mut self, usage: &Usage) {
        // The first look's peak is older than the build.
        let seen = if self.first.is_some() { usage.memory_peak } else { usage.memory_now };
        self.first.get_or_insert(*usage);
        self.last = *usage;
        self.peak = self.peak.max(seen);
    }

    fn measured(&self) -> Option<Measured> {
        let first = self.first?;
        let cpu_us = self.last.cpu_us.saturating_sub(first.cpu_us);
        Some(Measured { memory_peak: self.peak, memory_limit: self.last.memory_limit, cpu_ms: cpu_us / 1000 })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::time::Duration;

    use async_trait::async_trait;

    use super::*;
    use crate::domain::model::Fault;

    /// Its counters rise a little each time; the peak is short and in between two looks.
    struct Steps(Mutex<u64>, u64);

    #[async_trait]
    impl Counters for Steps {
        async fn usage(&self) -> Result<Usage, Fault> {
            let mut looks = self.0.lock().expect("whole");
            *looks += 1;
            let memory_peak = if *looks == 3 { 700 } else { 1000 / *looks };
            let (memory_now, cpu_us) = (100, *looks * 10_000);
            Ok(Usage { memory_now, memory_peak, memory_limit: self.1, cpu_us, ..Usage::default() })
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_peak_is_the_most_that_was_seen_and_processor_time_what_was_added() {
        let told = Mutex::new(Vec::new());
        let sink = |event: BuildEvent| told.lock().expect("whole").push(event);
        let build = async {
            tokio::time::sleep(Duration::from_millis(1800)).await;
            "built"
        };
        let (built, (), measured) = measured(&Steps(Mutex::new(0), 1000), &sink, build, async {}).await;
        // Sampled after 0, 500, 1000 and 1500 ms, and at the end.
        let expected = Measured { memory_peak: 700, memory_limit: 1000, cpu_ms: 40 };
        assert_eq!((built, measured), ("built", Some(expected)));
        let told = told.into_inner().expect("whole");
        assert_eq!((told.len(), &told[2]), (4, &BuildEvent::Memory { used: 100, limit: 1000 }));
    }

    #[tokio::test(start_paused = true)]
    async fn a_build_too_short_to_be_looked_at_is_told_by_the_kernels_own_mark() {
        let build = tokio::time::sleep(Duration::from_millis(100));
        let (.., measured) = measured(&Steps(Mutex::new(0), 1000), &|_| {}, build, async {}).await;
        assert_eq!(measured.map(|all| all.memory_peak), Some(500), "of the second look alone");
    }

    #[tokio::test(start_paused = true)]
    async fn where_nobody_counts_nothing_is_told() {
        let sink = |event: BuildEvent| panic!("{event:?}");
        let build = tokio::time::sleep(Duration::from_secs(60));
        assert_eq!(measured(&Steps(Mutex::new(0), 0), &sink, build, async {}).await.2, None);
    }
}
