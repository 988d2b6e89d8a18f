//! Runs file work on a thread that may block, so that no asynchronous task waits for a disk. Not responsible for: the work.

/// What the work returns. A panic of the work goes on here.
pub(super) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        // Nobody cancels it: a runtime that shuts down no longer polls this.
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}
