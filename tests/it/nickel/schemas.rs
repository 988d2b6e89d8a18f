//! The schemas and the model agree.
