//! A filter between the socket and lapin that checks the broker's frames before lapin parses them. It protects against
//! two faults of lapin 4.12.3 (with amq-protocol 10.6):
//!
//! - lapin parses a frame before it compares the frame's size with the negotiated maximum, and parses tables and
//!   arrays recursively: one frame of a hostile peer overflows the stack.
//! - lapin closes the connection on a content header with a short string that is not UTF-8, which RabbitMQ delivers.
//!   The broker then returns all messages of the prefetch window, at every attempt, until a quorum queue drops them.
//!
//! Body frames pass from the socket into lapin's buffer without inspection or copy. Only frames of methods and content
//! headers that arrive in pieces are assembled here.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures::io::{AsyncRead, AsyncWrite};

mod dialer;
mod frames;
mod methods;
mod table;
mod unreadable;

pub(super) use dialer::Dialer;
pub use frames::{Frames, Next, Refused, Version};
pub use unreadable::{LEFT_OUT, PROPERTIES, explain};

/// Maximum capacity that `held` keeps while it is empty: the size of the largest common frames.
const HELD_KEPT: usize = 16 << 10;

/// A stream whose reader receives only checked frames.
pub struct FrameFilter<S> {
    inner: S,
    frames: Frames,
    /// Bytes that were read from `inner` and not returned yet: first the checked bytes, then the unchecked bytes.
    held: Vec<u8>,
    /// Number of checked bytes at the beginning of `held`.
    judged: usize,
    /// Length that `held` must have before more bytes can be checked.
    needed: usize,
}

impl<S> FrameFilter<S> {
    /// Filters what is read from `inner`; writes pass through.
    pub fn new(inner: S, frames: Frames) -> Self {
        Self { inner, frames, held: Vec::new(), judged: 0, needed: 0 }
    }

    /// Copies checked bytes from `held`, and returns their number.
    fn give(&mut self, to: &mut [u8]) -> usize {
        let length = self.judged.min(to.len());
        if let (Some(to), Some(from)) = (to.get_mut(..length), self.held.get(..length)) {
            to.copy_from_slice(from);
        }
        self.held.drain(..length);
        self.judged -= length;
        if self.held.is_empty() && self.held.capacity() > HELD_KEPT {
            self.held = Vec::new();
        }
        length
    }

    /// Checks bytes that were just read into `to`. Returns the number of bytes that pass; the rest moves to `held`.
    fn judge(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let (given, next) = self.frames.judge(to).map_err(refused)?;
        let rest = to.get(given..).unwrap_or_default();
        self.needed = 0;
        match next {
            Next::Done => {}
            Next::Needs(needed) => {
                self.held.extend_from_slice(rest);
                self.needed = needed;
            }
            Next::Replaced { length, by } => {
                self.judged = by.len();
                self.held = by;
                self.held.extend_from_slice(rest.get(length..).unwrap_or_default());
            }
        }
        Ok(given)
    }

    /// Checks the bytes in `held`.
    fn judge_held(&mut self) -> io::Result<()> {
        let (passed, next) = self.frames.judge(&mut self.held).map_err(refused)?;
        self.judged = passed;
        self.needed = 0;
        match next {
            Next::Done => {}
            Next::Needs(needed) => self.needed = needed,
            Next::Replaced { length, by } => {
                self.judged += by.len();
                drop(self.held.splice(passed..passed + length, by));
            }
        }
        Ok(())
    }
}

fn refused(refused: Refused) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, refused)
}

impl<S: AsyncRead + Unpin> FrameFilter<S> {
    /// Reads the missing bytes of the frame in `held`.
    fn poll_rest(&mut self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let before = self.held.len();
        self.held.resize(self.needed, 0);
        let rest = self.held.get_mut(before..).unwrap_or_default();
        let read = Pin::new(&mut self.inner).poll_read(context, rest);
        let length = if let Poll::Ready(Ok(length)) = read { length } else { 0 };
        self.held.truncate(before + length);
        read
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for FrameFilter<S> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, to: &mut [u8]) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        loop {
            if this.judged > 0 || to.is_empty() {
                return Poll::Ready(Ok(this.give(to)));
            }
            let read = if this.held.is_empty() {
                let read = ready!(Pin::new(&mut this.inner).poll_read(context, to))?;
                let given = this.judge(to.get_mut(..read).unwrap_or_default())?;
                if given > 0 {
                    return Poll::Ready(Ok(given));
                }
                read
            } else if this.held.len() < this.needed {
                ready!(this.poll_rest(context))?
            } else {
                this.judge_held()?;
                continue;
            };
            // End of stream, even in the middle of a frame.
            if read == 0 {
                return Poll::Ready(Ok(0));
            }
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for FrameFilter<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, from: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(context, from)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        from: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(context, from)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_close(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_close(context)
    }
}

#[cfg(test)]
mod tests;
