//! Messages: whatever the body, it is refused with a reason or gives an image and a key below the
//! prefix, and agrees with a parser that builds everything.
#![no_main]

use std::sync::LazyLock;

use bytes::Bytes;
use image_pipeline::api::message::MessageFormat;
use image_pipeline::consumer::decode::{Decoder, Incoming};
use libfuzzer_sys::fuzz_target;
use serde_json::{Value, json};

static DECODER: LazyLock<Decoder> = LazyLock::new(|| {
    let s3 = json!({ "bucket": "forest", "prefix": "tiles/", "keyTemplate": "{metadata.site}/{name}" });
    Decoder::new(&MessageFormat::default(), &serde_json::from_value(s3).unwrap(), 1 << 20).unwrap()
});

fuzz_target!(|body: &[u8]| {
    let incoming = Incoming { body: &Bytes::copy_from_slice(body), timestamp: None, header: &|_| None };
    match DECODER.decode(&incoming) {
        Ok(job) => {
            let key = job.key(&"0".repeat(64)).unwrap();
            // Unwanted texts are not read, so they may be what a full parser refuses.
            if let Ok(whole) = serde_json::from_slice::<Value>(body) {
                let name = whole["image_metadata"]["image_name"].as_str().unwrap();
                assert!(key.as_str().starts_with("tiles/") && key.as_str().ends_with(name));
                assert!(whole["image"].as_str().unwrap().len().div_ceil(4) * 3 >= job.image.len());
            }
        }
        Err(error) => assert!(!error.reason().as_str().is_empty() && error.to_string().len() < 1000),
    }
});
