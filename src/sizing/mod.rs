//! The room `sizing`.
