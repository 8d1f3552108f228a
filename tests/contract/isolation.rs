//! The results, refusals and survival of a decoder process, with the real program and real causes: signals, kernel
//! limits, a missing program.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use image::{DynamicImage, ImageFormat, Rgb, RgbImage};
use image_pipeline::api::image::ImageSettings;
use image_pipeline::consumer::capacity::{Capacity, Sizes};
use image_pipeline::consumer::decode::{Decoder, Incoming};
use image_pipeline::consumer::encode::{encode, inspect};
use image_pipeline::consumer::isolate::Isolation;
use image_pipeline::consumer::isolate::protocol::{Settings, memory_for_image};
use image_pipeline::consumer::metrics::Metrics;
use image_pipeline::consumer::settle::Refusal;
use image_pipeline::reason::Reason;
use prometheus_client::registry::Registry;
use serde_json::{Value, json};

use support::images::{Sample, sample, samples};

const PROGRAM: &str = env!("CARGO_BIN_EXE_image-pipeline");

/// Longer than any step here takes.
const LIMIT: Duration = Duration::from_secs(60);

const BUDGET: u64 = 256 << 20;

/// The stored object, or the reason for parking the message.
#[derive(Eq, PartialEq)]
enum Outcome {
    Stored { key: String, digest: String, png: Bytes },
    Refused { reason: Reason, detail: String },
}

impl std::fmt::Debug for Outcome {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Outcome::Stored { key, digest, png } => write!(formatter, "{key} {digest}, {} bytes", png.len()),
            Outcome::Refused { reason, detail } => write!(formatter, "{reason}: {detail}"),
        }
    }
}

#[derive(Clone)]
struct Message {
    settings: Settings,
    body: Bytes,
    timestamp: Option<u64>,
    headers: BTreeMap<&'static str, &'static str>,
}

impl Message {
    /// Merges changes of the settings over the defaults, one part at a time.
    fn new(changes: &Value, body: impl Into<Bytes>) -> Self {
        let mut settings = json!({
            "message": {}, "image": {}, "s3": { "bucket": "tiles", "prefix": "north/" }, "max_body_bytes": 64 << 20,
        });
        for (part, value) in changes.as_object().expect("an object") {
            match value {
                Value::Object(fields) => settings[part].as_object_mut().expect("an object").extend(fields.clone()),
                value => settings[part] = value.clone(),
            }
        }
        let settings = serde_json::from_value(settings).expect("settings");
        Self { settings, body: body.into(), timestamp: Some(1_700_000_000), headers: BTreeMap::new() }
    }

    fn decoder(&self) -> Decoder {
        let Settings { message, s3, max_body_bytes, .. } = &self.settings;
        Decoder::new(message, s3, *max_body_bytes).expect("a template")
    }

    fn header(&self, name: &str) -> Option<String> {
        self.headers.get(name).map(|text| (*text).to_owned())
    }

    /// The outcome of the first delivery, which the consumer decodes in its own process.
    async fn here(&self, capacity: &Capacity) -> Outcome {
        let work = async || {
            let header = |name: &str| self.header(name);
            let incoming = Incoming { body: &self.body, timestamp: self.timestamp, header: &header };
            let job = self.decoder().decode(&incoming)?;
            let header = inspect(&job.image, self.settings.image.max_pixels)?;
            let needed = header.bytes_needed() + job.image.len() as u64;
            let _memory = capacity.memory(needed).await?;
            let png = encode(job.image.clone(), &header, &self.settings.image)?;
            let key = job.key(&png.digest().to_string())?;
            Ok((key.as_str().to_owned(), png.digest().to_string(), png.bytes().clone()))
        };
        outcome(work().await)
    }

    /// The outcome of a redelivery, which a decoder process decodes.
    async fn apart(&self, isolation: Isolation, capacity: &Capacity) -> Outcome {
        let metrics = Metrics::register(&mut Registry::default());
        let header = |name: &str| self.header(name);
        let incoming = Incoming { body: &self.body, timestamp: self.timestamp, header: &header };
        let decoded = isolation.convert(&incoming, &self.decoder(), capacity, &metrics).await;
        outcome(decoded.map(|decoded| {
            (decoded.key.as_str().to_owned(), decoded.png.digest().to_string(), decoded.png.bytes().clone())
        }))
    }

