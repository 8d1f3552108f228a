//! Version and commit of this build, for `--version`, logs and metrics; fixed at compile time.

pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Short commit hash, with `-dirty` if files differed from the commit, or `unknown`. Set by `build.rs`.
pub const REVISION: &str = env!("REVISION");

/// The output of `--version`.
pub const VERSION_AND_REVISION: &str = concat!(env!("CARGO_PKG_VERSION"), " (", env!("REVISION"), ")");

/// Labels of the metric `build_info`.
pub const LABELS: [(&str, &str); 2] = [("version", VERSION), ("revision", REVISION)];

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
mod tests {
    use std::path::Path;
    use std::process::Command;

    use super::*;

    /// Not compared with HEAD: somebody may commit while the tests run.
    #[test]
    fn in_a_checkout_the_revision_is_a_commit() {
        let git = |arguments: &[&str]| {
            let package = Path::new(env!("CARGO_MANIFEST_DIR"));
            let mut git = Command::new("git");
            git.env("GIT_CEILING_DIRECTORIES", package.parent().unwrap());
            git.args(arguments).current_dir(package).output()
        };
        let is_checkout = git(&["rev-parse", "HEAD"]).is_ok_and(|output| output.status.success());
        if !is_checkout {
            assert!(!REVISION.is_empty());
            return;
        }
        let commit = REVISION.trim_end_matches("-dirty");
        let known = git(&["cat-file", "-e", &format!("{commit}^{{commit}}")]).unwrap();
        assert!(known.status.success(), "{REVISION} is no commit: {}", String::from_utf8_lossy(&known.stderr));
    }
}
