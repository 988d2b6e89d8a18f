//! The lines by which compilers and tools name an error. Not responsible for: how many of them are kept (see `tail`).

/// Beginnings of lines by which compilers and tools name an error, in lower case.
const BEGINNINGS: [&str; 18] = [
    "error:",
    "error[",
    "error ",
    "fatal:",
    "fatal error",
    "e: ",
    "npm err!",
    "npm error",
    "panic:",
    "err:",
    "failed: ",
    "failed ",
    "[error]",
    "cmake error",
    "curl: (",
    "--- fail",
    "exception in thread ",
    "fail\t",
];
/// What such lines hold elsewhere, in lower case.
const INSIDE: [&str; 33] = [
    ": error:",
    ": error ",
    ": fatal error",
    "' panicked at",
    ") panicked at",
    "undefined reference to",
    ": command not found",
    ": not found",
    "no such file or directory",
    "permission denied",
    "segmentation fault",
    "] error ",
    "cannot find ",
    ": undefined: ",
    " ... failed",
    "returned error",
    "no space left on device",
    "exec format error",
    "cannot allocate memory",
    "operation not permitted",
    "read-only file system",
    "could not resolve",
    "temporary failure in name resolution",
    "connection refused",
    "certificate verify failed",
    "(signal: ",
    ": **** ",
    ": unbound variable",
    ": parameter not set",
    "file format not recognized",
    "not in gzip format",
    "returned non-zero exit status",
    "no properly formatted",
];

/// Whether a line names an error, as compilers and tools write them: `error[E0308]: …`, `main.c:3:1: error: …`,
/// `E: …`, `make: *** …`, `ValueError: …`.
fn looks_like_a_cause(plain: &str) -> bool {
    let line = plain.trim_start();
    let lower = line.to_lowercase();
    // `ValueError: …`, `java.lang.NullPointerException: …`, `AssertionError`
    let name = line.split([':', ' ']).next().unwrap_or_default();
    let after = &line[name.len()..];
    let exception =
        (name.ends_with("Error") || name.ends_with("Exception")) && (after.is_empty() || after.starts_with(':'));
    exception
        || is_placed(&lower)
        || lower.ends_with(": failed")
        || line.contains(": *** ")
        || BEGINNINGS.iter().any(|sign| lower.starts_with(sign))
        || INSIDE.iter().any(|sign| lower.contains(sign))
}

/// Whether a line says something of a place, and no less than an error: `./main.go:3:54: cannot use …`.
fn is_placed(lower: &str) -> bool {
    let Some((place, said)) = lower.split_once(": ") else { return false };
    let mut parts = place.rsplitn(3, ':');
    let number =
        |part: Option<&str>| part.is_some_and(|text| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()));
    let is_place = number(parts.next()) && number(parts.next()) && parts.next().is_some_and(|file| file.contains('.'));
    let harmless = ["warning", "note", "info", "remark", "hint"];
    is_place && !place.contains(' ') && !harmless.iter().any(|word| said.trim_start().starts_with(word))
}

/// What a line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sign {
    /// It names an error, or says more of the one that was named just before.
    Cause,
    Other,
}

/// Reads line after line.
#[derive(Default)]
pub(super) struct Signs {
    /// The next line says what the last one announced.
    announced: bool,
    /// The last line was what a failed assertion says.
    asserted: bool,
}

impl Signs {
    pub(super) fn see(&mut self, line: &str) -> Sign {
        let plain = without_colours(line);
        let (announced, asserted) = (std::mem::take(&mut self.announced), std::mem::take(&mut self.asserted));
        let compared = asserted && ["left: ", "right: "].iter().any(|side| plain.trim_start().starts_with(side));
        self.announced = announces(&plain);
        self.asserted = announced || compared;
        if announced || compared || looks_like_a_cause(&plain) { Sign::Cause } else { Sign::Other }
    }
}

/// Whether the line says only where something went wrong, and the next one what: a panic of Rust, a test of Go, CMake.
fn announces(plain: &str) -> bool {
    let line = plain.trim();
    let panicked = line.contains("' panicked at ") || line.contains(") panicked at ");
    (panicked && line.ends_with(':'))
        || line.starts_with("--- FAIL: ")
        || (line.starts_with("CMake Error") && line.ends_with(':'))
}

