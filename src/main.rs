//! The command line: parses, sets up what a process has once, hands over to one driver, and turns
//! its result into an exit code. It must hold nothing else.

fn main() {}
