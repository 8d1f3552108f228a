//! How a decoder process ended without a result, from its exit status and its standard error. Pure.

use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use crate::consumer::settle::Refusal;
use crate::reason::Reason;

/// SIGXCPU: the process has used up its CPU time limit (`RLIMIT_CPU`).
const CPU_TIME: i32 = 24;

/// SIGKILL: the kernel sends it when the pod runs out of memory.
const KILL: i32 = 9;

/// SIGHUP, SIGINT, SIGQUIT, SIGKILL, SIGTERM: terminals and systemd send them to every process of a service.
const OF_OTHERS: [i32; 5] = [1, 2, 3, KILL, 15];

/// How a message ended its decoder process. The texts complete a sentence about the process.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Crash {
    /// An allocation failed at the process's own memory limit, in bytes.
    #[error("needed more memory than its limit of {0} bytes")]
    Memory(u64),
    #[error("overflowed its stack")]
    Stack,
    /// The deadline passed, in seconds.
    #[error("had not ended after {0} s")]
    Deadline(u64),
    #[error("was killed by signal {0}")]
    Signal(Signal),
    #[error("ended with exit code {0}")]
    Exit(i32),
    /// Its output breaks the protocol.
    #[error("sent an invalid result")]
    Nonsense,
}

/// A signal's number, displayed with its name.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Signal(pub i32);

impl std::fmt::Display for Signal {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let name = match self.0 {
            4 => "SIGILL",
            6 => "SIGABRT",
            7 => "SIGBUS",
            8 => "SIGFPE",
            KILL => "SIGKILL: the kernel sends it when the pod runs out of memory",
            11 => "SIGSEGV",
            15 => "SIGTERM",
            31 => "SIGSYS",
            _ => return write!(formatter, "{}", self.0),
        };
        write!(formatter, "{} ({name})", self.0)
    }
}

impl Crash {
    /// Classifies the end of a process. `memory` and `seconds` are its limits. After a failed allocation or a stack
    /// overflow, Rust's runtime writes the cause to standard error and aborts.
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

    /// Whether the signal may have another cause than the message. If the pod runs out of memory, the kernel kills a
    /// decoder process first, whichever process has used the memory.
    pub fn may_be_of_others(&self) -> bool {
        matches!(self, Crash::Signal(Signal(number)) if OF_OTHERS.contains(number))
    }
}

impl From<Crash> for Refusal {
    fn from(crash: Crash) -> Self {
        let detail = format!(
            "the process that decoded this message {crash}; save the image with `parked save`, then publish a repaired \
             image or drop the message"
        );
        Self { reason: Reason::CrashingMessage, detail }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_what_ended_a_process() {
        let signal = ExitStatus::from_raw;
        for (status, stderr, expected, text) in [
            (
                signal(6),
                "memory allocation of 9000 bytes failed",
                Crash::Memory(7),
                "more memory than its limit of 7 bytes",
            ),
            (signal(6), "thread 'main' (1) has overflowed its stack", Crash::Stack, "stack"),
            (signal(6), "", Crash::Signal(Signal(6)), "6 (SIGABRT)"),
            (signal(9), "", Crash::Signal(Signal(9)), "out of memory"),
            (signal(11 | 0x80), "", Crash::Signal(Signal(11)), "SIGSEGV"),
            (signal(24), "", Crash::Deadline(60), "60 s"),
            (signal(15), "", Crash::Signal(Signal(15)), "SIGTERM"),
            (signal(50), "", Crash::Signal(Signal(50)), "signal 50"),
            (ExitStatus::from_raw(3 << 8), "memory allocation of", Crash::Exit(3), "exit code 3"),
        ] {
            let crash = Crash::judge(status, stderr, 7, 60);
            assert_eq!(crash, expected);
            assert!(crash.to_string().contains(text), "{crash}");
            assert_eq!(crash.may_be_of_others(), ["out of memory", "SIGTERM"].contains(&text));
        }
    }
}
