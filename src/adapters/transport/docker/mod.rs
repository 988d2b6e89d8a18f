//! A container as a runner: scripts by `docker exec`, files by `docker cp`. Not responsible for: creating and
//! removing the container.

mod container;
mod copy;
#[cfg(test)]
mod tests;

pub use container::ContainerExec;
