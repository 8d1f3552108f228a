//! Decodes image files with Python libraries that the product does not use. One Python process serves the whole
//! run.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Mutex, MutexGuard, OnceLock};

use super::ledger::Digest;

/// Digest of an image's pixels, or the reason why the file is no image.
pub type Decoded = Result<Digest, String>;

/// Request codes of `pixels.py`.
const EXPECT: u8 = b'E';
const STORED: u8 = b'S';

/// The Python process. It ends when its standard input closes: when this is dropped, or when this process ends.
pub struct Decoder {
    process: Child,
    requests: ChildStdin,
    answers: BufReader<ChildStdout>,
    /// By request and digest of the file: a soak stores few images many times.
    known: HashMap<(u8, Digest), Decoded>,
}

/// Digest of the pixels of an image that will be published.
pub fn expected(file: &[u8]) -> Decoded {
    shared().expected(file)
}

/// Digest of the pixels of a stored PNG. If the PNG may be another decoder's result for an expected JPEG, this is
/// the digest of that JPEG.
pub fn stored(file: &[u8]) -> Decoded {
    shared().stored(file)
}

fn shared() -> MutexGuard<'static, Decoder> {
    static DECODER: OnceLock<Mutex<Decoder>> = OnceLock::new();
    DECODER.get_or_init(|| Mutex::new(Decoder::start())).lock().expect("a decoder that answers")
}

impl Decoder {
    /// Starts Python. The script `python` creates an environment if none exists.
    pub fn start() -> Self {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/python");
        let found = Command::new(script).stdin(Stdio::null()).stderr(Stdio::inherit()).output().expect("a shell");
        assert!(found.status.success(), "{script} ended with {}", found.status);
        let python = String::from_utf8(found.stdout).expect("a path");
        let mut process = Command::new(python.trim())
            .args(["-I", concat!(env!("CARGO_MANIFEST_DIR"), "/pixels.py")])
            // An interrupt from the terminal must reach only the tests.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the accountant's Python");
        let (requests, answers) = (process.stdin.take().expect("piped"), process.stdout.take().expect("piped"));
        Self { process, requests, answers: BufReader::new(answers), known: HashMap::new() }
    }

    /// See the function `expected`.
    pub fn expected(&mut self, file: &[u8]) -> Decoded {
        self.known_or_decoded(EXPECT, file)
    }

    /// See the function `stored`.
    pub fn stored(&mut self, file: &[u8]) -> Decoded {
        self.known_or_decoded(STORED, file)
    }

    fn known_or_decoded(&mut self, request: u8, file: &[u8]) -> Decoded {
        let key = (request, blake3::hash(file));
        if let Some(known) = self.known.get(&key) {
            return known.clone();
        }
        let decoded = self.decode(request, file);
        if request == EXPECT {
            // A PNG that was decoded earlier may be close to this image.
            self.known.retain(|(request, _), _| *request == EXPECT);
        }
        self.known.insert(key, decoded.clone());
        decoded
    }

    fn decode(&mut self, request: u8, file: &[u8]) -> Decoded {
        let length = u32::try_from(file.len()).expect("a file of less than 4 GiB");
        let sent = self.requests.write_all(&[&[request][..], &length.to_be_bytes()].concat());
        sent.and_then(|()| self.requests.write_all(file)).expect("a decoder that reads");
        let mut answer = String::new();
        self.answers.read_line(&mut answer).expect("a decoder that answers");
        match answer.trim_end().split_once(' ') {
            Some(("ok", image)) => {
                let digest = image.rsplit(' ').next().and_then(|digest| Digest::from_hex(digest).ok());
                Ok(digest.expect("a digest"))
            }
            Some(("no", why)) => Err(why.to_owned()),
            _ => panic!("the decoder answers {answer:?}"),
        }
    }
}

impl Drop for Decoder {
    fn drop(&mut self) {
        // The process holds nothing that could be lost.
        self.process.kill().ok();
        self.process.wait().ok();
    }
}
