//! The room `nickel`.
