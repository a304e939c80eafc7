//! Thin start: hands the command line to the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    lookout::cli::main()
}
