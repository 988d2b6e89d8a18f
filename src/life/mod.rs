//! The room `life`.
