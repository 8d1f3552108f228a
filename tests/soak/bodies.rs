//! The messages of the soak: small images of every kind, a few huge images, some images sent twice, and 5 % that
//! can never be stored, for different reasons. Seed, pipeline and number determine a message, and each message has
//! a known expected outcome.

use std::io::Cursor;
use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use fastrand::Rng;
use image::{ImageFormat, Rgb, RgbImage};
use serde_json::json;
use strum::IntoEnumIterator as _;

use super::plan::{FAIL, Plan};
use accounting::ledger::{Digest, Entry, Expectation, Key};
use accounting::pixels;
use support::images;

/// Percentage of bad messages.
const BAD_PERCENT: usize = 5;

/// One pair of messages in this many shares a name.
const PAIRS_PER_NAME: usize = 50;

/// One message in this many is huge.
const PER_HUGE: usize = 300;

/// Number of different small images.
const SMALL: u32 = 60;

/// Side length of a huge image, in pixels.
const HUGE_SIDE: u32 = 1000;

/// Reason for parking messages whose headers the consumer's library can't read.
const UNREADABLE: &str = "MessageUnreadable";

/// Side length, in pixels, of an image that crashes a consumer with too little memory. It has nearly `maxPixels`
/// pixels.
const CRASHING_SIDE: u32 = 7000;

/// Size of the pixels of such an image, in bytes.
pub const CRASHING_PIXELS: u64 = 3 * CRASHING_SIDE as u64 * CRASHING_SIDE as u64;

/// An image file, its base64 text, and the digest of its pixels.
struct Image {
    ending: String,
    file: Vec<u8>,
    encoded: String,
    pixels: Digest,
}

/// All images, made once.
pub struct Bodies {
    seed: u64,
    small: Vec<Image>,
    huge: Image,
    crashing: LazyLock<String>,
}

/// The defect of a bad message.
#[derive(Clone, Copy, Debug, strum::EnumIter, Eq, PartialEq)]
enum Bad {
    Json,
    Field,
    Base64,
    Truncated,
    NoImage,
    Name,
    TooLarge,
    Headers,
}

impl Image {
    fn new(ending: &str, file: Vec<u8>) -> Self {
        let (encoded, pixels) = (STANDARD.encode(&file), pixels::expected(&file).expect("an image of our own"));
        Self { ending: ending.to_owned(), file, encoded, pixels }
    }
}

impl Bodies {
    /// Makes the images for this seed.
    pub fn draw(seed: u64) -> Self {
        let small = images::samples(SMALL).into_iter().map(|sample| {
            let ending = sample.name.rsplit_once('.').expect("an ending").1.to_owned();
            Image::new(&ending, sample.file)
        });
        let huge = Image::new("png", noise(HUGE_SIDE));
        Self { seed, small: small.collect(), huge, crashing: LazyLock::new(|| STANDARD.encode(plain(CRASHING_SIDE))) }
    }

    /// The message with this number.
    pub fn message(&self, plan: &Plan, number: usize) -> (Entry, Vec<u8>) {
        let mut pair = self.random(plan, number / 2 * 2, 1);
        let mut random = self.random(plan, number, 2);
        if pair.usize(0..PAIRS_PER_NAME) == 0 {
            // The pair has the same image, except where the policy refuses a different image of the same name.
            let first = pair.usize(0..self.small.len());
            let other = if plan.on_conflict == FAIL { number % 2 * 15 } else { 0 };
            let image = &self.small[(first + other) % self.small.len()];
            let stem = format!("{:07}-both", number / 2 * 2);
            return self.good(plan, &stem, image);
        }
        if random.usize(0..100) < BAD_PERCENT {
            return self.bad(plan, number, &mut random);
        }
        let image = match random.usize(0..PER_HUGE) {
            0 => &self.huge,
            _ => random.choice(&self.small).expect("an image"),
        };
        self.good(plan, &format!("{number:07}"), image)
    }

    /// A huge image outside the numbered messages, with its own number.
    pub fn huge(&self, plan: &Plan, number: usize) -> (Entry, Vec<u8>) {
        self.good(plan, &format!("huge-{number:05}"), &self.huge)
    }

    /// An image that crashes a consumer with less free memory than its pixels need.
    pub fn crashing(&self, plan: &Plan, number: usize) -> (Entry, Vec<u8>) {
        let name = format!("crashing-{number:05}.jpg");
        let body = body(&name, &self.crashing);
        (Entry::bad(plan.name, plan.name, &name, "CrashingMessage"), body)
    }

