//! An HTTP server that is asked, and how long it may say nothing: one bound for every request, whoever sends it. A server
//! that takes connections and never answers, that stops in the middle of an answer or that sends a byte now and then is
//! given up alike. Not responsible for: clients (see `http`), and whether a request may be sent again.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use reqwest::header::HeaderMap;
use reqwest::{Client, Method, RequestBuilder, Response, StatusCode};
use tokio::time::{Instant, timeout};

use super::retry::Retry;

/// How long one request may be without its whole answer, and a transfer without going on.
pub const SILENCE: Duration = Duration::from_secs(13);
/// How long a server may say nothing at all, however many requests were sent meanwhile: the first one and another.
const PATIENCE: Duration = Duration::from_secs(22);
/// How long each further request waits for a server that is known to be silent.
const KNOCK: Duration = Duration::from_secs(2);
/// So many answers, each within this bound, are wanted of a server that was silent before it is waited for as before.
const RETURNING: (u32, Duration) = (3, Duration::from_secs(5));
/// A transfer that brings less than this in each second has stopped, though a byte comes now and then.
const LEAST_BYTES_PER_SECOND: u64 = 1024;
/// How long such a transfer is looked at, twice in a row.
const LOOK: Duration = Duration::from_millis(6500);
/// How often an upload is looked at.
const TICK: Duration = Duration::from_millis(500);
/// A server may store what was uploaded at this pace, in bytes a second, before it answers; and at most so long.
const STORED_PER_SECOND: u64 = 256 * 1024;
const STORING: Duration = Duration::from_secs(600);

/// A server. Clones share what is known of its silence.
#[derive(Debug, Clone)]
pub struct Peer {
    client: Client,
    silence: Duration,
    /// Its silence, where the last request was not answered.
    silent: Arc<Mutex<Option<Silent>>>,
}

/// A server's silence.
#[derive(Debug, Clone, Copy)]
struct Silent {
    /// When the first request was sent that it left unanswered.
    since: Instant,
    /// How many it has answered after it was given up.
    answers: u32,
}

/// A whole answer.
#[derive(Debug)]
pub struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// The text beside the status, if it is not the usual one.
    pub phrase: Option<String>,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Vec<u8>,
}

/// Why there is no whole answer.
#[derive(Debug, thiserror::Error)]
pub enum Lost {
    /// Nothing came in time. The request may have taken effect.
    #[error("no answer in time")]
    Silent {
        /// Whether to ask once more.
        again: bool,
    },
    /// The transfer is so slow that it would never end.
    #[error("its answer comes too slowly to be one")]
    Slow,
    /// The connection failed.
    #[error(transparent)]
    Broken(reqwest::Error),
    /// The body is longer than allowed.
    #[error("the answer is longer than {0} bytes")]
    TooLong(usize),
}

impl Lost {
    /// Whether the server says nothing, or as good as nothing.
    pub fn is_silence(&self) -> bool {
        matches!(self, Self::Silent { .. } | Self::Slow)
    }

    /// Whether sending a repeatable request again may help.
    pub fn retry(&self) -> Retry {
        match self {
            Self::Silent { again: true } => Retry::Once,
            Self::Silent { again: false } | Self::Slow | Self::TooLong(_) => Retry::Never,
            Self::Broken(_) => Retry::Counted(None),
        }
    }
}

/// How far an answer's body has come.
#[derive(Debug)]
pub struct Transfer {
    response: Response,
    pace: Pace,
}

impl Peer {
    /// A server, asked through this client.
    pub fn new(client: Client) -> Self {
        Self { client, silence: SILENCE, silent: Arc::default() }
    }

    /// The same with another bound than [`SILENCE`] for a request.
    #[must_use]
    pub fn silence(self, silence: Duration) -> Self {
        Self { silence: silence.min(SILENCE), ..self }
    }

    /// A request to it.
    pub fn request(&self, method: Method, url: impl reqwest::IntoUrl) -> RequestBuilder {
        self.client.request(method, url)
    }

