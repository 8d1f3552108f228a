//! Tells the compiler which commit it compiles: `src/version.rs` hands it on. It must never fail a build,
//! nor run again, and with it the compiler, while neither the sources nor HEAD have changed.

use std::path::Path;
use std::process::Command;

/// What the program is made of.
const SOURCES: [&str; 4] = ["Cargo.lock", "Cargo.toml", "build.rs", "src"];
/// What git writes when HEAD becomes another commit, however it keeps references.
const REFERENCES: [&str; 4] = ["HEAD", "packed-refs", "refs/heads", "reftable"];

fn main() {
    // For a build that has no .git, as the Dockerfile's.
    let given = std::env::var("IMAGE_PIPELINE_REVISION").ok().filter(|given| !given.is_empty());
    // No tag matches, which leaves the commit's short hash.
    let revision = given.or_else(|| git(&["describe", "--always", "--dirty", "--exclude=*"]));
    println!("cargo:rustc-env=REVISION={}", revision.as_deref().unwrap_or("unknown"));

    println!("cargo:rerun-if-env-changed=IMAGE_PIPELINE_REVISION");
    let references = REFERENCES.iter().filter_map(|path| git(&["rev-parse", "--git-path", path]));
    for path in SOURCES.map(str::to_owned).into_iter().chain(references) {
        // One that is not there counts as changed each time.
        if Path::new(&path).exists() {
            println!("cargo:rerun-if-changed={path}");
        }
    }
}

/// What git says of the package's own checkout. Unpacked inside another repository it has none.
fn git(arguments: &[&str]) -> Option<String> {
    let package = std::env::current_dir().ok()?;
    let git = Command::new("git").args(arguments).env("GIT_CEILING_DIRECTORIES", package.parent()?).output().ok()?;
    let said = String::from_utf8(git.stdout).ok()?;
    git.status.success().then(|| said.trim().to_owned())
}
