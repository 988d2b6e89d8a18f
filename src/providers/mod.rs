//! The room `providers`.