    /// Sends a request and reads the whole answer of at most `most` bytes, all of it within the bound, or within
    /// `within` where that is less.
    ///
    /// # Errors
    /// [`Lost`].
    pub async fn ask(&self, request: RequestBuilder, within: Duration, most: usize) -> Result<Answer, Lost> {
        let began = Instant::now();
        let whole = async { self.whole(request.send().await.map_err(broken)?, most).await };
        self.within(began, within, whole).await
    }

    /// As [`Self::ask`], for a request whose answer may take this long to begin: something else watches the server
    /// meanwhile.
    ///
    /// # Errors
    /// [`Lost`].
    pub async fn ask_watched(&self, request: RequestBuilder, begins: Duration, most: usize) -> Result<Answer, Lost> {
        let response = match timeout(begins, request.send()).await {
            Ok(sent) => sent.map_err(|error| self.noted(Instant::now(), broken(error)))?,
            Err(_) => return Err(Lost::Silent { again: false }),
        };
        let began = Instant::now();
        self.within(began, self.silence, self.whole(response, most)).await
    }

    /// Sends a request and waits for the beginning of its answer.
    ///
    /// # Errors
    /// [`Lost`].
    pub async fn open(&self, request: RequestBuilder) -> Result<Transfer, Lost> {
        let sent = async { request.send().await.map_err(broken) };
        let response = self.bounded(Instant::now(), self.silence, sent).await?;
        Ok(Transfer { response, pace: Pace::default() })
    }

    /// As [`Self::open`], for a request with a body of this size, of which a counter tells how much was taken. `alive`
    /// asks the server something else while it stores the body, and returns when that is not answered either.
    ///
    /// # Errors
    /// [`Lost`].
    pub async fn upload(
        &self,
        request: RequestBuilder,
        (taken, size): (&AtomicU64, u64),
        alive: impl Future<Output = ()>,
    ) -> Result<Transfer, Lost> {
        let began = Instant::now();
        let stalled = async {
            if !all_taken(taken, size).await {
                return;
            }
            let storing = Duration::from_secs(size / STORED_PER_SECOND).min(STORING);
            tokio::select! {
                () = tokio::time::sleep(self.allowed(began) + storing) => {}
                () = alive => {}
            }
        };
        let response = tokio::select! {
            sent = request.send() => sent.map_err(|error| self.noted(began, broken(error)))?,
            () = stalled => return Err(self.noted(began, Lost::Silent { again: true })),
        };
        Ok(Transfer { response, pace: Pace::default() })
    }

    /// The next piece of a body; `None` at its end.
    ///
    /// # Errors
    /// [`Lost`].
    pub async fn next(&self, transfer: &mut Transfer) -> Result<Option<Bytes>, Lost> {
        let began = Instant::now();
        let chunk = async { transfer.response.chunk().await.map_err(broken) };
        let chunk = self.bounded(began, self.silence, chunk).await?;
        let Some(bytes) = &chunk else {
            self.heard();
            return Ok(None);
        };
        match transfer.pace.is_good(began.elapsed(), bytes.len() as u64) {
            Some(true) => self.heard(),
            Some(false) => return Err(Lost::Slow),
            None => {}
        }
        Ok(chunk)
    }

