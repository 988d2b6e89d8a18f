//! The binary: hands over to [`lian_build::cli::run`] and exits with its code.

fn main() -> std::process::ExitCode {
    lian_build::cli::run()
}
