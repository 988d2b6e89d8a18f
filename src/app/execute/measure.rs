//! Samples a runner's counters during a build. Not responsible for: failing a build whose runner has no counters.

use crate::domain::model::{BuildEvent, Measured};
use crate::domain::ports::{BuildSink, Counters, Usage};

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
            Some(_) => counters.usage().await.ok(),
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
    looks: u32,
}

/// With fewer samples, a build was too short for its peak to be caught.
const ENOUGH: u32 = 4;

impl Sum {
    fn add(&mut self, usage: &Usage) {
        self.first.get_or_insert(*usage);
        self.last = *usage;
        self.peak = self.peak.max(usage.memory_now);
        self.looks += 1;
    }

    fn measured(&self) -> Option<Measured> {
        let first = self.first?;
        let cpu_us = self.last.cpu_us.saturating_sub(first.cpu_us);
        // The kernel's peak includes caches; it belongs to this build only if this build raised it.
        let raised = self.looks < ENOUGH && self.last.memory_peak > first.memory_peak;
        let memory_peak = if raised { self.peak.max(self.last.memory_peak) } else { self.peak };
        Some(Measured { memory_peak, memory_limit: self.last.memory_limit, cpu_ms: cpu_us / 1000 })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::time::Duration;

    use async_trait::async_trait;

    use super::*;
    use crate::domain::model::Fault;

    /// Its counters rise a little each time.
    struct Steps(Mutex<u64>, u64);

    #[async_trait]
    impl Counters for Steps {
        async fn usage(&self) -> Result<Usage, Fault> {
            let mut looks = self.0.lock().expect("whole");
            *looks += 1;
            let memory_now = if *looks == 3 { 700 } else { 100 };
            let (memory_peak, cpu_us) = (*looks * 200, *looks * 10_000);
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
        assert_eq!((told.len(), &told[2]), (4, &BuildEvent::Memory { used: 700, limit: 1000 }));
    }

    #[tokio::test(start_paused = true)]
    async fn a_build_too_short_to_be_looked_at_is_told_by_the_kernels_own_mark() {
        let build = tokio::time::sleep(Duration::from_millis(100));
        let (.., measured) = measured(&Steps(Mutex::new(0), 1000), &|_| {}, build, async {}).await;
        assert_eq!(measured.map(|all| all.memory_peak), Some(400));
    }

    #[tokio::test(start_paused = true)]
    async fn where_nobody_counts_nothing_is_told() {
        let sink = |event: BuildEvent| panic!("{event:?}");
        let build = tokio::time::sleep(Duration::from_secs(60));
        assert_eq!(measured(&Steps(Mutex::new(0), 0), &sink, build, async {}).await.2, None);
    }
}
