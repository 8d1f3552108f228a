//! What became of one selected message.

/// The outcome for a selected message.
#[derive(Debug, Eq, PartialEq)]
pub enum Disposal {
    /// Listed or saved.
    Seen,
    /// The text to print.
    Shown(String),
    /// Redriven to this queue, or dropped (`None`). In a dry run, it would have been.
    Done(Option<String>),
    /// Not redriven: the source queue is unknown.
    Unknown,
    /// Not redriven: redriven too often before.
    TooOften,
}
