//! The `vintner` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    vintner::cli::main()
}
