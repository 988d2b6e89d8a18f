//! SIGINT and SIGKILL in the middle of an apply, then a clean second run.

use std::process::{Command, Stdio};

use crate::support::lines::read_until;
use crate::support::project::Project;

/// A quick layer, and a slow one that stands on it.
fn slow() -> Project {
    let project = Project::with_base();
    let base = "  build_base = { image = \"base.example/busybox:1\" },";
    project.layer("quick", base, "FROM base.example/busybox:1\nRUN echo quick > /quick\n");
    // The mark makes its process findable among all others of this machine. A command after the long one keeps the shell,
    // and with it the mark: of a last command nothing but the command itself would be left.
    let mark = project.path().file_name().expect("named").to_string_lossy().into_owned();
    project.layer(
        "slow",
        "  build_base = \"quick\",",
        &format!("FROM lamina/quick\nRUN sh -c 'sleep 60; true' {mark}\n"),
    );
    project
}

fn signal(pid: u32, name: &str) {
    let status = Command::new("kill").arg(format!("-{name}")).arg(pid.to_string()).status().expect("kill");
    assert!(status.success());
}

/// Command lines of this machine's processes that contain a text.
fn processes(wanted: &str) -> Vec<String> {
    std::fs::read_dir("/proc")
        .expect("proc")
        .filter_map(Result::ok)
        .filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok())
        .map(|line| String::from_utf8_lossy(&line).replace('\0', " "))
        .filter(|line| line.contains(wanted))
        .collect()
}

/// Waits until a process has the text in its command line.
fn wait_for_some(wanted: &str) {
    let started = std::time::Instant::now();
    while processes(wanted).is_empty() {
        assert!(started.elapsed().as_secs() < 60, "no process has `{wanted}` in its command line");
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
}

/// Waits until no process has the text in its command line: the daemon kills a cancelled step by itself.
fn wait_for_none(wanted: &str) {
    let started = std::time::Instant::now();
    while !processes(wanted).is_empty() {
        assert!(started.elapsed().as_secs() < 20, "still running: {:?}", processes(wanted));
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
}

/// Staging folders and their locks; the guard of all of them stays.
fn stagings(project: &Project) -> usize {
    let entries = std::fs::read_dir(project.state().join("images/staging")).into_iter().flatten();
    entries.filter_map(Result::ok).filter(|entry| entry.file_name() != ".guard").count()
}

#[test]
fn interrupting_cancels_cleanly_and_the_next_run_goes_on() {
    let project = slow();
    let mark = project.path().file_name().expect("named").to_string_lossy().into_owned();
    let mut child =
        project.command(&["apply", "--format", "json"]).stdout(Stdio::piped()).spawn().expect("the binary starts");
    let reading = read_until(&mut child, |line| line.contains("sleep 60") && line.contains("\"started\""));
    let step = format!("sleep 60; true {mark}");
    wait_for_some(&step);
    signal(reading.id(), "INT");
    let (code, output) = reading.drain();
    assert_eq!(code, 130, "{output}");
    let last = output.lines().last().expect("events");
    assert!(last.contains("run.finished") && last.contains("cancelled"), "{last}");
    assert_eq!(stagings(&project), 0, "staging folders are left");
    wait_for_none(&format!("{mark} apply"));
    wait_for_none(&step);
    goes_on(&project);
}

#[test]
fn a_person_is_told_at_once_that_it_stops_and_what_a_second_time_does() {
    let project = slow();
    let (reader, writer) = std::io::pipe().expect("a pipe");
    let mut command = project.command(&["apply", "-v"]);
    command.stderr(writer.try_clone().expect("a pipe")).stdout(writer);
    let mut child = command.spawn().expect("the binary starts");
    // The command holds the writing end: with it open the output would never end.
    drop(command);
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(reader)).map(|line| line.expect("readable"));
    let before: Vec<String> = lines.by_ref().take_while(|line| !line.contains("sleep 60")).collect();
    signal(child.id(), "INT");
    let after: Vec<String> = lines.collect();
    let code = child.wait().expect("waited for").code();
    let all = format!("{}\n---\n{}", before.join("\n"), after.join("\n"));
    assert_eq!(code, Some(130), "{all}");
    assert!(before.iter().any(|line| line.contains("quick") && line.contains("[1/2]")), "-v shows no steps: {all}");
    let first = after.iter().find(|line| !line.is_empty()).expect("lines");
    assert!(first.contains("cancelled") && first.contains("Ctrl-C again kills"), "{all}");
    assert!(
        after.last().is_some_and(|line| line.contains("the same command goes on")),
        "no word of what to do next: {all}"
    );
}

#[test]
fn killing_leaves_nothing_corrupt_and_the_next_run_goes_on() {
    let project = slow();
    let mut child =
        project.command(&["apply", "--format", "json"]).stdout(Stdio::piped()).spawn().expect("the binary starts");
    let reading = read_until(&mut child, |line| line.contains("sleep 60") && line.contains("\"started\""));
    signal(reading.id(), "KILL");
    let (code, _) = reading.drain();
    assert_eq!(code, -1);
    goes_on(&project);
    assert_eq!(stagings(&project), 0, "the dead run's staging folders are left");
    let runs = project.lian(&["runs", "--format", "json"]).exits(0);
    assert!(runs.stdout.contains("interrupted") && runs.stdout.contains("success"), "{}", runs.both());
}

/// The quick layer is reused; the slow one, made quick, is built.
fn goes_on(project: &Project) {
    project.write("catalog/slow/Dockerfile", "FROM lamina/quick\nRUN echo now quick\n");
    let again: crate::support::project::Ran =
        project.command(&["apply", "--format", "json"]).output().expect("it starts").into();
    let again = again.exits(0);
    assert_eq!(again.outcomes(), ["quick=reused", "slow=built"]);
}

#[test]
fn a_reader_that_never_reads_holds_up_neither_the_run_nor_its_end() {
    let project = Project::with_base();
    let mark = project.path().file_name().expect("named").to_string_lossy().into_owned();
    let base = "  build_base = { image = \"base.example/busybox:1\" },";
    // More than any pipe holds, then a step that would go on for long.
    let loud = "for i in 1 2 3 4 5 6 7 8; do head -c 50000 /dev/zero | tr '\\0' a; echo; done";
    project.layer(
        "loud",
        base,
        &format!("FROM base.example/busybox:1\nRUN {loud}\nRUN sh -c 'sleep 60; true' {mark}\n"),
    );
    let mut child =
        project.command(&["apply", "--format", "json"]).stdout(Stdio::piped()).spawn().expect("the binary starts");
    wait_for_some(&format!("sleep 60; true {mark}"));
    signal(child.id(), "INT");
    let asked = std::time::Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().expect("waited for") {
            break status;
        }
        assert!(asked.elapsed().as_secs() < 20, "the end is held up by a reader that does not read");
        std::thread::sleep(std::time::Duration::from_millis(50));
    };
    assert_eq!(status.code(), Some(130));
}

