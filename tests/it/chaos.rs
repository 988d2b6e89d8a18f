//! Many runs of a small catalog through random kills, each in one of the `worlds`: afterwards nothing is left at the
//! provider, and no event is lost. `make chaos RUNS=200 SEED=n`; a short one in every test run.

mod worlds;

use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use lian_build::domain::base::Timestamp;
use lian_build::domain::life::{Effect, Run};
use lian_build::domain::model::Event;

use crate::cloud::{Cloud, registry};
use worlds::{WORLDS, World};

/// What befalls a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Blow {
    None,
    Signal(&'static str),
    Daemons,
    Hosts,
    /// Every link is open on one side only.
    Links,
    /// Every daemon takes connections and answers nothing.
    Hangs,
    /// No host has any disk space left.
    FullDisks,
}

/// Leaves a host no space for contexts, and its daemon none for builds.
const FILL: &str = "for d in /run /workspace /var/lib/lian-build; do \
  mount -o remount,size=$(($(df -k --output=used $d | tail -1) + 64))k $d; done";

/// xorshift64*: the same seed, the same blows.
pub struct Dice(u64);

impl Dice {
    /// The dice of a seed.
    pub fn of(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// For somebody else's dice.
    pub fn seed(&mut self) -> u64 {
        self.below(1 << 40)
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % bound
    }

    fn blow(&mut self) -> Blow {
        match self.below(14) {
            0 => Blow::None,
            1 => Blow::Signal("INT"),
            2 => Blow::Signal("TERM"),
            3 => Blow::Signal("HUP"),
            4 | 5 => Blow::Daemons,
            6 => Blow::Hosts,
            7 | 8 => Blow::Links,
            9 => Blow::Hangs,
            10 => Blow::FullDisks,
            _ => Blow::Signal("KILL"),
        }
    }
}

#[derive(Debug, Default)]
struct Tally {
    runs: u64,
    /// Ended with 0.
    done: u64,
    killed: u64,
    lost_events: usize,
}

pub fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

#[test]
fn whatever_befalls_a_run_nothing_is_left_and_no_event_is_lost() {
    let (runs, seed) =
        (number("LIAN_CHAOS_RUNS", 8.max(u64::try_from(WORLDS.len()).expect("few"))), number("LIAN_CHAOS_SEED", 1));
    println!("chaos: {runs} runs, seed {seed}");
    let (_registry, in_it) = registry();
    let cloud = Cloud::new("", &in_it);
    let base = "  build_base = { image = \"base.example/busybox:1\" },";
    cloud.project.layer("base", base, "FROM base.example/busybox:1\nCOPY run /run-number\n");
    for name in ["left", "right"] {
        let dockerfile = format!("FROM lamina/base\nRUN echo {name}; sleep 0.3\n");
        cloud.project.layer(name, "  build_base = \"base\",", &dockerfile);
    }
    let mut dice = Dice::of(seed);
    let mut tally = Tally::default();
    for run in 0..runs {
        let way = if dice.below(2) == 0 { "'session" } else { "'rsync" };
        cloud.workflow(
            &format!("boot_timeout_s = 60, context_transfer = {way}"),
            "",
            &format!("parallel = 2, {in_it}"),
        );
        // Each world has its turn, though there are few runs.
        let world = &WORLDS[usize::try_from(run).expect("small") % WORLDS.len()];
        (world.begin)(&cloud, &mut dice);
        one(&cloud, &mut dice, run, world, &mut tally);
    }
    cloud.fake.forgive();
    let collected = cloud.lian(&["leases", "gc"]).exits(0);
    let left = cloud.fake.everything_gone();
    let leaked = left.len() + cloud.hosts.alive().len();
    let (Tally { runs, done, killed, lost_events }, faults) = (tally, cloud.fake.faults());
    println!("runs={runs} killed={killed} faults={faults} leaked={leaked} lost_events={lost_events}");
    if runs >= 8 {
        let rented = cloud.fake.bills().len();
        assert!(
            done > 0 && rented > 0 && faults > 0 && killed > 0,
            "chaos that befalls nothing: {done} done, {rented} rented"
        );
    }
    assert_eq!((leaked, lost_events), (0, 0), "{left:?} {}", collected.both());
    cloud.is_empty();
}

/// One run and its blow. Of eight, one has its peace, and one is killed while it holds a server.
fn one(cloud: &Cloud, dice: &mut Dice, run: u64, world: &World, tally: &mut Tally) {
    cloud.project.write("catalog/base/run", &run.to_string());
    let (blow, after) = (dice.blow(), Duration::from_millis(dice.below(3500)));
    let blow = match run % 8 {
        0 => Blow::None,
        1 => Blow::Signal("KILL"),
        _ => blow,
    };
    let started = Instant::now();
    let output = cloud.project.path().join("events");
    let file = std::fs::File::create(&output).expect("a file");
    let mut command = cloud.command(&["apply", "--format", "json"]);
    let mut child = command.stdout(file).stderr(Stdio::null()).spawn().expect("the binary starts");
    if run % 8 == 1 {
        let deadline = Instant::now() + Duration::from_secs(60);
        while cloud.fake.servers().is_empty()
            && Instant::now() < deadline
            && child.try_wait().expect("waited for").is_none()
        {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
    let ended = wait(&mut child, started + after);
    let mut killed = false;
    if !ended {
        match blow {
            Blow::Signal(name) => {
                signal(&child, name);
                killed = name == "KILL";
            }
            Blow::Daemons => cloud.hosts.on_each("pkill -9 buildkitd"),
            Blow::Hosts => cloud.hosts.on_each("kill -9 -1"),
            Blow::Links => cloud.hosts.cut_each(),
            Blow::Hangs => cloud.hosts.on_each("pkill -STOP buildkitd"),
            Blow::FullDisks => cloud.hosts.on_each(FILL),
            Blow::None => {}
        }
        tally.killed += u64::from(matches!(blow, Blow::Signal(_)));
    }
    if !wait(&mut child, started + Duration::from_secs(90)) {
        signal(&child, "KILL");
        killed = true;
        child.wait().expect("waited for");
    }
    let code = child.wait().expect("waited for").code();
    (world.end)(cloud);
    let told = std::fs::read_to_string(&output).expect("readable");
    if !killed && code != Some(5) {
        gave_back(cloud, &told, code);
    }
    tally.done += u64::from(code == Some(0));
    let lost = lost(cloud, &told, killed);
    let (after, took) = (after.as_millis(), started.elapsed().as_secs());
    println!("chaos: run {run}: {}: {blow:?} after {after} ms, {took} s, lost {lost}", world.name);
    tally.runs += 1;
    tally.lost_events += lost;
}

/// Nothing is left of a run that could end and did not say that something is: at once, without anybody's later help.
/// Where it ended well, nothing is left of those before it either.
#[track_caller]
fn gave_back(cloud: &Cloud, told: &str, code: Option<i32>) {
    let first = told.lines().find_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let run = first.and_then(|event| event["run"].as_str().map(str::to_owned));
    let left = cloud.fake.everything_gone();
    let own: Vec<&String> = left.iter().filter(|what| run.as_ref().is_some_and(|run| what.contains(run))).collect();
    assert!(own.is_empty(), "run {run:?} ended with {code:?} and left {own:?}");
    assert!(code != Some(0) || left.is_empty(), "run {run:?} ended well; left: {left:?}");
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

/// Every event on the way that the journal of a run tells, replayed; `None` where the run did not begin.
fn replayed(database: &rusqlite::Connection, run: &str) -> Option<Vec<serde_json::Value>> {
    let sql = "select at, json from journal where run = ?1 order by seq";
    let mut statement = database.prepare(sql).expect("a journal");
    let rows = statement.query_map([run], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?)));
    let mut rows = rows.expect("rows").map(|row| row.expect("a row"));
    let mut state: Run = serde_json::from_str(&rows.next()?.1).expect("a run");
    let mut events = Vec::new();
    for (at, json) in rows {
        let at = Timestamp(u64::try_from(at).expect("a time"));
        let input = serde_json::from_str(&json).expect("an input");
        for effect in state.on(at, input) {
            if let Effect::Emit(body) = effect {
                let event = Event { at, run: run.into(), body: *body };
                events.push(serde_json::to_value(event).expect("plain data"));
            }
        }
    }
    Some(events)
}

/// Events that a program was told and the journal does not know; and, of a run that could end, events that the journal
/// knows and nobody was told.
fn lost(cloud: &Cloud, output: &str, killed: bool) -> usize {
    let mut told: Vec<serde_json::Value> = Vec::new();
    let lines: Vec<&str> = output.lines().collect();
    for (at, line) in lines.iter().enumerate() {
        match serde_json::from_str::<serde_json::Value>(line) {
            Ok(event) if event["type"] == "step.progress" || event["type"] == "events.dropped" => {}
            Ok(event) if event["run"].is_string() => told.push(event),
            Ok(_) => {}
            // The last line of a process that was killed may be half a line.
            Err(_) if killed && at + 1 == lines.len() => {}
            Err(error) => panic!("{error}: {line}"),
        }
    }
    let Some(run) = told.first().map(|event| event["run"].as_str().expect("text").to_owned()) else { return 0 };
    let database = rusqlite::Connection::open(cloud.project.path().join(".lian/lian.db")).expect("a journal");
    let Some(journal) = replayed(&database, &run) else {
        // A start that failed: nothing but its end was told.
        return usize::from(told.len() != 1);
    };
    let unknown = told.iter().filter(|event| !journal.contains(event)).count();
    let untold = if killed { 0 } else { journal.iter().filter(|event| !told.contains(event)).count() };
    unknown + untold
}
