//! What tests share that knows nothing of the product.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::path::Path;

pub mod api_server;
pub mod certificates;
pub mod eventually;
pub mod images;
pub mod page;
pub mod port;
pub mod process;
pub mod proxy;
pub mod tried;
pub mod usage;

/// The directory of the repository.
pub fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("this crate is two directories below it")
}
