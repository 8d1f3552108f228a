//! How a decoder process ended that gave no result, judged from its exit status and its last words. Pure.

use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

/// SIGXCPU: the process has used the processor time that it allowed itself.
const CPU_TIME: i32 = 24;

/// SIGKILL: from the kernel if the pod has no memory left.
const KILL: i32 = 9;

/// SIGHUP, SIGINT, SIGQUIT, SIGKILL, SIGTERM: a terminal and systemd send them to every process of a service.
const OF_OTHERS: [i32; 5] = [1, 2, 3, KILL, 15];

/// A message whose decoding does not end in a result. The texts say what happened.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Crash {
    /// An allocation failed under the limit that the process had set on itself.
    #[error("needed more memory than the {0} bytes that its size justifies")]
    Memory(u64),
    /// Calls nested too deep.
    #[error("overflowed its stack")]
    Stack,
    /// No end in sight.
    #[error("had not ended after {0} s")]
    Deadline(u64),
    /// The kernel or another process ended it.
    #[error("was ended by signal {0}")]
    Signal(Signal),
    /// It ended itself.
    #[error("ended with exit code {0}")]
    Exit(i32),
    /// It said what no decoder says.
    #[error("gave a result that is none")]
    Nonsense,
}

/// A signal's number. Its text has the name.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Signal(pub i32);

impl std::fmt::Display for Signal {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let name = match self.0 {
            4 => "SIGILL",
            6 => "SIGABRT",
            7 => "SIGBUS",
            8 => "SIGFPE",
            KILL => "SIGKILL: the kernel does so if the pod has no memory left",
            11 => "SIGSEGV",
            15 => "SIGTERM",
            31 => "SIGSYS",
            _ => return write!(formatter, "{}", self.0),
        };
        write!(formatter, "{} ({name})", self.0)
    }
}

impl Crash {
    /// From the exit status, what the process wrote to standard error, and the memory and seconds that it had.
    /// Rust's runtime aborts after a failed allocation and after a stack overflow, and writes which it was.
    pub fn judge(status: ExitStatus, stderr: &str, memory: u64, seconds: u64) -> Self {
        match (status.signal(), status.code()) {
            (Some(CPU_TIME), _) => Crash::Deadline(seconds),
            (Some(_), _) if stderr.contains("memory allocation of ") => Crash::Memory(memory),
            (Some(_), _) if stderr.contains("has overflowed its stack") => Crash::Stack,
            (Some(signal), _) => Crash::Signal(Signal(signal)),
            (None, Some(code)) => Crash::Exit(code),
            (None, None) => Crash::Nonsense,
        }
    }

    /// Whether the signal may concern the service and not the message. The kernel ends a decoder first, whatever
    /// has filled the pod's memory.
    pub fn may_be_of_others(&self) -> bool {
        matches!(self, Crash::Signal(Signal(number)) if OF_OTHERS.contains(number))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_what_ended_a_process() {
        let signal = ExitStatus::from_raw;
        for (status, stderr, expected, text) in [
            (signal(6), "memory allocation of 9000 bytes failed", Crash::Memory(7), "more memory than the 7 bytes"),
            (signal(6), "thread 'main' (1) has overflowed its stack", Crash::Stack, "stack"),
            (signal(6), "", Crash::Signal(Signal(6)), "6 (SIGABRT)"),
            (signal(9), "", Crash::Signal(Signal(9)), "no memory left"),
            (signal(11 | 0x80), "", Crash::Signal(Signal(11)), "SIGSEGV"),
            (signal(24), "", Crash::Deadline(60), "60 s"),
            (signal(15), "", Crash::Signal(Signal(15)), "SIGTERM"),
            (signal(50), "", Crash::Signal(Signal(50)), "signal 50"),
            (ExitStatus::from_raw(3 << 8), "memory allocation of", Crash::Exit(3), "exit code 3"),
        ] {
            let crash = Crash::judge(status, stderr, 7, 60);
            assert_eq!(crash, expected);
            assert!(crash.to_string().contains(text), "{crash}");
            assert_eq!(crash.may_be_of_others(), ["no memory left", "SIGTERM"].contains(&text));
        }
    }
}
