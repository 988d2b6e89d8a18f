//! Machines that are addresses only. Not responsible for: two of one name.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Condvar, Mutex};

use super::locked;
use crate::support::machines::{Booted, Machines, Order};

/// Invents machines.
#[derive(Debug, Default)]
pub struct Invented {
    orders: Mutex<Vec<Order>>,
    alive: Mutex<Vec<String>>,
    held: Mutex<bool>,
    freed: Condvar,
}

impl Invented {
    /// While held, machines are ordered and do not boot.
    pub fn hold(&self, held: bool) {
        *locked(&self.held) = held;
        self.freed.notify_all();
    }

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
        let last = {
            let mut orders = locked(&self.orders);
            orders.push(order.clone());
            u8::try_from(orders.len() % 250).expect("small") + 1
        };
        drop(self.freed.wait_while(locked(&self.held), |held| *held).expect("not poisoned"));
        let mut alive = locked(&self.alive);
        assert!(!alive.contains(&order.name), "{} was booted twice", order.name);
        alive.push(order.name.clone());
        let address = IpAddr::V4(Ipv4Addr::new(192, 0, 2, last));
        Booted { address, ipv6: None, host_key: format!("ssh-ed25519 of-{}", order.name) }
    }

    fn kill(&self, name: &str) {
        locked(&self.alive).retain(|alive| alive != name);
    }
}
