//! The accountant's own tests, as far as they need no server: what is made up here must come out of
//! the account as what it is.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod decoded;
mod history;
mod independent;
mod judged;
mod lots;
mod mixtures;
mod one_key;
mod overheard;
