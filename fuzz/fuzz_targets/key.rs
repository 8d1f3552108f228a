//! Fuzzes the key template. The lines of the input are template, name, header value and timestamp. A key must be
//! below the prefix and satisfy the rule for keys, or decoding must fail.
#![no_main]

use bytes::Bytes;
use image_pipeline::api::message::MessageFormat;
use image_pipeline::consumer::decode::{Decoder, Incoming};
use libfuzzer_sys::fuzz_target;
use serde_json::json;

const PREFIX: &str = "tiles/";

fuzz_target!(|input: &str| {
    let mut lines = input.split('\n');
    let mut line = || lines.next().unwrap_or_default();
    let (template, name, header, timestamp) = (line(), line(), line(), line().parse().ok());
    let message: MessageFormat = serde_json::from_value(json!({ "encoding": "Raw" })).unwrap();
    let s3 = json!({ "bucket": "forest", "prefix": PREFIX, "keyTemplate": template });
    let Ok(decoder) = Decoder::new(&message, &serde_json::from_value(s3).unwrap(), 1000) else { return };
    let header = |key: &str| Some(if key == "image_name" { name } else { header }.to_owned());
    let Ok(job) = decoder.decode(&Incoming { body: &Bytes::new(), timestamp, header: &header }) else { return };
    // `decode` has checked the key for any digest, so this can't fail.
    let key = job.key(&"f".repeat(64)).unwrap();
    let below = key.as_str().strip_prefix(PREFIX).unwrap();
    assert!(key.as_str().len() <= 1024 && !below.contains(char::is_control));
    assert!(below.split('/').all(|segment| !["", ".", ".."].contains(&segment)), "{below:?}");
    if template == "{name}" {
        assert_eq!(below, name);
    }
});
