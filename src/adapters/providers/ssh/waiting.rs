//! Tells whom a request for a host waits for. Not responsible for: waiting.

use crate::domain::base::RunId;
use crate::domain::ports::{AcquireRequest, Held};

/// What was told of one request that waits.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    told: Option<Vec<String>>,
}

impl Waiting {
    /// Tells who holds the hosts that fit: once, and again when others hold them.
    pub(super) fn tell(&mut self, request: &AcquireRequest, taken: &[(String, Held)]) {
        let runs = taken.iter().filter_map(|(host, held)| Some(format!("{host} {}", held.by.as_ref()?.run))).collect();
        // Whoever has just taken a host writes its name a moment later.
        let unnamed = taken.iter().any(|(_, held)| held.by.is_none());
        match &self.told {
            Some(told) if *told == runs || unnamed => return,
            _ => self.told = Some(runs),
        }
        let holders = holders(taken, &request.run);
        tracing::warn!(layer = %request.layer, "all hosts that fit are taken: waiting for {holders}");
    }
}

/// `builder-1 (held by ana@laptop …); builder-2 (held by this run)`.
fn holders(taken: &[(String, Held)], own: &RunId) -> String {
    let one = |(host, held): &(String, Held)| match &held.by {
        Some(by) if by.run == own.as_str() => format!("{host}, held by this run"),
        _ => format!("{host}, {held}"),
    };
    taken.iter().map(one).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::domain::ports::Holder;

    #[test]
    fn each_holder_is_named_and_our_own_run_is_called_so() {
        let by = |run: &str| {
            let holder = Holder { owner: "ana@laptop".into(), run: run.into(), ..Holder::default() };
            Held { by: Some(holder), age: Some(Duration::from_secs(723)) }
        };
        let taken = [("a".to_owned(), by("7f3a")), ("b".to_owned(), by("own")), ("c".to_owned(), Held::default())];
        assert_eq!(
            holders(&taken, &RunId::from("own")),
            "a, held by ana@laptop (run 7f3a) for 12m 03s; b, held by this run; c, held by somebody who left no name"
        );
    }
}
