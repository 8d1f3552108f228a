//! The accountant's own tests, as far as they need no server: what is made up here must come out of
//! the account as what it is.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
// Modules are shared with other tests, and this uses a part of them.
#![allow(dead_code)]

#[path = "mod.rs"]
mod accounting;
#[path = "../pipeline/images.rs"]
mod images;
#[path = "../pipeline/port.rs"]
mod port;
#[path = "../pipeline/proxy.rs"]
mod proxy;

mod decoded;
mod history;
mod independent;
mod judged;
mod lots;
mod mixtures;
mod one_key;
mod overheard;
