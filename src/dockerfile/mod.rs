//! The room `dockerfile`.
