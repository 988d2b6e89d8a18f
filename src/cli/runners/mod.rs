//! What the commands that build have to do with runners: which provider, what it offers, what bounds a run, how a runner is reached
//! and filled, and giving back what dead runs left. Refuses: the insides of providers and connections, and drawing plans.

pub mod bounds;
pub mod forecast;
mod on_demand;
pub mod place;
pub mod platforms;
pub mod reach;
pub mod recover;
pub mod rent;
pub mod specs;
mod travel;
mod vacancy;
