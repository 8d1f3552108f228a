//! Times the CPU work for one message: decoding the body and encoding the image, in every mode and several sizes. Run
//! by `cargo bench`; needs no server. `make bench` measures the whole service.
//!
//! ```text
//! cargo bench                        everything
//! cargo bench -- encode              one stage
//! cargo bench -- pixels              cost per pixel over image sizes
//! cargo bench -- redelivered         both stages in the consumer, and in a decoder process
//! cargo bench -- frames              reading one message from a socket's bytes, with and without the frame filter
//! ```
#![allow(clippy::expect_used)]

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use futures::io::{AsyncRead, AsyncReadExt as _, Cursor};
use image_pipeline::api::destination::S3Destination;
use image_pipeline::api::image::{ImageSettings, PngEncoding, Reencode};
use image_pipeline::api::message::MessageFormat;
use image_pipeline::consumer::capacity::{Capacity, Sizes};
use image_pipeline::consumer::decode::{Decoder, Incoming};
use image_pipeline::consumer::encode::{Png, encode, inspect};
use image_pipeline::consumer::isolate::Isolation;
use image_pipeline::consumer::isolate::protocol::Settings;
use image_pipeline::consumer::metrics::Metrics;
use image_pipeline::publish::{SampleArgs, Size, TileFormat};
use image_pipeline::rabbitmq::frame_filter::{FrameFilter, Frames};
use prometheus_client::registry::Registry;
use serde_json::json;

const FORMATS: [(&str, TileFormat); 2] = [("png", TileFormat::Png), ("jpeg", TileFormat::Jpeg)];
const SIDES: [u32; 5] = [160, 320, 640, 1280, 1920];
const MODES: [(&str, PngEncoding, Reencode); 4] = [
    ("Fast", PngEncoding::Fast, Reencode::Always),
    ("Balanced", PngEncoding::Balanced, Reencode::Always),
    ("Smallest", PngEncoding::Smallest, Reencode::Always),
    ("WhenNotPng", PngEncoding::Fast, Reencode::WhenNotPng),
];

fn tile(side: u32, format: TileFormat) -> Bytes {
    let size = Size { width: side, height: side };
    let options = SampleArgs { sample: None, size, format, seed: 1, prefix: String::new() };
    options.file(0).expect("a tile").into()
}

fn png(image: &Bytes, settings: &ImageSettings) -> Png {
    let header = inspect(image, settings.max_pixels).expect("an image");
    encode(image.clone(), &header, settings).expect("an image")
}

fn decoder() -> Decoder {
    let destination: S3Destination = serde_json::from_value(json!({"bucket": "tiles"})).expect("a destination");
    Decoder::new(&MessageFormat::default(), &destination, 64 << 20).expect("a template")
}

/// From the body of a message to the image file and the object key.
fn decode_stage(criterion: &mut Criterion) {
    let decoder = decoder();
    let mut group = criterion.benchmark_group("decode");
    for (name, format) in FORMATS {
        for side in [640, 1920] {
            let image = tile(side, format);
            let metadata = json!({"image_name": "north/7.png"});
            let body = json!({"image": STANDARD.encode(&image), "image_metadata": metadata}).to_string();
            let body = Bytes::from(body);
            let decode = |body: &Bytes| {
                let incoming = Incoming { body, timestamp: None, header: &|_| None };
                decoder.decode(&incoming).expect("a message")
            };
            assert_eq!(decode(&body).image, image);
            group.throughput(Throughput::Bytes(body.len() as u64));
            group.bench_with_input(BenchmarkId::new(name, side), &body, |bench, body| bench.iter(|| decode(body)));
        }
    }
}

/// From an image file to the stored PNG, at the size that devices send.
fn encode_stage(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("encode");
    for (mode, encoding, reencode) in MODES {
        let settings = ImageSettings { encoding, reencode, ..ImageSettings::default() };
        for (name, format) in FORMATS {
            let image = tile(640, format);
            assert!(png(&image, &settings).bytes().starts_with(b"\x89PNG"));
            group
                .bench_function(BenchmarkId::new(mode, name), |bench| bench.iter(|| png(black_box(&image), &settings)));
        }
    }
}

/// Encoding in the default mode over sizes. Pixels per second should not depend on the size.
fn cost_against_pixels(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("pixels");
    let settings = ImageSettings::default();
    for (name, format) in FORMATS {
        for side in SIDES {
            let image = tile(side, format);
            group.throughput(Throughput::Elements(u64::from(side * side)));
            group.bench_with_input(BenchmarkId::new(name, side), &image, |bench, image| {
                bench.iter(|| png(image, &settings));
            });
        }
    }
}

