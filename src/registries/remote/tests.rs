//! Tests of the registry client against a small fake that says what real ones say: refusals, stumbles, tampering. The real
//! one is in `tests/it/registry.rs`.
