//! Counters of the service in the Prometheus text format. Not responsible for: names of leases, workspaces or
//! callers.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Methods with a label of their own; others count as `other`.
const METHODS: [&str; 4] = ["GET", "POST", "DELETE", "HEAD"];
/// All states, so that a gauge drops to zero instead of disappearing.
const STATES: [&str; 4] = ["asked", "held", "releasing", "stuck"];

/// Counters since the start of the process.
#[derive(Debug, Default)]
pub struct Metrics {
    requests: Mutex<BTreeMap<(&'static str, u16), u64>>,
    acquired: AtomicU64,
    acquire_ms: AtomicU64,
    acquire_failures: AtomicU64,
    release_failures: AtomicU64,
    expired: AtomicU64,
}

impl Metrics {
    /// Counts an answered request.
    pub fn answered(&self, method: &str, code: u16) {
        let method = METHODS.into_iter().find(|known| *known == method).unwrap_or("other");
        let mut requests = self.requests.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        *requests.entry((method, code)).or_default() += 1;
    }

    /// Counts a granted machine and the time it took.
    pub fn acquired(&self, after: Duration) {
        self.acquired.fetch_add(1, Ordering::Relaxed);
        self.acquire_ms.fetch_add(u64::try_from(after.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Counts a lease that was not granted.
    pub fn acquire_failed(&self) {
        self.acquire_failures.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a failed release.
    pub fn release_failed(&self) {
        self.release_failures.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts leases that expired.
    pub fn expired(&self, leases: usize) {
        self.expired.fetch_add(u64::try_from(leases).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// The counters in the Prometheus text format. `leases` is the number by state.
    pub fn text(&self, leases: &BTreeMap<String, u64>) -> String {
        let mut text = String::new();
        let mut family = |name: &str, kind: &str, help: &str, samples: &[(String, String)]| {
            let _ = write!(text, "# HELP lian_build_pool_{name} {help}\n# TYPE lian_build_pool_{name} {kind}\n");
            for (labels, value) in samples {
                let _ = writeln!(text, "lian_build_pool_{name}{labels} {value}");
            }
        };
        let states = STATES.map(|state| (format!("{{state=\"{state}\"}}"), number(leases.get(state).copied())));
        family("leases", "gauge", "Leases by state.", &states);
        let requests = self.requests.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let requests: Vec<_> = requests
            .iter()
            .map(|((method, code), count)| (format!("{{method=\"{method}\",code=\"{code}\"}}"), count.to_string()))
            .collect();
        family("requests_total", "counter", "Requests by method and status.", &requests);
        let of = |counter: &AtomicU64| [(String::new(), number(Some(counter.load(Ordering::Relaxed))))];
        family("acquire_failures_total", "counter", "Machines that were not granted.", &of(&self.acquire_failures));
        let help = "Tries to give a machine back that failed.";
        family("release_failures_total", "counter", help, &of(&self.release_failures));
        family("expired_total", "counter", "Leases that ended by themselves.", &of(&self.expired));
        family("acquire_seconds", "summary", "Time until a machine was granted.", &[]);
        let ms = self.acquire_ms.load(Ordering::Relaxed);
        let _ = writeln!(text, "lian_build_pool_acquire_seconds_sum {}.{:03}", ms / 1000, ms % 1000);
        let _ = writeln!(text, "lian_build_pool_acquire_seconds_count {}", self.acquired.load(Ordering::Relaxed));
        text
    }
}

fn number(count: Option<u64>) -> String {
    count.unwrap_or_default().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_is_one_that_prometheus_reads() {
        let metrics = Metrics::default();
        metrics.answered("GET", 200);
        metrics.answered("GET", 200);
        metrics.answered("BREW", 405);
        metrics.acquired(Duration::from_millis(1_050));
        let text = metrics.text(&BTreeMap::from([("held".to_owned(), 2)]));
        assert!(text.contains("lian_build_pool_leases{state=\"held\"} 2\n"), "{text}");
        assert!(text.contains("lian_build_pool_leases{state=\"stuck\"} 0\n"), "{text}");
        assert!(text.contains("lian_build_pool_requests_total{method=\"GET\",code=\"200\"} 2\n"), "{text}");
        assert!(text.contains("lian_build_pool_requests_total{method=\"other\",code=\"405\"} 1\n"), "{text}");
        assert!(text.contains("lian_build_pool_acquire_seconds_sum 1.050\n"), "{text}");
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let (name, value) = line.rsplit_once(' ').expect("a name and a value");
            assert!(name.starts_with("lian_build_pool_") && value.parse::<f64>().is_ok(), "{line}");
        }
    }
}
