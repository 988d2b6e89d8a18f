//! `lian-build logs`: shows a run's build logs. Not responsible for: finding logs (see `app::history`).

use std::io::{BufReader, BufWriter, Write};

use clap::Args;

use super::args::{Format, Global, ProjectFlags};
use super::exit::{Exit, Outcome};
use super::show;
use crate::app::history::{self, RunLogs};
use crate::app::session::Session;
use crate::domain::base::shown;
use crate::report::{self, LogForm, LogStop, Style};

/// Shows what the builds of a run wrote
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  lian-build logs
  lian-build logs latest rust-deps      what its last build wrote
  lian-build logs 7f3 rust-deps
  lian-build logs --raw latest app | less -R")]
pub struct Logs {
    #[command(flatten)]
    project: ProjectFlags,
    /// A run's id, the beginning of one, `latest` (with a layer: its last build, whichever run that was), or only a layer
    #[arg(default_value = "latest")]
    run: String,
    /// Only this layer
    layer: Option<String>,
    /// Byte for byte, with the escape sequences and commands to a CI that its steps wrote
    #[arg(long)]
    raw: bool,
}

/// Runs the command.
pub fn logs(global: &Global, flags: &Logs) -> Outcome {
    let session = Session::of_project(flags.project.with(global)?)?;
    let found = history::logs(&session, &flags.run, flags.layer.as_deref())?;
    match report::results(|out| write(out, global, found, flags.layer.is_none(), flags.raw)) {
        Ok(()) | Err(LogStop::Reader) => Ok(Exit::Done),
        Err(LogStop::Output(error)) => {
            show::lose_result(&error);
            Ok(Exit::Done)
        }
        Err(LogStop::Log(path, error)) => Err(history::unreadable(path, error).into()),
    }
}

fn write(out: &mut dyn Write, global: &Global, found: RunLogs, headed: bool, raw: bool) -> Result<(), LogStop> {
    let RunLogs { run, logs, last_with_logs } = found;
    let mut out = BufWriter::new(out);
    if global.format == Format::Json {
        let logs = logs.into_iter().map(|log| (log.layer, BufReader::new(log.file), log.path));
        report::logs_json(&mut out, &run, logs)?;
        return Ok(out.flush()?);
    }
    let style = Style::stdout();
    let form = if raw { LogForm::AsWritten } else { LogForm::Shown { colour: style.colour } };
    if logs.is_empty() && !global.quiet {
        let last =
            last_with_logs.map_or(String::new(), |last| format!(": `lian-build logs {last}` is the last that did"));
        writeln!(out, "run {run} built nothing{last}")?;
    }
    for log in logs {
        if headed {
            writeln!(out, "{}", style.strong(&shown(&log.layer)))?;
        }
        report::copy_log(&mut out, BufReader::new(log.file), &log.path, form)?;
    }
    Ok(out.flush()?)
}
