//! Readers that read slowly, never, or no more, end to end: what becomes of the work, of its machines, and of the words.

use std::io::{Read as _, Write as _};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::process::{Pid, Signal, kill_process};

use crate::cloud::Cloud;
use crate::support::project::{Project, Ran};

const BASE: &str = "  build_base = { image = \"base.example/busybox:1\" },";
/// However slow the machine: a stuck reader holds up nothing for so long.
const BOUND: Duration = Duration::from_secs(120);

/// A pipe that is full, and that nobody reads while its reader lives.
fn full_pipe() -> (std::io::PipeReader, std::io::PipeWriter) {
    let (reader, mut writer) = std::io::pipe().expect("a pipe");
    let flags = fcntl_getfl(&writer).expect("flags");
    fcntl_setfl(&writer, flags | OFlags::NONBLOCK).expect("flags");
    while writer.write(&[b'.'; 4096]).is_ok() {}
    fcntl_setfl(&writer, flags).expect("flags");
    (reader, writer)
}

/// A command whose words nobody reads.
fn unread(mut command: Command) -> (std::io::PipeReader, Child) {
    let (reader, writer) = full_pipe();
    command.stdout(writer.try_clone().expect("a pipe")).stderr(writer);
    (reader, command.spawn().expect("the binary starts"))
}

fn interrupt(child: &Child) {
    let pid = Pid::from_raw(i32::try_from(child.id()).expect("small")).expect("a process");
    kill_process(pid, Signal::INT).expect("it lives");
}

