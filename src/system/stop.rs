//! Stops a task: gently where it is in a section that can end by itself, else by dropping it. Not responsible for: when
//! a task is to stop.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

tokio::task_local! {
    /// The stop of the task that runs here.
    static STOP: Stop;
}

/// The request to stop one task.
#[derive(Clone, Default)]
pub struct Stop(Arc<State>);

#[derive(Default)]
struct State {
    requested: watch::Sender<bool>,
    /// How many sections that end by themselves the task is in.
    gentle: watch::Sender<usize>,
}

impl Stop {
    /// Asks the task to stop. A second time changes nothing.
    pub fn request(&self) {
        self.0.requested.send_replace(true);
    }

    async fn requested(&self) {
        let seen = self.0.requested.subscribe().wait_for(|requested| *requested).await.map(drop);
        seen.expect("invariant: the sender is borrowed");
    }

    /// Runs work until it ends or is stopped; `None` if it was dropped. Once the stop is requested, sections inside
    /// [`gently`] have this long to end.
    pub async fn guard<T>(self, grace: Duration, work: impl Future<Output = T>) -> Option<T> {
        let stopped = async {
            self.requested().await;
            let mut gentle = self.0.gentle.subscribe();
            // Whether it is over or took too long: the work is dropped.
            let _ = tokio::time::timeout(grace, gentle.wait_for(|sections| *sections == 0)).await;
        };
        tokio::select! {
            biased;
            done = STOP.scope(self.clone(), work) => Some(done),
            () = stopped => None,
        }
    }
}

/// A section that ends by itself, counted while it lasts.
struct Section(Stop);

impl Section {
    fn enter(stop: &Stop) -> Self {
        stop.0.gentle.send_modify(|sections| *sections += 1);
        Self(stop.clone())
    }
}

impl Drop for Section {
    fn drop(&mut self) {
        self.0.0.gentle.send_modify(|sections| *sections -= 1);
    }
}

/// Runs work that `end` can bring to its end: it is called once if this task is asked to stop meanwhile.
pub async fn gently<T>(work: impl Future<Output = T>, end: impl FnOnce()) -> T {
    let Ok(stop) = STOP.try_with(Clone::clone) else { return work.await };
    let _section = Section::enter(&stop);
    tokio::pin!(work);
    tokio::select! {
        biased;
        done = &mut work => return done,
        () = stop.requested() => end(),
    }
    work.await
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRACE: Duration = Duration::from_secs(5);

    /// What became of work whose stop is requested from the start, and how long that took.
    async fn stopped<T>(work: impl Future<Output = T>) -> (Option<T>, Duration) {
        let (stop, started) = (Stop::default(), tokio::time::Instant::now());
        stop.request();
        (stop.guard(GRACE, work).await, started.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn work_that_ends_by_itself_is_waited_for_and_other_work_is_not() {
        let endless = std::future::pending::<()>();
        assert_eq!(stopped(endless).await, (None, Duration::ZERO));
        let (ask, asked) = tokio::sync::oneshot::channel();
        let work = async {
            asked.await.expect("asked");
            tokio::time::sleep(Duration::from_secs(1)).await;
            7
        };
        let ended = stopped(gently(work, || ask.send(()).expect("it listens"))).await;
        assert_eq!(ended, (Some(7), Duration::from_secs(1)));
    }

    #[tokio::test(start_paused = true)]
    async fn what_takes_too_long_or_goes_on_after_its_end_is_dropped() {
        assert_eq!(stopped(gently(std::future::pending::<()>(), || {})).await, (None, GRACE));
        let goes_on = async {
            gently(tokio::time::sleep(Duration::from_secs(1)), || {}).await;
            std::future::pending::<()>().await;
        };
        assert_eq!(stopped(goes_on).await, (None, Duration::from_secs(1)));
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_request_nothing_is_ended() {
        let work = gently(tokio::time::sleep(Duration::from_secs(60)), || panic!("nobody asked"));
        assert_eq!(Stop::default().guard(GRACE, work).await, Some(()));
    }
}
