//! The decoder process: reads one message from standard input, and writes one result to standard output. It has one
//! thread, uses no network and reads no Secret.

use std::io::{self, Read, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};

use bytes::Bytes;

use super::limits;
use super::protocol::{self, GO, Order, Report, SECONDS, Settings};
use crate::consumer::decode::{Decoder, Incoming, Job};
use crate::consumer::encode::{Header, Png, encode, inspect};
use crate::consumer::settle::Refusal;

/// Decodes one message.
///
/// # Errors
/// The consumer has closed a pipe or sent something else than the protocol allows, or a limit can't be set.
pub fn decode(input: &mut impl Read, output: &mut impl Write) -> io::Result<()> {
    let order: Order = protocol::read(input)?;
    let Settings { message, s3, max_body_bytes, .. } = &order.settings;
    let decoder = Decoder::new(message, s3, *max_body_bytes).map_err(io::Error::other)?;
    limits::expendable()?;
    limits::memory(protocol::memory_for_body(order.body_bytes))?;
    limits::seconds(2 * SECONDS + protocol::seconds_for(order.body_bytes))?;
    // The panic is reported as `Report::Panicked`. Its text may contain parts of the image, so it is not printed.
    std::panic::set_hook(Box::new(|_| {}));
    protocol::write(output, &Report::Ready)?;
    let body = Bytes::from(protocol::read_bytes(input, order.body_bytes)?);

    let (job, header) = match caught(|| read(&decoder, &order, body)) {
        Ok(read) => read,
        Err(report) => return protocol::write(output, &report),
    };
    let needs = header.bytes_needed().saturating_add(job.image.len() as u64);
    limits::memory(protocol::memory_for_image(needs))?;
    limits::seconds(2 * SECONDS + protocol::seconds_for(order.body_bytes) + protocol::seconds_for(needs))?;
    protocol::write(output, &Report::Needs(needs))?;
    let mut go = [0];
    input.read_exact(&mut go)?;
    if go != [GO] {
        return Err(io::Error::other("the consumer sent something else than GO"));
    }

    let (key, png) = match caught(|| make(&order, &job, &header)) {
        Ok(made) => made,
        Err(report) => return protocol::write(output, &report),
    };
    let bytes = png.bytes().len() as u64;
    protocol::write(output, &Report::Done { key, digest: (*png.digest()).into(), bytes })?;
    output.write_all(png.bytes())?;
    output.flush()
}

/// The image and its header. Drops the body before the image is decoded, to free its memory.
fn read(decoder: &Decoder, order: &Order, body: Bytes) -> Result<(Job, Header), Refusal> {
    let header = |name: &str| order.headers.get(name).cloned();
    let job = decoder.decode(&Incoming { body: &body, timestamp: order.timestamp, header: &header })?;
    let header = inspect(&job.image, order.settings.image.max_pixels)?;
    Ok((job, header))
}

fn make(order: &Order, job: &Job, header: &Header) -> Result<(String, Png), Refusal> {
    let png = encode(Bytes::clone(&job.image), header, &order.settings.image)?;
    let key = job.key(&png.digest().to_string())?;
    Ok((key.as_str().to_owned(), png))
}

fn caught<T>(work: impl FnOnce() -> Result<T, Refusal>) -> Result<T, Report> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(done) => done.map_err(Report::Refused),
        Err(_) => Err(Report::Panicked),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;
    use crate::reason::Reason;

    #[test]
    fn a_panic_is_reported_and_not_described() {
        let refusal = Refusal { reason: Reason::InvalidName, detail: "empty".to_owned() };
        assert_eq!(caught::<()>(|| panic!("pixels")).unwrap_err(), Report::Panicked);
        assert_eq!(caught::<()>(|| Err(refusal.clone())).unwrap_err(), Report::Refused(refusal));
        assert_eq!(caught(|| Ok(4)).unwrap(), 4);
    }
}
