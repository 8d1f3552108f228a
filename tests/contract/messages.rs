//! Messages as Python's own `json` and `base64` read them, against the decoder. Whatever the decoder accepts, Python
//! gives the same bytes for; whatever Python accepts and the decoder refuses is a difference that the page names.

use std::io::Write;
use std::process::{Command, Stdio};

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use bytes::Bytes;
use image_pipeline::api::destination::S3Destination;
use image_pipeline::api::message::MessageFormat;
use image_pipeline::consumer::decode::{Decoder, Incoming};
use serde::Deserialize;
use serde_json::json;

use super::docs::read;

const MESSAGES: usize = 2_000;

/// A reason for which the decoder refuses what Python accepts.
struct Difference {
    /// The words of the page.
    page: &'static str,
    /// Whether a text differs so.
    is_in: fn(&str) -> bool,
}

const DIFFERENCES: [Difference; 5] = [
    Difference {
        page: "A data URI without `;base64`",
        is_in: |text| text.trim_start().to_ascii_lowercase().starts_with("data:") && without_prefix(text) == text,
    },
    Difference { page: "A space between characters, with no line break or tab next to it", is_in: has_space_alone },
    Difference {
        page: "Both alphabets in one text",
        is_in: |text| {
            let data = without_prefix(text);
            data.contains(['+', '/']) && data.contains(['-', '_'])
        },
    },
    Difference {
        page: "A character outside the alphabet",
        is_in: |text| {
            without_prefix(text).contains(|c: char| !c.is_ascii_alphanumeric() && !"+/-_= \t\r\n\u{c}".contains(c))
        },
    },
    Difference {
        page: "Data after the padding",
        is_in: |text| {
            let symbols: String = without_prefix(text).split_whitespace().collect();
            symbols.trim_end_matches('=').contains('=')
        },
    },
];

fn without_prefix(text: &str) -> &str {
    let data = text.split_once(',').filter(|(prefix, _)| {
        let prefix = prefix.trim_start().to_ascii_lowercase();
        prefix.starts_with("data:") && prefix.ends_with(";base64")
    });
    data.map_or(text, |(_, data)| data)
}

fn has_space_alone(text: &str) -> bool {
    let data = without_prefix(text).trim();
    let is_space = |c: char| " \t\r\n\u{c}".contains(c);
    data.split(|c| !is_space(c)).any(|run| !run.is_empty() && run.chars().all(|c| c == ' '))
}

/// What Python reads from a body.
#[derive(Deserialize)]
struct Python {
    text: Option<String>,
    plain: Option<String>,
    translated: Option<String>,
}

fn python(bodies: &[Vec<u8>]) -> Vec<Python> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/contract/messages.py");
    let mut process = Command::new("python3");
    let process = process.args(["-I", script]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    let mut process = process.expect("python3, which `make check` needs");
    let mut requests = process.stdin.take().unwrap();
    let lines: String = bodies.iter().map(|body| hex(body) + "\n").collect();
    let writer = std::thread::spawn(move || requests.write_all(lines.as_bytes()));
    let output = process.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    let lines: Vec<_> = std::str::from_utf8(&output.stdout).unwrap().lines().map(str::to_owned).collect();
    assert_eq!(lines.len(), bodies.len());
    lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn choice<T: Copy>(random: &mut fastrand::Rng, from: &[T]) -> T {
    from[random.usize(..from.len())]
}

/// Base64 of random bytes, written as some publisher might, and sometimes damaged.
fn text(random: &mut fastrand::Rng) -> String {
    let image: Vec<u8> = (0..random.usize(..64)).map(|_| random.u8(..)).collect();
    let mut text = if random.bool() { STANDARD.encode(&image) } else { URL_SAFE.encode(&image) };
    let padding = choice(random, &["keep", "keep", "none", "one more", "three more"]);
    match padding {
        "none" => text.truncate(text.trim_end_matches('=').len()),
        "one more" => text.push('='),
        "three more" => text.push_str("==="),
        _ => {}
    }
    // As text editors, URL decoders, shells and other programs change texts.
    let space = choice(random, &["", "", "\n", "\r\n", " \n", "\t", "\u{c}", " ", "  "]);
    let garbage =
        choice(random, &["", "", "", "", "*", "%2B", "\u{b}", "é", "\\n", "=", "==AAAA", "-", "+", "A", "'", ","]);
    for (part, most) in [(space, 3), (garbage, 1)] {
        for _ in 0..random.usize(..=most) {
            text.insert_str(random.usize(..=text.len()), part);
            if !text.is_ascii() {
                return text;
            }
        }
    }
    let prefixes = ["", "", "", "", "data:image/png;base64,", " DATA:;Base64,\n", "data:image/png,", "data:", "b'"];
    choice(random, &prefixes).to_owned() + &text
}

fn body(random: &mut fastrand::Rng, image: &str) -> Vec<u8> {
    let image = json!(image);
    let position = choice(random, &["", r#""lat": NaN, "#, r#""lat": -Infinity, "#]);
    let mark = choice(random, &["", "", "\u{feff}"]);
    format!(r#"{mark}{{{position}"image": {image}, "image_metadata": {{"image_name": "a"}}}}"#).into_bytes()
}

#[test]
fn a_message_is_read_as_python_reads_it() {
    let s3: S3Destination = serde_json::from_value(json!({"bucket": "tiles"})).unwrap();
    let decoder = Decoder::new(&MessageFormat::default(), &s3, 1 << 20).unwrap();
    let mut random = fastrand::Rng::with_seed(4648);
    let bodies: Vec<Vec<u8>> = (0..MESSAGES)
        .map(|_| {
            let text = text(&mut random);
            body(&mut random, &text)
        })
        .collect();
    let (mut accepted, mut refused) = (0, [0; DIFFERENCES.len()]);
    for (body, python) in bodies.iter().zip(python(&bodies)) {
        let incoming = Incoming { body: &Bytes::copy_from_slice(body), timestamp: None, header: &|_| None };
        let text = python.text.expect("Python reads every one of these bodies");
        // What `b64decode` makes of a prefix and of the URL-safe alphabet is not the image.
        let is_plain = without_prefix(&text) == text && !text.contains(['-', '_']);
        match decoder.decode(&incoming) {
            Ok(job) => {
                let image = Some(hex(&job.image));
                assert_eq!(image, python.translated, "{text:?}");
                assert!(!is_plain || python.plain.is_none() || python.plain == image, "{text:?}");
                accepted += 1;
            }
            Err(error) => {
                let found = DIFFERENCES.iter().position(|difference| (difference.is_in)(&text));
                assert!(found.is_some() || python.plain.is_none() || !is_plain, "{text:?}: {error}");
                if let (Some(found), Some(_)) = (found, python.plain) {
                    refused[found] += 1;
                }
            }
        }
    }
    assert!(accepted > MESSAGES / 4 && refused.iter().all(|count| *count > 0), "{accepted} accepted, {refused:?}");
}

#[test]
fn the_page_names_every_difference() {
    let page = read("docs/migration.md");
    let section = page.split("\n## ").find(|section| section.starts_with("Messages\n")).expect("a section");
    let section = section.split_whitespace().collect::<Vec<_>>().join(" ");
    for Difference { page, .. } in DIFFERENCES {
        assert!(section.contains(page), "{page}");
    }
}
