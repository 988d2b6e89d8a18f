//! A provider that lian-build does not come with takes part in everything, without a line of `src/` that knows it. This
//! program is both: lian-build with one provider more, and the tests that run it.

mod workshop;

#[allow(dead_code, reason = "shared with the other tests, which use all of it")]
#[path = "../it/support"]
mod support {
    pub mod buildkitd;
    pub mod project;
}

use std::io::Write as _;
use std::process::{Command, ExitCode, Stdio};

use lian_build::adapters::{nickel, providers};
use libtest_mimic::{Arguments, Trial};

use support::project::{Project, Ran, text};

/// Set where this program is lian-build.
const AS_LIAN_BUILD: &str = "OWN_PROVIDER_IS_LIAN_BUILD";

fn main() -> ExitCode {
    if nickel::is_child() || std::env::var_os(AS_LIAN_BUILD).is_some() {
        return lian_build::cli::run_with(providers::builtin().with(workshop::DESCRIPTOR));
    }
    let trial = |name: &str, test: fn()| {
        Trial::test(name, move || {
            test();
            Ok(())
        })
    };
    let tests = vec![
        trial("the_command_line_offers_it", the_command_line_offers_it),
        trial("a_workflow_may_name_it_and_slips_are_told", a_workflow_may_name_it_and_slips_are_told),
        trial("layers_are_planned_leased_and_built_on_it", layers_are_planned_leased_and_built_on_it),
        trial("its_leases_are_listed_and_given_back", its_leases_are_listed_and_given_back),
        trial("its_panic_is_told_once_and_leaves_no_lease_behind", its_panic_is_told_once_and_leaves_no_lease_behind),
        trial("a_panic_of_the_evaluating_child_is_told", a_panic_of_the_evaluating_child_is_told),
        trial("what_a_killed_run_leased_is_given_back_by_the_next", what_a_killed_run_leased_is_given_back_by_the_next),
    ];
    libtest_mimic::run(&Arguments::from_args(), tests).exit_code()
}

fn project(provider: &str) -> Project {
    let project = Project::with_base();
    project.layer(
        "base",
        "  build_base = { image = \"base.example/busybox:1\" },",
        "FROM base.example/busybox:1\nRUN echo base > /base\n",
    );
    let workflow = format!(
        "let {{ Workflow, .. }} = import \"schemas/workflow.ncl\" in\n{{ catalog = \"../catalog\", {provider} }} | Workflow\n"
    );
    project.write("workflows/local.ncl", &workflow);
    project
}

const BENCHES: &str = "compute_provider = 'workshop, runners.max_cost = 1, providers.workshop = { folder = \"../taken\", \
                       benches = [{ name = \"small-bench\", cpu = 1, memory_gb = 1 }, \
                       { name = \"large-bench\", cpu = 64, memory_gb = 128 }] }";