/// A line without its colours: many tools keep them where they are told to, and they stand before the first word.
fn without_colours(line: &str) -> String {
    let mut plain = String::with_capacity(line.len());
    let mut rest = line;
    while let Some((before, after)) = rest.split_once("\u{1b}[") {
        plain.push_str(before);
        let end = after.find(|c: char| ('@'..='~').contains(&c));
        rest = end.map_or("", |end| &after[end + 1..]);
    }
    plain.push_str(rest);
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names_an_error(line: &str) -> bool {
        Signs::default().see(line) == Sign::Cause
    }

    #[test]
    fn lines_that_name_an_error_are_known() {
        let causes = [
            "error: could not compile `x`",
            "src/a.c:3:1: error: expected ';'",
            "src/a.c:3:1: fatal error: x.h: No such file or directory",
            "E: Unable to locate package nosuch",
            "make: *** [Makefile:2: all] Error 2",
            "npm ERR! code ENOENT",
            "npm error code ENOENT",
            "/bin/sh: 1: nosuch: not found",
            "java.lang.NullPointerException: x",
            "thread 'main' panicked at src/main.rs:2:5:",
            "ModuleNotFoundError: No module named 'x'",
            "ERROR: Could not find a version that satisfies the requirement x",
            "collect2: error: ld returned 1 exit status",
        ];
        assert!(causes.iter().all(|line| names_an_error(line)), "{causes:?}");
        let others = [
            "Compiling thiserror v2.0.1",
            "Downloading error-chain",
            "0 errors",
            "ok",
            "errors.rs",
            "Setting up libgpg-error0",
        ];
        assert_eq!(others.iter().filter(|line| names_an_error(line)).count(), 0, "{others:?}");
    }

    #[test]
    fn the_causes_of_real_tools_are_known_with_and_without_colours() {
        let causes = [
            "\u{1b}[1m\u{1b}[38;5;9merror[E0308]\u{1b}[0m\u{1b}[1m: mismatched types\u{1b}[0m",
            "\u{1b}[01m\u{1b}[Kmain.c:3:1:\u{1b}[m\u{1b}[K \u{1b}[01;31m\u{1b}[Kerror: \u{1b}[m\u{1b}[Kexpected ';'",
            "E: Failed to fetch http://packages.example/x.deb  404  Not Found [IP: 1.2.3.4 80]",
            "Err:5 http://packages.example/debian trixie/main amd64 Packages",
            "npm error code ERESOLVE",
            "cp: cannot stat '/src/none': No such file or directory",
            "tar: write error: No space left on device",
            "/bin/sh: 1: ./tool: Exec format error",
            "mkdir: cannot create directory '/x': Permission denied",
            "error: test failed, to rerun pass `--lib`",
            "test graph::cycle ... FAILED",
            "FAILED tests/test_app.py::test_login - AssertionError: 1 != 2",
            "./main.go:7:2: undefined: fmt.Printn",
            "CMake Error at CMakeLists.txt:4 (find_package):",
            "[ERROR] Failed to execute goal org.apache.maven",
            "curl: (22) The requested URL returned error: 404",
            "wget: server returned error: HTTP/1.1 404 Not Found",
            "process didn't exit successfully: `rustc` (signal: 11, SIGSEGV: invalid memory reference)",
            "pip._vendor.urllib3.exceptions.ReadTimeoutError: timed out",
        ];
        for line in causes {
            assert!(names_an_error(line), "{line:?}");
        }
        let others = [
            "\u{1b}[32m   Compiling\u{1b}[0m thiserror v2.0.1",
            "warning: unused variable: `error`",
            "  Downloaded error-chain v0.12.4",
            "0 errors, 3 warnings",
            "\u{1b}[",
        ];
        for line in others {
            assert!(!names_an_error(line), "{line:?}");
        }
    }

    #[test]
    fn what_a_line_announces_is_part_of_the_cause() {
        let mut signs = Signs::default();
        let said = [
            ("thread 'main' (7) panicked at src/main.rs:2:5:", Sign::Cause),
            ("assertion `left == right` failed: sum", Sign::Cause),
            ("  left: 2", Sign::Cause),
            (" right: 3", Sign::Cause),
            ("stack backtrace:", Sign::Other),
            (" left: behind", Sign::Other),
        ];
        for (line, sign) in said {
            assert_eq!(signs.see(line), sign, "{line}");
        }
        assert!(names_an_error("src/a.py:1:2: E501 line too long") && names_an_error("main.go:2:8: no such module"));
        for line in
            ["src/a.c:3:1: warning: unused", "src/a.c:3:1: note: declared here", "12:30:45: started", "at x.js:1:2"]
        {
            assert!(!names_an_error(line), "{line:?}");
        }
    }
}