    fn random(&self, plan: &Plan, number: usize, what: u64) -> Rng {
        let place = plan.name.bytes().fold(self.seed, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
        Rng::with_seed(place.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(number as u64 * 4 + what))
    }

    fn good(&self, plan: &Plan, stem: &str, image: &Image) -> (Entry, Vec<u8>) {
        let name = format!("{stem}.{}", image.ending);
        let mut entry = Entry::good(plan.name, plan.name, "", &name, image.pixels);
        if plan.key_template.contains("{digest}") {
            entry.key = Key::Around(format!("{stem}-"), ".png".to_owned());
        }
        if plan.on_conflict == FAIL && stem.ends_with("-both") {
            let reason = "ObjectExists".to_owned();
            entry.expectation = Expectation::FirstOfItsKey { pixels: image.pixels, reason };
        }
        (entry, body(&name, &image.encoded))
    }

    fn bad(&self, plan: &Plan, number: usize, random: &mut Rng) -> (Entry, Vec<u8>) {
        let all: Vec<Bad> = Bad::iter().collect();
        let (bad, name) = (*random.choice(&all).expect("a way"), format!("{number:07}-bad.png"));
        let image = &self.small[0];
        let good = body(&name, &image.encoded);
        let with = |file: &[u8]| body(&name, &STANDARD.encode(file));
        let (reason, body) = match bad {
            Bad::Json => ("InvalidJson", good[..good.len() - 1 - random.usize(0..20)].to_vec()),
            Bad::Field => ("MissingField", format!("{{\"image\": {:?}}}", image.encoded).into_bytes()),
            Bad::Base64 => ("InvalidBase64", body(&name, &image.encoded.replacen('A', "!", 1))),
            Bad::Truncated => ("InvalidImage", with(&image.file[..image.file.len() / 2])),
            Bad::NoImage => ("UnknownFormat", with(b"a line of text, and nothing that could be seen")),
            Bad::Name => ("InvalidName", body(&format!("../../{name}"), &image.encoded)),
            Bad::TooLarge => ("ImageTooLarge", with(&claims(&image.file, 16_384))),
            Bad::Headers => (UNREADABLE, good),
        };
        (Entry::bad(plan.name, plan.name, &name, reason), body)
    }
}

/// Whether the message must be published through the proxy that makes its headers unreadable.
pub fn has_unreadable_headers(entry: &Entry) -> bool {
    matches!(&entry.expectation, Expectation::Bad { reason } if reason == UNREADABLE)
}

fn body(name: &str, encoded: &str) -> Vec<u8> {
    serde_json::to_vec(&json!({ "image": encoded, "image_metadata": { "image_name": name } })).expect("JSON")
}

/// A PNG of noise with this side length, which does not compress.
fn noise(side: u32) -> Vec<u8> {
    let mut random = Rng::with_seed(1);
    let image = RgbImage::from_fn(side, side, |_, _| Rgb([random.u8(..), random.u8(..), random.u8(..)]));
    let mut file = Cursor::new(Vec::new());
    image.write_to(&mut file, ImageFormat::Png).expect("a PNG");
    file.into_inner()
}

/// A single-color JPEG with this side length. A JPEG is decoded whatever `spec.image.reencode` says.
fn plain(side: u32) -> Vec<u8> {
    let mut file = Cursor::new(Vec::new());
    RgbImage::from_pixel(side, side, Rgb([90, 120, 60])).write_to(&mut file, ImageFormat::Jpeg).expect("a JPEG");
    file.into_inner()
}

/// A PNG whose header claims a square of this side length.
fn claims(file: &[u8], side: u32) -> Vec<u8> {
    let mut file = file.to_vec();
    file[16..20].copy_from_slice(&side.to_be_bytes());
    file[20..24].copy_from_slice(&side.to_be_bytes());
    let sum = libdeflater::crc32(&file[12..29]);
    file[29..33].copy_from_slice(&sum.to_be_bytes());
    file
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::plan::PLANS;
    use super::*;

    #[test]
    fn a_seed_gives_the_same_messages_to_everybody() {
        let (one, other) = (Bodies::draw(7), Bodies::draw(7));
        for (plan, number) in PLANS.iter().zip([0, 1, 500, 12_345]) {
            let ((entry, body), (entry_again, body_again)) = (one.message(plan, number), other.message(plan, number));
            assert_eq!((entry.name, body), (entry_again.name, body_again));
        }
        let different = (0..100)
            .filter(|number| one.message(&PLANS[0], *number).1 != Bodies::draw(8).message(&PLANS[0], *number).1);
        assert!(different.count() > 90);
    }

    #[test]
    fn all_that_may_come_comes() {
        let bodies = Bodies::draw(1);
        for plan in &PLANS {
            let messages: Vec<_> = (0..4000).map(|number| bodies.message(plan, number)).collect();
            let reason = |(entry, _): &(Entry, Vec<u8>)| match &entry.expectation {
                Expectation::Bad { reason } => Some(reason.clone()),
                _ => None,
            };
            let reasons: BTreeSet<_> = messages.iter().filter_map(reason).collect();
            assert_eq!(reasons.len(), 8, "{reasons:?}");
            let bad = messages.iter().filter(|(entry, _)| entry.pixels().is_none()).count();
            assert!((150..250).contains(&bad), "{bad} of 4000 are bad");
            assert!(messages.iter().any(|(_, body)| body.len() > 1 << 20), "a huge one");
            let names: BTreeSet<_> = messages.iter().map(|(entry, _)| &entry.name).collect();
            assert!(names.len() < messages.len() || plan.on_conflict == FAIL, "some names are sent twice");
            let twice = messages.iter().filter(|(entry, _)| entry.name.contains("-both"));
            let refused = |entry: &Entry| matches!(entry.expectation, Expectation::FirstOfItsKey { .. });
            assert!(twice.clone().count() > 20);
            assert!(twice.clone().all(|(entry, _)| refused(entry) == (plan.on_conflict == FAIL)));
        }
    }
}
