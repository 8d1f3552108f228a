//! Tests of the accountant that need no server: constructed histories must give the expected account.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
// The modules are shared with other tests, and these tests use a part of them.
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
