//! Machines that are addresses only. Refuses: two of one name.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Mutex;

use super::locked;
use crate::support::machines::{Booted, Machines, Order};

/// Invents machines.
#[derive(Debug, Default)]
pub struct Invented {
    orders: Mutex<Vec<Order>>,
    alive: Mutex<Vec<String>>,
}

impl Invented {
    /// Everything that was ever ordered.
    pub fn orders(&self) -> Vec<Order> {
        locked(&self.orders).clone()
    }

    /// The names of those that live.
    pub fn alive(&self) -> Vec<String> {
        locked(&self.alive).clone()
    }
}

impl Machines for Invented {
    fn boot(&self, order: &Order) -> Booted {
        let mut orders = locked(&self.orders);
        let mut alive = locked(&self.alive);
        assert!(!alive.contains(&order.name), "{} was booted twice", order.name);
        alive.push(order.name.clone());
        orders.push(order.clone());
        let last = u8::try_from(orders.len() % 250).expect("small") + 1;
        let address = IpAddr::V4(Ipv4Addr::new(192, 0, 2, last));
        Booted { address, host_key: format!("ssh-ed25519 of-{}", order.name) }
    }

    fn kill(&self, name: &str) {
        locked(&self.alive).retain(|alive| alive != name);
    }
}
