//! One run, its world and its blow. Not responsible for: which ones (see `chaos`).

use std::process::{Child, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::blows::Blow;
use super::stage::Stage;
use super::worlds::{Place, World};
use super::{CHAIN, Dice, Tally, events};

/// One run. Of each chain, the first has its peace, and the second is killed while it holds a server.
pub fn one(stage: &Stage, dice: &mut Dice, (chain, run): (u64, u64), world: &World, tally: &Mutex<Tally>) {
    let cloud = &stage.cloud;
    let told = (world.begin)(stage, dice);
    stage.workflow(world, dice.pick::<&str>(&["'session", "'rsync"]));
    cloud.project.write("catalog/base/run", &run.to_string());
    let (blow, after) = (Blow::of(dice), Duration::from_millis(dice.below(3500)));
    let blow = match run % CHAIN {
        0 => Blow::None,
        1 => Blow::Signal("KILL"),
        _ => world.blow.unwrap_or(blow),
    };
    let before = stage.rented();
    let started = Instant::now();
    let output = cloud.project.path().join("events");
    let file = std::fs::File::create(&output).expect("a file");
    let mut command = stage.command(&["apply", "--format", "json"]);
    let mut child = command.stdout(file).stderr(Stdio::null()).spawn().expect("the binary starts");
    if run % CHAIN == 1 && world.place != Place::Hosts {
        let deadline = started + world.patience;
        while stage.rented().iter().all(|machine| before.contains(machine))
            && !wait(&mut child, Instant::now())
            && Instant::now() < deadline
        {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
    let mut killed = false;
    if !wait(&mut child, started + after) {
        blow.strike(stage);
        if let Some(name) = blow.signal() {
            signal(&child, name);
            killed = name == "KILL";
        }
    }
    if !wait(&mut child, started + world.patience) {
        signal(&child, "KILL");
        killed = true;
    }
    let code = child.wait().expect("waited for").code();
    (world.end)(stage);
    let heard = std::fs::read_to_string(&output).expect("readable");
    let lost = events::lost(cloud, &heard, killed);
    let (after, took) = (after.as_millis(), started.elapsed().as_secs());
    println!(
        "chaos: seed {chain} run {run}: {}{told}: {blow:?} after {after} ms, {took} s, exit {code:?}, lost {lost}",
        world.name
    );
    let left = if killed || code == Some(5) { Vec::new() } else { left_over(stage, &heard, code) };
    {
        let mut tally = tally.lock().unwrap_or_else(PoisonError::into_inner);
        tally.leaked += left.len();
        tally.runs += 1;
        tally.done += u64::from(code == Some(0));
        tally.killed += u64::from(killed || blow.signal().is_some());
        tally.lost_events += lost;
    }
    assert_eq!(lost, 0, "events were lost: {heard}");
    assert!(left.is_empty(), "it ended with {code:?} and left {left:?}: {heard}");
    // One that was killed for taking too long says nothing: whatever else this machine does may have made it slow.
    let is_undisturbed = blow == Blow::None && !killed;
    assert!(!world.ends_well || !is_undisturbed || code == Some(0), "undisturbed, it ended with {code:?}: {heard}");
    *stage.pair.borrow_mut() = None;
}

/// What is left of a run that could end and did not say that something is: at once, without anybody's later help. Where
/// it ended well, what is left of those before it counts too.
fn left_over(stage: &Stage, heard: &str, code: Option<i32>) -> Vec<String> {
    let first = heard.lines().find_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let run = first.and_then(|event| event["run"].as_str().map(str::to_owned));
    let is_own = |what: &String| run.as_ref().is_some_and(|run| what.contains(run));
    stage.left().into_iter().filter(|what| code == Some(0) || is_own(what)).collect()
}

fn signal(child: &Child, name: &str) {
    let _ = std::process::Command::new("kill").arg(format!("-{name}")).arg(child.id().to_string()).status();
}

/// Waits for the end, at most until then; says whether it came.
fn wait(child: &mut Child, until: Instant) -> bool {
    loop {
        if child.try_wait().expect("waited for").is_some() {
            return true;
        }
        if Instant::now() >= until {
            return false;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}
