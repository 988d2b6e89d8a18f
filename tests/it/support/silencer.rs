//! Stands between a client and any server, and makes the server silent on demand: it takes connections and requests, and
//! what comes back is nothing, the beginning of an answer, or a byte now and then. Not responsible for: what is said.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// What comes back of the server's answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Silence {
    /// All of it.
    None,
    /// Nothing, and nothing gets there either: it only takes the connection.
    Deaf,
    /// The head of an answer (of one in TLS, its first bytes), and then nothing. Requests take effect.
    HeadOnly,
    /// A byte each five seconds, for ever. Requests take effect.
    Drip,
}

/// The ways of being silent.
pub const SILENCES: [Silence; 3] = [Silence::Deaf, Silence::HeadOnly, Silence::Drip];

/// Between the bytes of [`Silence::Drip`].
const DRIP: Duration = Duration::from_secs(5);
/// How much of an answer that has no head to be seen comes back.
const BEGINNING: usize = 60;

struct State {
    silence: Silence,
    since: Instant,
    /// The first request that has these bytes, and what follows it, meets this silence.
    trigger: Option<(Vec<u8>, Silence)>,
    streams: Vec<TcpStream>,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    to: SocketAddr,
}

/// The one in between. What it has open ends with it.
pub struct Silencer {
    shared: Arc<Shared>,
    address: SocketAddr,
}

impl Silencer {
    /// In front of this server, on a port of its own on the loopback.
    pub fn before(to: &str) -> Self {
        let to = to.parse().expect("an address");
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let state = State { silence: Silence::None, since: Instant::now(), trigger: None, streams: Vec::new() };
        let shared = Arc::new(Shared { state: Mutex::new(state), changed: Condvar::new(), to });
        let inside = Arc::clone(&shared);
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                relay(&inside, client);
            }
        });
        Self { shared, address }
    }

    /// `127.0.0.1:PORT`.
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// From now on. When it ends, so do the connections that it spoilt.
    pub fn set(&self, silence: Silence) {
        let mut state = self.shared.state();
        state.set(silence);
        if silence == Silence::None {
            for stream in state.streams.drain(..) {
                let _ = stream.shutdown(Shutdown::Both);
            }
        }
        self.shared.changed.notify_all();
    }

    /// From the first request on that has this text (`POST /v1/servers`).
    pub fn set_at(&self, request: &str, silence: Silence) {
        self.shared.state().trigger = Some((request.as_bytes().to_vec(), silence));
    }

    /// How long it has been as it is.
    pub fn since(&self) -> Duration {
        self.shared.state().since.elapsed()
    }

    /// Whether it is silent by now.
    pub fn is_silent(&self) -> bool {
        self.shared.state().silence != Silence::None
    }
}

impl Drop for Silencer {
    fn drop(&mut self) {
        self.set(Silence::None);
    }
}

impl State {
    fn set(&mut self, silence: Silence) {
        (self.silence, self.since, self.trigger) = (silence, Instant::now(), None);
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What meets a request.
    fn asked(&self, request: &[u8]) -> Silence {
        let mut state = self.state();
        if let Some((_, silence)) = state.trigger.take_if(|(text, _)| contains(request, text)) {
            state.set(silence);
        }
        state.silence
    }

    /// Waits between two drips, or until it is over.
    fn drip(&self) {
        let over = |state: &mut State| state.silence == Silence::Drip;
        drop(self.changed.wait_timeout_while(self.state(), DRIP, over));
    }
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

fn relay(shared: &Arc<Shared>, client: TcpStream) {
    let Ok(server) = TcpStream::connect(shared.to) else { return };
    let copies = (client.try_clone().expect("a handle"), server.try_clone().expect("a handle"));
    shared.state().streams.extend([client.try_clone().expect("a handle"), server.try_clone().expect("a handle")]);
    let (asks, answers) = (Arc::clone(shared), Arc::clone(shared));
    std::thread::spawn(move || requests(&asks, client, server));
    std::thread::spawn(move || responses(&answers, copies.1, copies.0));
}

fn requests(shared: &Shared, mut client: TcpStream, mut server: TcpStream) {
    let mut bytes = [0; 16 * 1024];
    while let Ok(read) = client.read(&mut bytes) {
        if read == 0 || (shared.asked(&bytes[..read]) != Silence::Deaf && server.write_all(&bytes[..read]).is_err()) {
            break;
        }
    }
    let _ = server.shutdown(Shutdown::Both);
}

fn responses(shared: &Shared, mut server: TcpStream, mut client: TcpStream) {
    let (mut bytes, mut is_headed) = ([0; 16 * 1024], false);
    while let Ok(read) = server.read(&mut bytes) {
        let (answer, silence) = (&bytes[..read], shared.state().silence);
        let sent = match silence {
            _ if read == 0 => break,
            Silence::None => client.write_all(answer),
            Silence::Deaf => Ok(()),
            Silence::HeadOnly if std::mem::replace(&mut is_headed, true) => Ok(()),
            Silence::HeadOnly => client.write_all(head(answer)),
            Silence::Drip => answer.iter().try_for_each(|byte| {
                shared.drip();
                client.write_all(&[*byte])
            }),
        };
        if sent.is_err() {
            break;
        }
    }
    let _ = client.shutdown(Shutdown::Both);
}

/// The head of an answer.
fn head(answer: &[u8]) -> &[u8] {
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n").map(|at| at + 4);
    &answer[..end.unwrap_or(BEGINNING).min(answer.len())]
}
