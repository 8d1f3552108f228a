//! Servers and programs that the tests start, and their directory. No process or file remains, not even when the
//! tests are killed: a guard shell beside each process waits for the end of its standard input, which the kernel
//! closes however this process ends.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

/// Arguments: the log, then the command. Prints the command's process id, waits for the command and returns its
/// exit code (128 plus the signal's number for a signal).
const GUARDED: &str = r#"
log=$1
shift
exec 3<&0
"$@" </dev/null 3<&- >>"$log" 2>&1 &
child=$!
echo "$child"
{ read -r _ <&3; kill -KILL "$child"; } >/dev/null 2>&1 &
guard=$!
wait "$child"
code=$?
kill -KILL "$guard"
exit "$code"
"#;

/// Argument: the directory. Processes that are being killed may still write there and make a removal fail, so it is
/// retried.
const REMOVED: &str = r#"
read -r _
for _ in 1 2 3 4 5 6 7 8 9 10; do
    rm -rf "$1" 2>/dev/null && exit
    sleep 0.2
done
"#;

const LOG_LINES_SHOWN: usize = 25;

/// A running program. Dropping it kills the program and waits for its end. In a panic, the end of its log is shown.
pub struct Process {
    name: String,
    guard: Child,
    pid: u32,
    log: PathBuf,
    code: Option<i32>,
}

impl Process {
    /// Starts a program whose output goes to the file `log` in `directory`. `set_up` adds the program, its
    /// arguments and its environment.
    pub fn start(name: &str, directory: &Path, set_up: impl FnOnce(&mut Command)) -> Self {
        let log = directory.join("log");
        let mut command = Command::new("sh");
        command.args(["-c", GUARDED, name]).arg(&log);
        set_up(&mut command);
        let mut guard = guarded(&mut command).stdout(Stdio::piped()).spawn().expect("a shell");
        let mut pid = String::new();
        BufReader::new(guard.stdout.take().expect("piped")).read_line(&mut pid).expect("the process id");
        let pid = pid.trim().parse().unwrap_or_else(|_| panic!("no process id from the guard of {name}: {pid:?}"));
        Self { name: name.to_owned(), guard, pid, log, code: None }
    }

    pub fn id(&self) -> u32 {
        self.pid
    }

    pub fn is_running(&self) -> bool {
        // The process id is not reused until the guard has waited for the process.
        Path::new(&format!("/proc/{}", self.pid)).exists()
    }

    /// Exit code of a process that has ended: 128 plus the signal's number if a signal ended it.
    pub fn exit_code(&mut self) -> Option<i32> {
        if self.code.is_none() {
            let ended = self.guard.try_wait().expect("the guard is our child");
            self.code = ended.map(|status| status.code().expect("the guard exits with the program's code"));
        }
        self.code
    }

    /// Sends SIGTERM.
    pub fn terminate(&self) {
        self.signal("TERM");
    }

    /// Kills the process and waits for its end.
    pub fn kill(&mut self) {
        drop(self.guard.stdin.take());
        let ended = self.guard.wait().expect("the guard is our child");
        self.code = ended.code();
        assert!(!self.is_running(), "{} (process {}) outlived its guard", self.name, self.pid);
    }

    /// The output so far.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// Sends a signal. Its name has no SIG.
    pub fn signal(&self, signal: &str) {
        assert!(self.is_running(), "{} ended before it was sent SIG{signal}:\n{}", self.name, self.log());
        run(Command::new("sh").args(["-c", r#"kill -s "$0" "$1""#, signal]).arg(self.id().to_string()));
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            let shown = lines[lines.len().saturating_sub(LOG_LINES_SHOWN)..].join("\n");
            eprintln!("--- the end of what {} wrote ---\n{shown}\n---", self.name);
        }
        self.kill();
    }
}

/// Creates a directory below the directory of this test process, which is removed when the process ends.
pub fn directory(name: &str) -> PathBuf {
    static ROOT: OnceLock<(PathBuf, Child)> = OnceLock::new();
    static NUMBER: AtomicUsize = AtomicUsize::new(0);
    let (root, _) = ROOT.get_or_init(|| {
        let root = tempfile::Builder::new().prefix("image-pipeline-tests.").tempdir().expect("a directory").keep();
        let guard = guarded(Command::new("sh").args(["-c", REMOVED, "remove"]).arg(&root)).spawn().expect("a shell");
        (root, guard)
    });
    let directory = root.join(format!("{name}-{}", NUMBER.fetch_add(1, Ordering::Relaxed)));
    std::fs::create_dir(&directory).expect("a new directory");
    directory
}

/// The path that the script `servers` prints for a server: `versitygw`, or the Debian suite of a RabbitMQ.
pub fn server(name: &'static str) -> PathBuf {
    static SERVERS: Mutex<BTreeMap<&str, PathBuf>> = Mutex::new(BTreeMap::new());
    let mut servers = SERVERS.lock().unwrap_or_else(PoisonError::into_inner);
    let look_up = || {
        let script = crate::repository().join("tests/servers/server");
        run(Command::new(script).arg(name)).trim_end().into()
    };
    servers.entry(name).or_insert_with(look_up).clone()
}

/// Runs a program to its end and returns its standard output.
pub fn run(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, error) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{:?} ended with {}\n{out}{error}", command.get_program(), output.status);
    out
}

/// Gives the guard its own process group: an interrupt from the terminal reaches only the tests, and the guard
/// notices their end.
fn guarded(command: &mut Command) -> &mut Command {
    command.process_group(0).stdin(Stdio::piped()).stderr(Stdio::null())
}

/// Replaces a file atomically, like a mounted Secret: a reader sees the old or the new content.
pub fn write(path: &Path, content: impl AsRef<[u8]>) {
    let mut hidden = path.file_name().map(OsStr::to_owned).expect("a file name");
    hidden.push(".new");
    let new = path.with_file_name(hidden);
    std::fs::write(&new, content).expect("a file");
    std::fs::rename(new, path).expect("a file in place");
}
