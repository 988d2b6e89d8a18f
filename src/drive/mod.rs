//! The room `drive`.
