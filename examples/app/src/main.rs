//! The process: reads the address, serves, and stops cleanly on SIGTERM or Ctrl-C. The service itself is in `service`.

mod service;

use std::process::ExitCode;

use tokio::net::TcpListener;
use tokio::signal::unix::{signal, SignalKind};

const USAGE: &str = "tally [--version]\n\nServes on TALLY_ADDRESS (default 0.0.0.0:8080).";

fn main() -> ExitCode {
    match std::env::args().nth(1).as_deref() {
        None => match run() {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("tally: {error}");
                ExitCode::FAILURE
            }
        },
        Some("--version") => {
            println!("tally {}", env!("CARGO_PKG_VERSION"));
            ExitCode::SUCCESS
        }
        Some(_) => {
            eprintln!("{USAGE}");
            ExitCode::from(64)
        }
    }
}

#[tokio::main]
async fn run() -> std::io::Result<()> {
    let address = std::env::var("TALLY_ADDRESS").unwrap_or_else(|_| "0.0.0.0:8080".into());
    let listener = TcpListener::bind(&address).await?;
    eprintln!("tally: listening on {}", listener.local_addr()?);
    let mut terminate = signal(SignalKind::terminate())?;
    axum::serve(listener, service::router(service::Tallies::default()))
        .with_graceful_shutdown(async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = tokio::signal::ctrl_c() => {}
            }
        })
        .await
}
