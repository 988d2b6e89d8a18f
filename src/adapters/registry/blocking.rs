//! Runs file work on blocking threads, so that no async task waits for a disk. Not responsible for: the work itself.

/// Returns the result of `work`. A panic in `work` is propagated.
pub(super) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        // The task is never aborted, and a runtime that shuts down no longer polls this.
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}
