//! Estimates the total time of parallel steps with dependencies. Not responsible for: estimating single steps.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};

/// Remaining work of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Todo {
    /// Finished.
    Done,
    /// Running, with this many milliseconds left.
    Running(u64),
    /// Not started; takes this many milliseconds.
    Waiting(u64),
}

/// Time until the last step ends, in milliseconds, with at most `width` at once. Ready steps start in the order of
/// `steps`. `parents` are indices into `steps`.
pub fn makespan(steps: &[Todo], parents: &[Vec<usize>], width: usize) -> u64 {
    let mut children = vec![Vec::new(); steps.len()];
    let mut missing = vec![0_usize; steps.len()];
    for (step, parents) in parents.iter().enumerate() {
        for parent in parents.iter().filter(|parent| steps[**parent] != Todo::Done) {
            children[*parent].push(step);
            missing[step] += 1;
        }
    }
    let mut ready: BTreeSet<(usize, u64)> = BTreeSet::new();
    let mut ends: BinaryHeap<Reverse<(u64, usize)>> = BinaryHeap::new();
    for (at, step) in steps.iter().enumerate() {
        match step {
            Todo::Running(left) => ends.push(Reverse((*left, at))),
            Todo::Waiting(takes) if missing[at] == 0 => drop(ready.insert((at, *takes))),
            Todo::Waiting(_) | Todo::Done => {}
        }
    }
    let mut now = 0;
    loop {
        while ends.len() < width.max(1) {
            let Some((at, takes)) = ready.pop_first() else { break };
            ends.push(Reverse((now + takes, at)));
        }
        let Some(Reverse((time, ended))) = ends.pop() else { return now };
        now = time;
        for child in &children[ended] {
            missing[*child] -= 1;
            if let (0, Todo::Waiting(takes)) = (missing[*child], steps[*child]) {
                ready.insert((*child, takes));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Todo::{Done, Running, Waiting};
    use super::makespan;

    #[test]
    fn waits_for_parents_and_places() {
        let diamond = [Waiting(10), Waiting(20), Waiting(30), Waiting(5)];
        let parents = [vec![], vec![0], vec![0], vec![1, 2]];
        assert_eq!(makespan(&diamond, &parents, 2), 45);
        assert_eq!(makespan(&diamond, &parents, 1), 65);
        assert_eq!(makespan(&[], &[], 4), 0);
    }

    #[test]
    fn what_runs_or_is_done_is_not_counted_twice() {
        let parents = [vec![], vec![0], vec![]];
        assert_eq!(makespan(&[Done, Waiting(7), Done], &parents, 1), 7);
        assert_eq!(makespan(&[Running(100), Waiting(10), Waiting(5)], &parents, 2), 110);
        assert_eq!(makespan(&[Running(100), Waiting(10), Waiting(50)], &parents, 1), 160);
    }
}