/// The exit code of a process that ends within the bound.
#[track_caller]
fn ended(mut child: Child, what: &str) -> Option<i32> {
    let started = Instant::now();
    loop {
        if let Some(status) = child.try_wait().expect("waited for") {
            return status.code();
        }
        if started.elapsed() > BOUND {
            let _ = child.kill();
            panic!("{what}: held up by a reader that does not read");
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Waits until a process of this machine, or of a host on it, has this in its command line.
#[track_caller]
fn wait_for_process(mark: &str) {
    let is_it = |line: Vec<u8>| String::from_utf8_lossy(&line).replace('\0', " ").contains(mark);
    let started = Instant::now();
    let lines = || std::fs::read_dir("/proc").expect("proc").flatten();
    while !lines().any(|entry| std::fs::read(entry.path().join("cmdline")).is_ok_and(is_it)) {
        assert!(started.elapsed() < BOUND, "nothing runs `{mark}`");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Steps that write more than any pipe holds, each less than a daemon keeps of one, and what is done then. They are this
/// project's: what another one built says nothing.
fn noisy(project: &Project, then: &str) -> String {
    let line = format!("{} {}", "x".repeat(40), project.path().display());
    let step = |part: u32| format!("RUN i=0; while [ $i -lt 1000 ]; do echo {part} line $i {line}; i=$((i+1)); done\n");
    format!("FROM base.example/busybox:1\n{}RUN {then}\n", (1..=3).map(step).collect::<String>())
}

#[test]
fn a_rented_machine_goes_back_though_nobody_reads_what_is_said() {
    let cloud = Cloud::new("context_transfer = 'session", "");
    for (format, verbose) in [("text", &["-v", "-v"][..]), ("json", &[])] {
        let apply = || {
            let mut command = cloud.command(&["apply", "--force", "loud", "--format", format]);
            // Everything that works says something then, on whichever thread.
            command.args(verbose).env("RUST_LOG", "debug");
            unread(command)
        };
        cloud.project.layer("loud", BASE, &noisy(&cloud.project, "true"));
        let (reader, child) = apply();
        let code = if format == "json" { 4 } else { 0 };
        assert_eq!(ended(child, format), Some(code), "{format}");
        drop(reader);
        cloud.is_empty();
        let own = format!("{}{format}", cloud.project.path().display());
        let long = format!("sh -c 'sleep 600; true' {own}");
        cloud.project.layer("loud", BASE, &noisy(&cloud.project, &long));
        let (reader, child) = apply();
        wait_for_process(&format!("sleep 600; true {own}"));
        interrupt(&child);
        assert_eq!(ended(child, format), Some(130), "{format}");
        drop(reader);
        cloud.is_empty();
    }
    let runs = cloud.lian(&["runs", "--format", "json"]).exits(0).json();
    let states: Vec<&str> =
        runs["runs"].as_array().expect("runs").iter().filter_map(|run| run["state"].as_str()).collect();
    assert_eq!(states, ["cancelled", "success", "cancelled", "success"], "{runs}");
}

#[test]
fn a_third_interrupt_leaves_though_nobody_reads_what_is_said() {
    let project = Project::with_base();
    let mark = project.path().display().to_string();
    project.layer("loud", BASE, &noisy(&project, &format!("sh -c 'sleep 600; true' {mark}")));
    let mut command = project.command(&["apply", "-v", "-v"]);
    command.env("RUST_LOG", "debug");
    let (_reader, child) = unread(command);
    wait_for_process(&format!("sleep 600; true {mark}"));
    for _ in 0..3 {
        interrupt(&child);
    }
    let code = ended(child, "apply");
    assert!(matches!(code, Some(5 | 130)), "{code:?}");
}

#[test]
fn whoever_reads_late_gets_all_that_was_said() {
    let project = Project::new();
    // Together more than a pipe holds.
    let name = |number: u32| format!("{}-{number}", "layer".repeat(12));
    for number in 0..250 {
        project.layer(&name(number), BASE, "FRM base.example/busybox:1\n");
    }
    let told = |mut command: Command| -> String {
        let mut child = command.stderr(Stdio::piped()).stdout(Stdio::null()).spawn().expect("the binary starts");
        let mut said = String::new();
        let mut errors = child.stderr.take().expect("piped");
        // One piece a time: others are written only once this one is read.
        let mut piece = [0; 512];
        loop {
            match errors.read(&mut piece).expect("readable") {
                0 => break,
                read => said.push_str(&String::from_utf8_lossy(&piece[..read])),
            }
        }
        assert_eq!(child.wait().expect("waited for").code(), Some(1), "{said}");
        said
    };
    let said = told(project.command(&["check"]));
    assert!(said.len() > 65536, "too little to fill a pipe: {}", said.len());
    for number in 0..250 {
        assert!(said.contains(&name(number)), "layer {number} is missing: {said}");
    }
    assert!(said.lines().last().is_some_and(|line| line.contains("250 errors")), "{said}");
}

#[test]
fn both_streams_in_one_keep_their_order() {
    let project = Project::new();
    let fields = format!("{BASE}\n  build_args = {{ UNUSED = \"1\" }},");
    project.layer("app", &fields, "FROM base.example/busybox:1\n");
    let (mut reader, writer) = std::io::pipe().expect("a pipe");
    let mut command = project.command(&["check"]);
    command.stdout(writer.try_clone().expect("a pipe")).stderr(writer);
    let mut child = command.spawn().expect("the binary starts");
    drop(command);
    let mut said = String::new();
    reader.read_to_string(&mut said).expect("text");
    assert!(child.wait().expect("waited for").success(), "{said}");
    let (warning, result) = (said.find("lian::"), said.find("1 layer"));
    assert!(warning.is_some() && warning < result, "the result comes before what was said of it: {said}");
}

/// What each command is tried with, and how it exits where its reader is gone, if that is not how it exits otherwise.
const COMMANDS: [(&[&str], Option<i32>); 33] = [
    (&["--help"], None),
    (&["--version"], None),
    (&["no-such-command"], None),
    (&["check"], None),
    (&["check", "--format", "json"], None),
    (&["plan"], None),
    (&["plan", "--detailed-exitcode"], None),
    (&["plan", "--format", "json"], None),
    (&["plan", "--format", "dot"], None),
    (&["plan", "--format", "mermaid"], None),
    (&["apply"], None),
    // Whoever reads events needs the last one.
    (&["apply", "--format", "json"], Some(4)),
    (&["dispatch", "--context", "nowhere"], None),
    (&["explain", "nowhere.ncl"], None),
    (&["update", "--help"], None),
    (&["update"], None),
    (&["runs"], None),
    (&["runs", "--format", "json"], None),
    (&["logs", "latest", "loud"], None),
    (&["logs", "--raw", "latest", "loud"], None),
    (&["logs", "latest", "loud", "--format", "json"], None),
    (&["load", "nothing"], None),
    (&["gc"], None),
    (&["gc", "--format", "json"], None),
    (&["where"], None),
    (&["leases"], None),
    (&["leases", "gc", "--format", "json"], None),
    (&["trust"], None),
    (&["trust", "--format", "json"], None),
    (&["serve", "hash-token"], None),
    (&["schemas", "--export", "out"], None),
    (&["doctor"], None),
    (&["completions", "bash"], None),
];

#[test]
fn no_command_fails_for_a_reader_that_has_seen_enough() {
    let project = Project::with_base();
    project.layer("loud", BASE, &noisy(&project, "true"));
    project.lian(&["apply"]).exits(0);
    let help = project.lian(&["--help"]).exits(0).stdout;
    let listed = help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    // What a line has no room for goes on below it, further in.
    let named = listed.filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    let listed: Vec<&str> = named.filter_map(|line| line.split_whitespace().next()).collect();
    assert!(listed.len() > 10, "{help}");
    for command in listed {
        assert!(COMMANDS.iter().any(|(arguments, _)| arguments[0] == command), "`{command}` is not tried");
    }
    for (arguments, gone) in COMMANDS {
        let whole = project.lian(arguments);
        let (reader, closed) = std::io::pipe().expect("a pipe");
        drop(reader);
        let mut command = project.command(arguments);
        let ran: Ran = command.stdout(closed.try_clone().expect("a pipe")).output().expect("it starts").into();
        assert_eq!(ran.code, gone.unwrap_or(whole.code), "{arguments:?}: {}", ran.both());
        let noise = ["panicked", "lian::bug", "os error 32"].into_iter().find(|noise| ran.stderr.contains(noise));
        assert!(noise.is_none() || gone.is_some(), "{arguments:?}: {}", ran.both());
        // Nobody reads standard error either.
        let mut command = project.command(arguments);
        let code =
            command.stdout(closed.try_clone().expect("a pipe")).stderr(closed).status().expect("it starts").code();
        assert_eq!(code, Some(gone.unwrap_or(whole.code)), "{arguments:?}");
    }
}

#[test]
fn a_log_that_cannot_be_written_is_no_log_that_was_read() {
    let project = Project::with_base();
    project.layer("loud", BASE, &noisy(&project, "true"));
    project.lian(&["apply"]).exits(0);
    for arguments in [&["logs", "latest", "loud"][..], &["logs", "--raw"], &["logs", "--format", "json"]] {
        let full = std::fs::File::options().write(true).open("/dev/full").expect("a full disk");
        let ran: Ran = project.command(arguments).stdout(full).output().expect("it starts").into();
        assert!(ran.exits(4).stderr.contains("lian::cli::output"), "{arguments:?}");
    }
}

#[test]
fn a_result_goes_whole_into_a_pipe_that_another_process_made_non_blocking() {
    let project = Project::with_base();
    project.layer("loud", BASE, &noisy(&project, "true"));
    project.lian(&["apply"]).exits(0);
    let whole = project.lian(&["logs", "latest", "loud"]).exits(0).stdout;
    assert!(whole.len() > 65536, "too little to fill a pipe: {}", whole.len());
    let (mut reader, writer) = std::io::pipe().expect("a pipe");
    fcntl_setfl(&writer, fcntl_getfl(&writer).expect("flags") | OFlags::NONBLOCK).expect("flags");
    let mut command = project.command(&["logs", "latest", "loud"]);
    let mut child = command.stdout(writer).spawn().expect("the binary starts");
    drop(command);
    let mut read = String::new();
    reader.read_to_string(&mut read).expect("text");
    assert_eq!(child.wait().expect("waited for").code(), Some(0));
    assert!(read == whole, "{} of {} bytes came", read.len(), whole.len());
}