    /// The rest of a body, of at most `most` bytes.
    ///
    /// # Errors
    /// [`Lost`].
    pub async fn rest(&self, transfer: &mut Transfer, most: usize) -> Result<Vec<u8>, Lost> {
        let mut body = Vec::new();
        while let Some(chunk) = self.next(transfer).await? {
            if body.len() + chunk.len() > most {
                return Err(Lost::TooLong(most));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }

    async fn whole(&self, mut response: Response, most: usize) -> Result<Answer, Lost> {
        let phrase = response.extensions().get::<hyper::ext::ReasonPhrase>();
        let phrase = phrase.map(|phrase| String::from_utf8_lossy(phrase.as_bytes()).into_owned());
        let (status, headers) = (response.status(), response.headers().clone());
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(broken)? {
            if body.len() + chunk.len() > most {
                return Err(Lost::TooLong(most));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Answer { status, phrase, headers, body })
    }

    /// Work that ends with a whole answer.
    async fn within<T>(
        &self,
        began: Instant,
        within: Duration,
        work: impl Future<Output = Result<T, Lost>>,
    ) -> Result<T, Lost> {
        let done = self.bounded(began, within, work).await?;
        self.heard();
        Ok(done)
    }

    async fn bounded<T>(
        &self,
        began: Instant,
        within: Duration,
        work: impl Future<Output = Result<T, Lost>>,
    ) -> Result<T, Lost> {
        let done = timeout(self.allowed(began).min(within), work).await;
        done.unwrap_or(Err(Lost::Silent { again: true })).map_err(|lost| self.noted(began, lost))
    }

    /// How long a request may take that begins now.
    fn allowed(&self, now: Instant) -> Duration {
        let knock = KNOCK.min(self.silence);
        match *self.state() {
            Some(Silent { answers: 1.., .. }) => RETURNING.1.min(self.silence),
            Some(Silent { since, .. }) => {
                (since + self.patience()).saturating_duration_since(now).clamp(knock, self.silence)
            }
            None => self.silence,
        }
    }

    /// Whoever watched it meanwhile found it silent.
    pub fn gave_up(&self) {
        let since = Instant::now().checked_sub(self.patience());
        *self.state() = since.map(|since| Silent { since, answers: 0 });
    }

    /// Whether it has said nothing for so long that it is not worth a long wait.
    pub fn is_silent(&self) -> bool {
        self.state().is_some_and(|silent| silent.answers == 0 && silent.since.elapsed() >= self.patience())
    }

    fn patience(&self) -> Duration {
        self.silence.mul_f64(PATIENCE.as_secs_f64() / SILENCE.as_secs_f64())
    }

    fn heard(&self) {
        let mut state = self.state();
        *state = state.take().and_then(|silent| {
            let answers = silent.answers + 1;
            let is_back = silent.since.elapsed() < self.patience() || answers >= RETURNING.0;
            (!is_back).then_some(Silent { answers, ..silent })
        });
    }

    /// Notes how a request that began then has failed. Where the server is silent for too long by now, it is not asked
    /// once more.
    fn noted(&self, began: Instant, lost: Lost) -> Lost {
        if !matches!(lost, Lost::Silent { .. }) {
            return lost;
        }
        let mut state = self.state();
        let silent = state.get_or_insert(Silent { since: began, answers: 0 });
        silent.answers = 0;
        Lost::Silent { again: silent.since.elapsed() < self.patience() }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, Option<Silent>> {
        self.silent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Transfer {
    /// The status.
    pub fn status(&self) -> StatusCode {
        self.response.status()
    }

    /// The headers.
    pub fn headers(&self) -> &HeaderMap {
        self.response.headers()
    }
}

/// What a transfer brought in the time that was spent waiting for it.
#[derive(Debug, Default)]
struct Pace {
    waited: Duration,
    bytes: u64,
    slow: u32,
}

impl Pace {
    /// Counts a piece. At the end of each look: whether the transfer goes on; `None` before.
    fn is_good(&mut self, waited: Duration, bytes: u64) -> Option<bool> {
        self.waited += waited;
        self.bytes += bytes;
        let least = LEAST_BYTES_PER_SECOND * LOOK.as_secs();
        if self.bytes >= least {
            *self = Self::default();
            return Some(true);
        }
        if self.waited < LOOK {
            return None;
        }
        *self = Self { slow: self.slow + 1, ..Self::default() };
        (self.slow >= 2).then_some(false)
    }
}

/// Completes with true once all of a body was taken; with false when it does not go on.
async fn all_taken(taken: &AtomicU64, size: u64) -> bool {
    let (mut pace, mut before) = (Pace::default(), 0);
    loop {
        let now = taken.load(Ordering::Relaxed);
        if now >= size {
            return true;
        }
        if pace.is_good(TICK, now - before) == Some(false) {
            return false;
        }
        before = now;
        tokio::time::sleep(TICK).await;
    }
}

/// A timeout of the client itself, such as while connecting, is silence, too.
fn broken(error: reqwest::Error) -> Lost {
    if error.is_timeout() { Lost::Silent { again: true } } else { Lost::Broken(error.without_url()) }
}

#[cfg(test)]
#[path = "peer_tests.rs"]
mod tests;
