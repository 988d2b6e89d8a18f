//! The command line for the history. Not responsible for: parsing it.

/// The command line without the program's name, as `runs` lists it. Values of `--set` and `--build-arg` are left out,
/// because they may be secret.
pub fn command_line() -> String {
    let mut shown = Vec::new();
    let mut hide = false;
    for argument in std::env::args_os().skip(1).map(|argument| argument.to_string_lossy().into_owned()) {
        let private = ["--set", "--build-arg"];
        if hide {
            shown.push(argument.split('=').next().unwrap_or("").to_owned() + "=…");
        } else if let Some(flag) = private.iter().find(|flag| argument.starts_with(&format!("{flag}="))) {
            shown.push(format!("{flag}=…"));
        } else {
            shown.push(argument.clone());
        }
        hide = !hide && private.contains(&argument.as_str());
    }
    shown.join(" ")
}
