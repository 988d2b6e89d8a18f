//! The room `registries`.
