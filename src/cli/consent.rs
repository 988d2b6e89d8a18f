//! Asks a person whether a project may have what it wants. Not responsible for: what it wants, and recording the answer.

use std::io::IsTerminal as _;

use crate::app::ErrorKind;
use crate::app::trust::{self, Ask, Want};
use crate::domain::base::shown;
use crate::report::{self, Style};

/// Who can be asked: nobody without a terminal.
pub fn asker() -> Option<Ask> {
    (std::io::stdin().is_terminal() && std::io::stderr().is_terminal()).then_some(ask as Ask)
}

/// Asks once for all. Everything but a yes is a no.
pub fn ask(wants: &[Want]) -> bool {
    eprintln!("this project wants of you what you have not granted:");
    for want in wants {
        eprintln!("  {}", line(want));
    }
    loop {
        eprint!("grant it to this project? [y/N/show] ");
        let mut answer = String::new();
        if std::io::stdin().read_line(&mut answer).is_err() {
            return false;
        }
        match answer.trim().to_lowercase().as_str() {
            "y" | "yes" => return true,
            "s" | "show" => show(wants),
            _ => return false,
        }
    }
}

fn show(wants: &[Want]) {
    if let ErrorKind::Files(faults, sources) = trust::refused(wants).what {
        eprint!("{}", report::draw_diagnostics(&faults, &sources, Style::stderr()));
    }
}

/// A want on one line: what, by which declaration, and what it lets happen.
pub fn line(want: &Want) -> String {
    shown(&format!("{} ({}): {}", want.name(), trust::place_of(want), want.effect()))
}
