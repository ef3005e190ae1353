//! The `vintner` command.

fn main() {}
