//! What is done before a command uses a project's state. Not responsible for: making the state folder.

use super::error::StateError;
use super::legacy;
use super::place::State;

/// Takes a `.lian` of before over, once, and the state of a project that was moved: its user names it, or moved it
/// along.
pub fn settle(state: &State) -> Result<(), StateError> {
    let there = state.look()?.is_some();
    legacy::settle(state, there)?;
    if there && state.recorded_root().is_some_and(|recorded| recorded != state.root()) {
        tracing::warn!("the state in {} is now that of {}", state.path().display(), state.root().display());
        state.make()?;
    }
    Ok(())
}
