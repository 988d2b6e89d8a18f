//! How long steps will take together, several at once and each after its parents. Not responsible for: guessing what is not known.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};

/// Where a step stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Todo {
    /// Nothing is left to do.
    Done,
    /// It holds a place, for so many milliseconds more.
    Running(u64),
    /// It takes so many milliseconds once its parents are done and a place is free.
    Waiting(u64),
}

/// The time until the last of them ends, in milliseconds, where `width` run at once and, of those that are ready, the
/// first starts first. `parents` are positions among the steps.
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
