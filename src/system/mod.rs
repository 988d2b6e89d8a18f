//! What every adapter needs once. Not responsible for: layers, runners, or anything else of the domain.

mod clock;

pub use clock::now;
