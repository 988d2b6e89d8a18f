//! The room `buildkit`.
