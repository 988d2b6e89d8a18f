//! Puts providers, connections and BuildKit together: what a run needs to rent runners and to reach them. Not responsible
//! for: the insides of any of them.

pub mod bounds;
mod on_demand;
pub mod reach;
pub mod rent;
mod travel;
mod vacancy;
