//! Watches a peer while work depends on it: a peer that hangs, or a link that is open on one side only, ends nothing by
//! itself. Not responsible for: how a peer is asked.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// How often a peer is asked.
const EVERY: Duration = Duration::from_secs(4);
/// How long it may take to answer.
pub const ANSWER: Duration = Duration::from_secs(6);
/// What a question may take beside the answer, so that whoever asks can say what is wrong.
const GRACE: Duration = Duration::from_secs(1);
/// How often in a row it may fail to answer. With the times above, a dead peer is noticed within 22 s.
const MISSES: u32 = 2;

/// Counts what a peer lets us hear by itself: while it does, nobody asks.
#[derive(Debug, Default)]
pub struct SignsOfLife(AtomicU64);

impl SignsOfLife {
    /// The peer was heard.
    pub fn heard(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Asks a peer again and again, and returns once it is silent: with the error of the last question, or `None` if there
/// was no answer in time.
pub async fn until_silent<E, A: Future<Output = Result<(), E>>>(signs: &SignsOfLife, ask: impl Fn() -> A) -> Option<E> {
    let (mut misses, mut heard) = (0, signs.count());
    loop {
        tokio::time::sleep(EVERY).await;
        let now = signs.count();
        if std::mem::replace(&mut heard, now) != now {
            misses = 0;
            continue;
        }
        let error = match tokio::time::timeout(ANSWER + GRACE, ask()).await {
            Ok(Ok(())) => {
                misses = 0;
                continue;
            }
            Ok(Err(error)) => Some(error),
            Err(_) => None,
        };
        misses += 1;
        // What was heard while we asked is an answer, too.
        if misses >= MISSES && signs.count() == heard {
            return error;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_says_nothing_is_noticed_within_half_a_minute() {
        let began = Instant::now();
        let signs = SignsOfLife::default();
        let silent: Option<()> = until_silent(&signs, std::future::pending).await;
        assert_eq!((silent, began.elapsed().as_secs()), (None, 22));
        let began = Instant::now();
        assert_eq!(until_silent(&signs, || async { Err("refused") }).await, Some("refused"));
        assert_eq!(began.elapsed().as_secs(), 8);
    }

    #[tokio::test(start_paused = true)]
    async fn one_answer_or_one_word_is_enough_to_go_on() {
        let (asked, signs) = (Cell::new(0), SignsOfLife::default());
        let ask = || {
            asked.set(asked.get() + 1);
            std::future::ready(if asked.get() % 2 == 0 { Ok(()) } else { Err(()) })
        };
        let hour = Duration::from_secs(3600);
        assert!(tokio::time::timeout(hour, until_silent(&signs, ask)).await.is_err(), "every second answer came");
        let speaks = async {
            loop {
                tokio::time::sleep(Duration::from_secs(3)).await;
                signs.heard();
            }
        };
        let never = || -> std::future::Ready<Result<(), ()>> { panic!("it was asked though it speaks") };
        let watch = until_silent(&signs, never);
        let both = async {
            tokio::select! { _ = watch => (), () = speaks => () }
        };
        assert!(tokio::time::timeout(hour, both).await.is_err());
    }
}