    /// The same with another program, in a task of its own.
    fn by(&self, program: &Path, seconds: Option<u64>, capacity: &Arc<Capacity>) -> tokio::task::JoinHandle<Outcome> {
        let (message, capacity) = (self.clone(), Arc::clone(capacity));
        let isolation = Isolation::new(message.settings.clone()).with_program(program.to_owned());
        let isolation = seconds.into_iter().fold(isolation, Isolation::with_seconds);
        tokio::spawn(async move { message.apart(isolation, &capacity).await })
    }
}

fn outcome(result: Result<(String, String, Bytes), Refusal>) -> Outcome {
    match result {
        Ok((key, digest, png)) => Outcome::Stored { key, digest, png },
        Err(Refusal { reason, detail }) => Outcome::Refused { reason, detail },
    }
}

fn capacity() -> Arc<Capacity> {
    // Images get the memory that remains after the process (64 MiB) and one body of one byte.
    let memory_limit = Some(BUDGET + (64 << 20) + 1);
    Arc::new(Capacity::new(Sizes { concurrency: 4, prefetch: Some(1), max_body_bytes: 1, memory_limit }))
}

fn picture(side: u32, format: ImageFormat, pixel: impl Fn(u32, u32) -> [u8; 3]) -> Message {
    let mut file = std::io::Cursor::new(Vec::new());
    let pixels = RgbImage::from_fn(side, side, |x, y| Rgb(pixel(x, y)));
    DynamicImage::from(pixels).write_to(&mut file, format).expect("an image");
    Message::new(&json!({}), Sample { name: "picture".to_owned(), file: file.into_inner() }.body())
}

/// An image that keeps a decoder busy for a while, in a body of 9 MB.
fn large() -> Message {
    picture(1500, ImageFormat::Bmp, |x, y| [x as u8, y as u8, (x * y) as u8])
}

/// A program that writes its process id to a file and becomes the decoder. `before` runs in between; `$1` is the
/// number of earlier starts.
fn program(directory: &Path, before: &str) -> PathBuf {
    let path = directory.join("program");
    let pids = directory.join("pids");
    let script = format!(
        "#!/bin/sh\nset -- $(/usr/bin/wc -l < {pids})\necho $$ >> {pids}\n{before}\nexec {PROGRAM} decode\n",
        pids = pids.display()
    );
    std::fs::write(&pids, "").expect("a file");
    std::fs::write(directory.join("new"), script).expect("a file");
    std::fs::set_permissions(directory.join("new"), PermissionsExt::from_mode(0o755)).expect("permissions");
    std::fs::rename(directory.join("new"), &path).expect("a file in place");
    path
}

