//! Reading and writing of one photograph-like tile of 640 × 640 pixels, beside the `png` crate; and the compression of
//! its filtered rows, beside `fdeflate` and libdeflate.
#![allow(clippy::expect_used)]

use std::hint::black_box;
use std::io::Cursor;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use png_recode::{Color, Encoding, Layout, Picture, header, read, write};

const SIDE: u32 = 640;

/// Smooth gradients with a little noise, as a photograph has.
fn tile() -> Picture {
    let mut random = fastrand::Rng::with_seed(7);
    let layout = Layout { width: SIDE, height: SIDE, color: Color::Rgb, depth: 8 };
    let pixels = (0..SIDE * SIDE * 3).map(|at| (at % (SIDE * 3) / 11 + at / (SIDE * 40)) as u8 ^ random.u8(..4));
    Picture { layout, palette: None, transparency: None, profile: None, pixels: pixels.collect() }
}

fn copy(picture: &Picture) -> Picture {
    let Picture { layout, pixels, .. } = picture;
    Picture { layout: *layout, palette: None, transparency: None, profile: None, pixels: pixels.clone() }
}

fn by_png(file: &[u8]) -> Vec<u8> {
    let mut reader = png::Decoder::new(Cursor::new(file)).read_info().expect("a PNG");
    let mut pixels = vec![0; reader.output_buffer_size().expect("a size")];
    reader.next_frame(&mut pixels).expect("pixels");
    pixels
}

fn to_png(pixels: &[u8]) -> Vec<u8> {
    let mut file = Vec::new();
    let mut encoder = png::Encoder::new(&mut file, SIDE, SIDE);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_compression(png::Compression::Fast);
    encoder.write_header().and_then(|mut writer| writer.write_image_data(pixels)).expect("a PNG");
    file
}

fn reading(criterion: &mut Criterion) {
    let file = write(tile(), Encoding::Balanced).expect("a file");
    let mut group = criterion.benchmark_group("read");
    group.throughput(Throughput::Bytes(u64::from(SIDE * SIDE * 3)));
    let own = || read(black_box(&file), header(&file).expect("a header")).expect("a picture").picture.pixels;
    assert_eq!(own(), by_png(&file));
    group.bench_function("png-recode", |bench| bench.iter(own));
    group.bench_function("png", |bench| bench.iter(|| by_png(black_box(&file))));
}

fn writing(criterion: &mut Criterion) {
    let picture = tile();
    let mut group = criterion.benchmark_group("write");
    group.throughput(Throughput::Bytes(u64::from(SIDE * SIDE * 3)));
    for encoding in [Encoding::Fast, Encoding::Balanced, Encoding::Smallest] {
        let name = format!("png-recode {encoding:?}");
        group.bench_function(name, |bench| bench.iter(|| write(copy(&picture), encoding).expect("a file")));
    }
    group.bench_function("png Fast", |bench| bench.iter(|| to_png(black_box(&picture.pixels))));
}

/// The size that another compressor reaches for the same pixels shows what `Balanced` gives up.
fn compressing(criterion: &mut Criterion) {
    let pixels = tile().pixels;
    let mut group = criterion.benchmark_group("compress");
    group.bench_function("fdeflate", |bench| bench.iter(|| fdeflate::compress_to_vec(black_box(&pixels))));
    for level in [1, 6] {
        let level = libdeflater::CompressionLvl::new(level).expect("a level");
        let mut compressor = libdeflater::Compressor::new(level);
        let mut out = vec![0; compressor.zlib_compress_bound(pixels.len())];
        group.bench_function(format!("libdeflate {level:?}"), |bench| {
            bench.iter(|| compressor.zlib_compress(black_box(&pixels), &mut out).expect("room"));
        });
    }
}

criterion_group!(benches, reading, writing, compressing);
criterion_main!(benches);
