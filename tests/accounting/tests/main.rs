//! Tests of the accountant that need no server: constructed histories must give the expected account.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod decoded;
mod history;
mod independent;
mod judged;
mod lots;
mod mixtures;
mod one_key;
mod overheard;
