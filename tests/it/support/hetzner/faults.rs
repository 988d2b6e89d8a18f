//! What goes wrong on demand. Not responsible for: chance that cannot be repeated.

/// A fault that waits for its request.
#[derive(Debug, Clone)]
pub struct FaultPlan {
    /// `POST /servers`, `GET /actions/{id}`; `*` for any.
    pub on: String,
    /// How it fails.
    pub kind: Kind,
}

impl FaultPlan {
    /// Of this kind, on this request.
    pub fn new(on: &str, kind: Kind) -> Self {
        Self { on: on.to_owned(), kind }
    }
}

/// How a request fails.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// Refused with this status and the API's code; nothing is done.
    Status(u16, &'static str),
    /// 429, with a `RateLimit-Reset` so many seconds away.
    Limited(u64),
    /// Nothing is done, and the connection is closed.
    LostRequest,
    /// It is done, and the connection is closed without an answer.
    LostAnswer,
    /// It is done, and there is never an answer.
    Hang,
    /// It is answered as though it had no label selector.
    Unfiltered,
    /// From now on this type is not to be had there.
    SoldOut {
        /// `cax11`.
        server_type: String,
        /// `fsn1`.
        location: String,
    },
}

#[derive(Debug, Default)]
pub(super) struct Faults {
    plans: Vec<FaultPlan>,
    permille: u64,
    dice: u64,
    count: usize,
}

impl Faults {
    pub(super) fn plan(&mut self, plan: FaultPlan) {
        self.plans.push(plan);
    }

    pub(super) fn forget(&mut self) {
        *self = Self { count: self.count, ..Self::default() };
    }

    pub(super) fn chaos(&mut self, seed: u64, permille: u64) {
        (self.dice, self.permille) = (seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1, permille);
    }

    /// How many requests failed so far.
    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// What happens to this request.
    pub(super) fn next(&mut self, what: &str) -> Option<Kind> {
        let happens = self.decided(what);
        self.count += usize::from(happens.is_some());
        happens
    }

    fn decided(&mut self, what: &str) -> Option<Kind> {
        if let Some(index) = self.plans.iter().position(|plan| plan.on == what || plan.on == "*") {
            return Some(self.plans.remove(index).kind);
        }
        if self.permille == 0 || self.throw() % 1000 >= self.permille {
            return None;
        }
        Some(match self.throw() % 6 {
            0 => Kind::Status(500, "server_error"),
            1 => Kind::Status(502, "bad_gateway"),
            2 => Kind::Limited(0),
            3 => Kind::Status(412, "resource_unavailable"),
            4 => Kind::LostRequest,
            _ => Kind::LostAnswer,
        })
    }

    /// xorshift64*.
    fn throw(&mut self) -> u64 {
        self.dice ^= self.dice >> 12;
        self.dice ^= self.dice << 25;
        self.dice ^= self.dice >> 27;
        self.dice.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33
    }
}