/// Lian-build as this program is it.
fn command(project: &Project, arguments: &[&str]) -> Command {
    let usual = project.command(arguments);
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    command.args(usual.get_args()).current_dir(project.path()).stdin(Stdio::null()).env(AS_LIAN_BUILD, "1");
    command.envs(usual.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command
}

fn lian(project: &Project, arguments: &[&str]) -> Ran {
    command(project, arguments).output().expect("it starts").into()
}

fn taken(project: &Project) -> Vec<String> {
    let Ok(files) = std::fs::read_dir(project.path().join("taken")) else { return Vec::new() };
    files.flatten().map(|file| file.file_name().to_string_lossy().into_owned()).collect()
}

fn the_command_line_offers_it() {
    let project = project(BENCHES);
    let help = lian(&project, &["plan", "--help"]).exits(0).stdout;
    assert!(help.contains("- workshop:     A bench of the workshop\n"), "{help}");
    let slip = lian(&project, &["leases", "--provider", "workshp"]).exits(64).stderr;
    assert!(slip.contains("a similar value exists: 'workshop'"), "{slip}");
    let completions = lian(&project, &["completions", "bash"]).exits(0).stdout;
    assert!(completions.contains("vm-pool workshop"), "{completions}");
    let served = lian(&project, &["serve"]).exits(64).stderr;
    assert!(served.contains("runners of `'workshop` are on this machine"), "{served}");
}

fn a_workflow_may_name_it_and_slips_are_told() {
    let told = |provider: &str| lian(&project(provider), &["plan"]).exits(1).stderr;
    let unknown = told("compute_provider = 'workshp");
    assert!(unknown.contains("help: expected one of `'local`,") && unknown.contains("`'workshop`\n"), "{unknown}");
    let field = told(&BENCHES.replace("folder", "foldr"));
    assert!(field.contains("did you mean `folder`?"), "{field}");
    let inner = told(&BENCHES.replacen("cpu", "cpus", 1));
    assert!(inner.contains("did you mean `cpu`?"), "{inner}");
    let value = told(&BENCHES.replace("cpu = 1,", "cpu = 0.5,"));
    assert!(value.contains("`cpu`: expected a whole number from 1 to 1024"), "{value}");
    let missing = lian(&project("compute_provider = 'workshop"), &["plan"]).exits(64).stderr;
    assert!(missing.contains("the workflow lacks `providers.workshop`"), "{missing}");
    let project = project(BENCHES);
    lian(&project, &["schemas", "--export", "out"]).exits(0);
    let exported =
        std::fs::read_to_string(project.path().join("out/schemas/providers/workshop.ncl")).expect("exported");
    assert_eq!(exported, include_str!("workshop.ncl"));
}

fn layers_are_planned_leased_and_built_on_it() {
    let project = project(BENCHES);
    let plan = lian(&project, &["plan", "--format", "json"]).exits(0).json();
    assert_eq!(text(&plan["layers"][0]["size"]["runner_type"]), "large-bench", "{plan}");
    let ran = lian(&project, &["apply", "--format", "json"]).exits(0);
    assert_eq!(ran.outcomes(), ["base=built"]);
    let events = ran.events();
    let granted = events.iter().find(|event| event["type"] == "lease.granted").expect("a lease");
    assert_eq!(text(&granted["runner_type"]), "large-bench", "{}", ran.both());
    assert_eq!(taken(&project), [""; 0], "a lease was not given back");
    let elsewhere = lian(&project, &["apply", "--provider", "local", "--force", "base", "--format", "json"]).exits(0);
    assert!(elsewhere.events().iter().all(|event| event["runner_type"] != "large-bench"), "{}", elsewhere.both());
}

fn its_leases_are_listed_and_given_back() {
    let project = project(BENCHES);
    project.write("taken/old", "1000").write("taken/young", "99999999999999");
    let listed = lian(&project, &["leases", "--format", "json"]).exits(0).json().to_string();
    assert!(listed.contains("\"old\"") && listed.contains("\"young\"") && listed.contains("a bench"), "{listed}");
    lian(&project, &["leases", "gc"]).exits(0);
    assert_eq!(taken(&project), ["young"]);
    let young = ["leases", "gc", "--provider", "workshop", "--lease", "young"];
    lian(&project, &young).exits(64);
    assert_eq!(taken(&project), ["young"], "its run may be alive elsewhere");
    lian(&project, &[&young[..], &["--force"]].concat()).exits(0);
    assert_eq!(taken(&project), [""; 0]);
}

/// What a fault of lian-build's is told with, once.
fn is_told(words: &str) {
    assert_eq!(words.matches("lian::bug\n").count(), 1, "{words}");
    let told = "lian-build failed at tests/own_provider/workshop.rs:";
    assert_eq!(words.matches(told).count(), 1, "{words}");
    assert!(words.contains(": the workshop burns\n  help: this is a fault of lian-build 0."), "{words}");
    assert!(
        words.contains("report it") && words.contains("the command") && !words.contains("RUST_BACKTRACE"),
        "{words}"
    );
}

fn its_panic_is_told_once_and_leaves_no_lease_behind() {
    let project = project(BENCHES);
    let at = |place: &str, arguments: &[&str]| -> Ran {
        command(&project, arguments).env(workshop::PANICS, place).output().expect("it starts").into()
    };
    for (place, arguments) in [
        ("reach", &["plan"][..]),
        ("offers", &["plan"]),
        ("offers", &["apply", "--format", "json"]),
        ("owned", &["leases"]),
    ] {
        is_told(&at(place, arguments).exits(70).stderr);
    }
    let ran = at("acquire", &["apply"]).exits(70);
    is_told(&ran.stderr);
    assert_eq!(taken(&project), [""; 0], "what was rented before the fault is given back: {}", ran.both());
    // Where giving back itself fails, the ledger keeps it, whoever tries.
    for arguments in [&["apply"][..], &["leases", "gc"]] {
        let ran = at("release", arguments).exits(5);
        assert_eq!(ran.stderr.matches("lian::bug\n").count(), 1, "{}", ran.both());
        assert_eq!(taken(&project).len(), 1, "{}", ran.both());
    }
    lian(&project, &["leases", "gc"]).exits(0);
    assert_eq!(taken(&project), [""; 0]);
}

fn a_panic_of_the_evaluating_child_is_told() {
    // More processor time than can be counted.
    let request = r#"{"items":[],"settings":[],"import_scope":[],"shown":[],"memory_bytes":1073741824,
        "cpu_seconds":18446744073709551615,"stack_bytes":1048576}"#;
    let mut child = Command::new(std::env::current_exe().expect("this program"));
    child.arg("__evaluate").env_clear().stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = child.spawn().expect("it starts");
    child.stdin.take().expect("a pipe").write_all(request.as_bytes()).expect("it reads");
    let ran = Ran::from(child.wait_with_output().expect("it ends")).exits(70);
    assert!(
        ran.stderr.starts_with("lian::bug\n\n  × lian-build failed at src/adapters/nickel/child.rs:"),
        "{}",
        ran.both()
    );
    assert!(ran.stderr.contains("help: this is a fault of lian-build"), "{}", ran.both());
}

fn what_a_killed_run_leased_is_given_back_by_the_next() {
    let project = project(BENCHES);
    project.write("catalog/base/Dockerfile", "FROM base.example/busybox:1\nRUN sleep 60\n");
    let mut run = command(&project, &["apply"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it starts");
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while taken(&project).is_empty() {
        assert!(
            std::time::Instant::now() < deadline && run.try_wait().expect("a child").is_none(),
            "nothing is leased"
        );
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    run.kill().expect("it is killed");
    run.wait().expect("it ended");
    assert_eq!(taken(&project).len(), 1);
    // The workflow says something else by now: the ledger knows where it was leased.
    project.write("workflows/local.ncl", "{ catalog = \"../catalog\" }\n");
    let gc = lian(&project, &["leases", "gc"]).exits(0);
    assert!(gc.stdout.contains("1 runner given back"), "{}", gc.both());
    assert_eq!(taken(&project), [""; 0]);
}
