//! A runner in a container: scripts by `docker exec`, files by `docker cp`. Not responsible for: making the container, and
//! removing it.

mod container;
mod copy;
#[cfg(test)]
mod tests;

pub use container::ContainerExec;