#[test]
fn the_first_time_buildctl_is_asked_to_end_and_the_second_time_it_is_killed() {
    let project = slow();
    let real = crate::support::buildkitd::binaries().buildctl.display().to_string();
    let said = project.path().join("said");
    // It takes note of being asked, and goes on.
    let deaf = format!(
        "#!/bin/sh\ncase \" $* \" in *\" build \"*) ;; *) exec {real} \"$@\" ;; esac\n\
         trap 'echo asked >>{said}' TERM\necho began >>{said}\nwhile :; do sleep 0.1; done\n",
        said = said.display()
    );
    project.write("bin/buildctl", &deaf);
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(project.path().join("bin/buildctl"), mode).expect("a mode");
    let mut command = project.command(&["apply", "--format", "json"]);
    let mut child = command
        .env("LIAN_BUILDKIT_BIN", project.path().join("bin"))
        .stdout(Stdio::piped())
        .spawn()
        .expect("the binary starts");
    let reading = read_until(&mut child, |line| line.contains("step.started"));
    let until = |wanted: &str| {
        let started = std::time::Instant::now();
        while !std::fs::read_to_string(&said).is_ok_and(|said| said.contains(wanted)) {
            assert!(started.elapsed().as_secs() < 60, "never `{wanted}`");
            std::thread::yield_now();
        }
    };
    until("began");
    signal(reading.id(), "INT");
    until("asked");
    let own = format!("{}/bin/buildctl", project.path().display());
    // Between its fork and the `sleep` a child of the shell has its command line, too.
    assert!(!processes(&own).is_empty(), "it is not left to end by itself");
    signal(reading.id(), "INT");
    let (code, output) = reading.drain();
    assert_eq!(code, 130, "{output}");
    assert!(output.contains("\"hard\":true"), "it ended before it was killed: {output}");
    wait_for_none(&own);
}
