//! Fuzzes the message decoder with arbitrary bodies. A body must be refused with a reason, or give an image and a key
//! below the prefix. The result must agree with `serde_json` parsing the whole body.
#![no_main]

use std::sync::LazyLock;

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use bytes::Bytes;
use image_pipeline::api::message::MessageFormat;
use image_pipeline::consumer::decode::{Decoder, Incoming};
use image_pipeline::reason::Reason;
use libfuzzer_sys::fuzz_target;
use serde_json::{Value, json};

static DECODER: LazyLock<Decoder> = LazyLock::new(|| {
    let s3 = json!({ "bucket": "forest", "prefix": "tiles/", "keyTemplate": "{metadata.site}/{name}" });
    Decoder::new(&MessageFormat::default(), &serde_json::from_value(s3).unwrap(), 1 << 20).unwrap()
});

const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::RequireNone)
        .with_decode_allow_trailing_bits(true),
);

/// The text in the standard alphabet, without prefix, white space and padding.
fn usual(text: &str) -> String {
    let is_uri = text.trim_start().get(..5).is_some_and(|start| start.eq_ignore_ascii_case("data:"));
    let data = if is_uri { text.split_once(',').unwrap().1 } else { text };
    let symbols: String = data.chars().filter(|symbol| !symbol.is_ascii_whitespace()).collect();
    symbols.trim_end_matches('=').replace('-', "+").replace('_', "/")
}

fuzz_target!(|body: &[u8]| {
    let incoming = Incoming { body: &Bytes::copy_from_slice(body), timestamp: None, header: &|_| None };
    let whole = serde_json::from_slice::<Value>(body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body));
    match (DECODER.decode(&incoming), whole) {
        (Ok(job), Ok(whole)) => {
            let (metadata, image) = (&whole["image_metadata"], whole["image"].as_str().unwrap());
            let site = metadata["site"].as_str().map_or_else(|| metadata["site"].to_string(), str::to_owned);
            let key = job.key(&"0".repeat(64)).unwrap();
            assert_eq!(key.as_str(), format!("tiles/{site}/{}", metadata["image_name"].as_str().unwrap()));
            assert_eq!(BASE64.decode(usual(image)).as_deref(), Ok(&job.image[..]));
        }
        // The decoder skips the strings it does not need, and a full parser may refuse them.
        (Ok(job), Err(_)) => assert!(job.key(&"0".repeat(64)).unwrap().as_str().starts_with("tiles/")),
        (Err(error), whole) => {
            assert!(!error.reason().as_str().is_empty() && error.to_string().len() < 1000);
            let is_no_json = error.reason() == Reason::InvalidJson;
            assert!(!(is_no_json && whole.is_ok()), "{error}");
        }
    }
});