async fn until<T>(what: &str, mut found: impl FnMut() -> Option<T>) -> T {
    let found = async {
        loop {
            match found() {
                Some(found) => return found,
                None => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        }
    };
    tokio::time::timeout(LIMIT, found).await.unwrap_or_else(|_| panic!("waited {LIMIT:?} for {what}"))
}

fn pids(directory: &Path) -> Vec<u32> {
    let text = std::fs::read_to_string(directory.join("pids")).unwrap_or_default();
    text.lines().map(|line| line.parse().expect("a process id")).collect()
}

/// Process id of the decoder that was started after `earlier` others, once it has set its limits.
async fn bounded(directory: &Path, earlier: usize) -> u32 {
    let is_bounded =
        |pid: &u32| std::fs::read_to_string(format!("/proc/{pid}/oom_score_adj")).is_ok_and(|n| n == "1000\n");
    until("a decoder", || pids(directory).get(earlier).copied().filter(is_bounded)).await
}

/// As `bounded`, once the decoder has used enough CPU time to have read the body.
async fn at_work(directory: &Path, earlier: usize) -> u32 {
    let pid = bounded(directory, earlier).await;
    // utime of proc_pid_stat(5), the twelfth field after the name, in hundredths of a second.
    let ticks = |stat: &str| stat.rsplit_once(") ")?.1.split(' ').nth(11)?.parse::<u64>().ok();
    let has_worked = || ticks(&std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?).filter(|ticks| *ticks >= 10);
    until("the decoder to work", has_worked).await;
    pid
}

/// The image file in the body.
fn picture_file(message: &Message) -> Vec<u8> {
    let body: Value = serde_json::from_slice(&message.body).expect("JSON");
    STANDARD.decode(body["image"].as_str().expect("a text")).expect("base64")
}

fn signal(signal: &str, pid: u32) {
    let sent = Command::new("sh").args(["-c", r#"kill -s "$0" "$1""#, signal, &pid.to_string()]).status();
    assert!(sent.expect("a shell").success(), "{signal} to {pid}");
}

async fn done(work: tokio::task::JoinHandle<Outcome>) -> Outcome {
    tokio::time::timeout(LIMIT, work).await.expect("an end").expect("no panic")
}

fn assert_crashed(outcome: Outcome, detail: &str) {
    match outcome {
        Outcome::Refused { reason: Reason::CrashingMessage, detail: found } if found.contains(detail) => {}
        other => panic!("expected {detail}: {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_decoder_process_gives_what_the_consumer_would() {
    let capacity = capacity();
    let raw =
        json!({ "message": { "encoding": "Raw" }, "s3": { "keyTemplate": "{metadata.site}/{year}/{digest}.png" } });
    let mut messages: Vec<Message> = samples(15).iter().map(|sample| Message::new(&json!({}), sample.body())).collect();
    messages.extend(
        ["Fast", "Smallest"]
            .map(|encoding| Message::new(&json!({ "image": { "encoding": encoding } }), sample(0).body())),
    );
    messages.push(Message::new(&json!({ "image": { "reencode": "WhenNotPng" } }), sample(5).body()));
    let headers = [("image_name", "tile.png"), ("site", "south"), ("other", "x")].into();
    messages.push(Message { headers, ..Message::new(&raw, sample(3).file) });
    messages.push(large());
    for message in messages {
        let here = message.here(&capacity).await;
        let apart = done(message.by(Path::new(PROGRAM), None, &capacity)).await;
        assert!(matches!(&here, Outcome::Stored { png, .. } if png.starts_with(b"\x89PNG")), "{here:?}");
        assert!(apart == here, "{:?}", message.settings);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_decoder_process_refuses_what_the_consumer_would() {
    // Images get 1 MiB: the rest after the process (512 KiB) and one body.
    let (max_body_bytes, memory_limit) = (512 << 10, Some(2 << 20));
    let capacity = Arc::new(Capacity::new(Sizes { concurrency: 2, prefetch: Some(1), max_body_bytes, memory_limit }));
    let named = |name: &str| Sample { name: name.to_owned(), ..sample(0) }.body();
    let file = |file: &[u8]| Sample { name: "a.png".to_owned(), file: file.to_vec() }.body();
    let (png, jpeg) = (sample(0).file, sample(1).file);
    let none = json!({});
    for (changes, body, reason) in [
        (&none, b"no JSON".to_vec(), Reason::InvalidJson),
        (&none, [b"[".repeat(10_000), b"]".repeat(10_000)].concat(), Reason::InvalidJson),
        (&none, Vec::new(), Reason::InvalidJson),
        (&none, br#"{"image": ""}"#.to_vec(), Reason::MissingField),
        (&none, br#"{"image": "A*", "image_metadata": {"image_name": "x"}}"#.to_vec(), Reason::InvalidBase64),
        (&none, named("../x"), Reason::InvalidName),
        (&none, named(""), Reason::InvalidName),
        (&none, file(b"\0\0\0\x18ftypheic\0\0\0\0"), Reason::UnsupportedImage),
        (&none, file(&png[..png.len() / 2]), Reason::InvalidImage),
        (&none, file(&jpeg[..jpeg.len() / 2]), Reason::InvalidImage),
        (&json!({ "image": { "maxPixels": 100 } }), named("x.png"), Reason::ImageTooLarge),
        (&none, large().body.to_vec(), Reason::ImageTooLarge),
        (&json!({ "max_body_bytes": 20 }), named("x.png"), Reason::BodyTooLarge),
        (&json!({ "message": { "encoding": "Raw" } }), png.clone(), Reason::MissingField),
    ] {
        let message = Message::new(changes, body);
        let here = message.here(&capacity).await;
        let apart = done(message.by(Path::new(PROGRAM), None, &capacity)).await;
        assert!(matches!(&here, Outcome::Refused { reason: found, .. } if *found == reason), "{reason}: {here:?}");
        assert_eq!(apart, here);
    }
}

/// Reads the limits from the kernel while the decoder waits for memory.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_decoder_process_bounds_itself() {
    let (directory, capacity, message) = (tempfile::tempdir().unwrap(), capacity(), large());
    let all = capacity.memory(BUDGET).await.expect("memory");
    let work = message.by(&program(directory.path(), ""), None, &capacity);
    let pid = bounded(directory.path(), 0).await;
    let limits = || std::fs::read_to_string(format!("/proc/{pid}/limits")).expect("a process");
    let of = |limits: &str, name: &str| {
        let line = limits.lines().find(|line| line.starts_with(name)).expect("a limit").to_owned();
        line[26..].split_whitespace().next().expect("a soft limit").parse::<u64>().expect("a number")
    };
    let file = picture_file(&message);
    let header = inspect(&file, message.settings.image.max_pixels).expect("a header");
    let expected = memory_for_image(header.bytes_needed() + file.len() as u64);
    until("the image's limit", || Some(of(&limits(), "Max data size")).filter(|limit| *limit == expected)).await;
    assert_eq!(of(&limits(), "Max core file size"), 0);
    assert!((120..1000).contains(&of(&limits(), "Max cpu time")), "{}", limits());
    let environment = std::fs::read(format!("/proc/{pid}/environ")).expect("a process");
    let environment = String::from_utf8_lossy(&environment).into_owned();
    assert!(!environment.contains("CARGO"), "{environment}");
    drop(all);
    assert!(matches!(done(work).await, Outcome::Stored { .. }));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn decoder_processes_work_side_by_side() {
    let (directory, capacity) = (tempfile::tempdir().unwrap(), capacity());
    let program = program(directory.path(), "");
    let all = capacity.memory(BUDGET).await.expect("memory");
    let works = [large(), large(), large()].map(|message| message.by(&program, None, &capacity));
    for number in 0..works.len() {
        bounded(directory.path(), number).await;
    }
    drop(all);
    for work in works {
        assert!(matches!(done(work).await, Outcome::Stored { .. }));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_decoder_process_that_aborts_is_the_message() {
    let (directory, capacity) = (tempfile::tempdir().unwrap(), capacity());
    let work = large().by(&program(directory.path(), ""), None, &capacity);
    signal("ABRT", at_work(directory.path(), 0).await);
    assert_crashed(done(work).await, "signal 6 (SIGABRT)");
    assert_eq!(pids(directory.path()).len(), 1);
}

/// The kernel kills a decoder first, whatever has filled the memory, so the message gets more than one try.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_decoder_process_that_is_killed_is_tried_again() {
    let (directory, capacity) = (tempfile::tempdir().unwrap(), capacity());
    let work = large().by(&program(directory.path(), ""), None, &capacity);
    for time in 0..2 {
        signal("KILL", at_work(directory.path(), time).await);
    }
    assert!(matches!(done(work).await, Outcome::Stored { .. }));
    assert_eq!(pids(directory.path()).len(), 3);

    let work = large().by(&program(directory.path(), ""), None, &capacity);
    for time in 0..3 {
        signal("KILL", at_work(directory.path(), time).await);
    }
    assert_crashed(done(work).await, "signal 9 (SIGKILL");
}

/// A file of some kilobytes with 48 MB of pixels, and a lower limit.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_decoder_process_that_takes_too_much_memory_is_the_message() {
    let (directory, capacity) = (tempfile::tempdir().unwrap(), capacity());
    let message = picture(4000, ImageFormat::Png, |_, _| [7; 3]);
    let work = message.by(&program(directory.path(), "ulimit -d 40000"), None, &capacity);
    assert_crashed(done(work).await, "more memory");
    assert_eq!(pids(directory.path()).len(), 1);
}

/// The process gets what is reserved for the image, and 16 MiB for itself. A process that needed more would crash.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_progressive_cmyk_jpeg_fits_into_its_memory() {
    let mut file = include_bytes!("../../fuzz/seeds/image/progressive-cmyk.jpg").to_vec();
    // Height and width follow marker, length and precision (T.81, B.2.2).
    let frame = file.windows(2).position(|marker| marker == [0xff, 0xc2]).expect("a progressive frame");
    let side = 4000_u16.to_be_bytes();
    file[frame + 5..frame + 9].copy_from_slice(&[side, side].concat());
    let header = inspect(&file, ImageSettings::default().max_pixels).expect("a header");
    let limit = (header.bytes_needed() + (16 << 20)) / 1024;
    let directory = tempfile::tempdir().unwrap();
    let program = program(directory.path(), &format!("ulimit -d {limit}"));
    let message = Message::new(&json!({}), Sample { name: "a.jpg".to_owned(), file }.body());
    let outcome = done(message.by(&program, None, &capacity())).await;
    assert!(matches!(outcome, Outcome::Refused { reason: Reason::InvalidImage, .. }), "{outcome:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_decoder_process_that_hangs_is_killed_and_is_the_message() {
    let (directory, capacity) = (tempfile::tempdir().unwrap(), capacity());
    let all = capacity.memory(BUDGET).await.expect("memory");
    // So small that its deadline is the one second set here.
    let work =
        picture(100, ImageFormat::Png, |x, _| [x as u8; 3]).by(&program(directory.path(), ""), Some(1), &capacity);
    let pid = bounded(directory.path(), 0).await;
    // Its first sleep comes when it is ready and reads.
    let sleeps = || {
        Some(())
            .filter(|()| std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| stat.contains(") S ")))
    };
    until("the decoder to wait", sleeps).await;
    signal("STOP", pid);
    drop(all);
    assert_crashed(done(work).await, "had not ended after");
    until("the decoder's end", || (!Path::new(&format!("/proc/{pid}")).exists()).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_decoder_process_ends_when_nobody_waits_for_it() {
    let (directory, capacity) = (tempfile::tempdir().unwrap(), capacity());
    let all = capacity.memory(BUDGET).await.expect("memory");
    let work = large().by(&program(directory.path(), ""), None, &capacity);
    let pid = bounded(directory.path(), 0).await;
    work.abort();
    until("the decoder's end", || (!Path::new(&format!("/proc/{pid}")).exists()).then_some(())).await;
    drop(all);
    assert!(tokio::time::timeout(LIMIT, capacity.memory(BUDGET)).await.is_ok(), "the memory is free again");
}

/// A program that is missing, then one that ends before it can read. Neither is the message's fault.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_decoder_process_that_does_not_start_is_no_fault_of_the_message() {
    let (directory, capacity) = (tempfile::tempdir().unwrap(), capacity());
    let message = Message::new(&json!({}), sample(0).body());
    let path = directory.path().join("program");
    let work = message.by(&path, None, &capacity);
    let first = tokio::time::timeout(Duration::from_secs(2), std::future::pending::<()>());
    assert!(first.await.is_err() && !work.is_finished(), "the work must wait");
    assert_eq!(program(directory.path(), "[ $1 -gt 3 ] || kill -ABRT $$"), path);
    assert!(matches!(done(work).await, Outcome::Stored { .. }));
    assert_eq!(pids(directory.path()).len(), 5);
}