/// Both stages for one tile: on a thread of the consumer, and in a decoder process, as for a redelivered message.
fn redelivered(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("redelivered");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let sizes = Sizes { concurrency: 1, prefetch: Some(1), max_body_bytes: 1, memory_limit: None };
    let (capacity, decoder, metrics) =
        (Capacity::new(sizes), decoder(), Metrics::register(&mut Registry::with_prefix("bench")));
    let settings: Settings = serde_json::from_value(
        json!({"message": {}, "image": {}, "s3": {"bucket": "tiles"}, "max_body_bytes": 64 << 20}),
    )
    .expect("settings");
    let isolation = Isolation::new(settings.clone()).with_program(env!("CARGO_BIN_EXE_image-pipeline").into());
    for (name, format) in FORMATS {
        let image = STANDARD.encode(tile(640, format));
        let body = Bytes::from(json!({"image": image, "image_metadata": {"image_name": "north/7.png"}}).to_string());
        let incoming = Incoming { body: &body, timestamp: None, header: &|_| None };
        let here = || png(&decoder.decode(&incoming).expect("a message").image, &settings.image);
        let apart = || runtime.block_on(isolation.convert(&incoming, &decoder, &capacity, &metrics)).expect("an image");
        assert_eq!(here().bytes(), apart().png.bytes());
        group.bench_function(BenchmarkId::new("consumer", name), |bench| bench.iter(here));
        group.bench_function(BenchmarkId::new("process", name), |bench| bench.iter(apart));
    }
}

/// A frame of AMQP 0-9-1.
fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a short frame").to_be_bytes();
    [&[kind, 0, 1][..], &length, payload, &[0xCE]].concat()
}

/// A broker's bytes for one message: `basic.deliver`, the content header, and the body in frames of 128 KiB.
fn delivered(body: &[u8]) -> Vec<u8> {
    let deliver = [&[0, 60, 0, 60, 1, b't'][..], &7_u64.to_be_bytes(), &[0, 0, 5], b"tiles"].concat();
    let size = (body.len() as u64).to_be_bytes();
    let properties = b"\x90\x80\x10application/json\x02\x0aaccounted7";
    let head = [&[0, 60, 0, 0][..], &size, properties].concat();
    let bodies = body.chunks((128 << 10) - 8).flat_map(|part| frame(3, part));
    [frame(1, &deliver), frame(2, &head)].into_iter().flatten().chain(bodies).collect()
}

async fn read_all(mut from: impl AsyncRead + Unpin, buffer: &mut [u8]) -> usize {
    let mut all = 0;
    while let Ok(length @ 1..) = from.read(buffer).await {
        all += black_box(length);
    }
    all
}

fn frames(criterion: &mut Criterion) {
    // Connection.Tune: class 10, method 30, channel-max, frame-max, heartbeat. Before it, the filter refuses frames
    // over 16 KiB.
    let tune = frame(1, &[0, 10, 0, 30, 7, 255, 0, 2, 0, 0, 0, 60]);
    let mut group = criterion.benchmark_group("frames");
    let mut buffer = vec![0; 64 << 10];
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    for (name, format) in FORMATS {
        let image = STANDARD.encode(tile(640, format));
        let body = json!({"image": image, "image_metadata": {"image_name": "north/7.png"}}).to_string();
        let bytes = [&tune[..], &delivered(body.as_bytes())].concat();
        let plain = || Cursor::new(&bytes[..]);
        let filtered = || FrameFilter::new(plain(), Frames::new(128 << 10, Arc::default()));
        assert_eq!(runtime.block_on(read_all(filtered(), &mut buffer)), bytes.len());
        group.throughput(Throughput::Bytes(bytes.len() as u64));
        group.bench_function(BenchmarkId::new("plain", name), |bench| {
            bench.iter(|| runtime.block_on(read_all(plain(), &mut buffer)));
        });
        group.bench_function(BenchmarkId::new("filtered", name), |bench| {
            bench.iter(|| runtime.block_on(read_all(filtered(), &mut buffer)));
        });
    }
}

criterion_group! {
    name = stages;
    config = Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2));
    targets = decode_stage, encode_stage, cost_against_pixels, redelivered, frames
}
criterion_main!(stages);
