//! The Secrets of a manifest, where a consumer pod would have them mounted: links to their directories by
//! name, or files with what the environment says. It must never make a copy of a file that may change.

use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::{fs, io};

use crate::api::ImagePipeline;
use crate::api::names::{self, SecretRole};

/// The variables that take the place of the broker's Secret, and the keys they stand for.
const BROKER_VARIABLES: [(&str, &str); 4] = [
    ("BROKER_HOST", "host"),
    ("BROKER_PORT", "port"),
    ("BROKER_USERNAME", "username"),
    ("BROKER_PASSWORD", "password"),
];

/// Done, or what could not be made and why.
pub type Placed = Result<(), (PathBuf, io::Error)>;

/// Makes, below `there`, what a pod has mounted: for each use of a Secret a way to its directory in `here`.
/// A link and no copy, so that a file that changes is seen.
///
/// # Errors
/// Something can't be made or removed.
pub fn place(pipeline: &ImagePipeline, here: &Path, there: &Path, variable: impl Fn(&str) -> Option<String>) -> Placed {
    // Never the Secrets themselves, wherever a person has the links made.
    let named = names::secrets(&pipeline.spec.source, &pipeline.spec.destination);
    if let (Ok(from), Ok(to)) = (fs::canonicalize(here), fs::canonicalize(there))
        && (from.starts_with(&to) || named.iter().any(|(_, secret)| to.starts_with(from.join(secret))))
    {
        return Err((to, io::Error::other("the Secrets (--secrets) are there, or around it; name another directory")));
    }
    // Of an earlier run, and of Secrets that are named no longer.
    match fs::remove_dir_all(there) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err((there.to_owned(), error)),
        _ => make_directory(there)?,
    }
    for (role, secret) in named {
        let place = there.join(role.as_str());
        match variable("BROKER_HOST").filter(|_| role == SecretRole::Broker) {
            Some(_) => write_broker(&place, &variable)?,
            None => symlink(fs::canonicalize(here).unwrap_or_else(|_| here.to_owned()).join(secret), &place)
                .map_err(|error| (place, error))?,
        }
    }
    Ok(())
}

/// The consumer reads files at every use, so what the environment says becomes files that only this user
/// can read.
fn write_broker(directory: &Path, variable: impl Fn(&str) -> Option<String>) -> Placed {
    make_directory(directory)?;
    for (name, key) in BROKER_VARIABLES {
        let Some(value) = variable(name) else { continue };
        let path = directory.join(key);
        let file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        file.and_then(|mut file| io::Write::write_all(&mut file, value.as_bytes())).map_err(|error| (path, error))?;
    }
    Ok(())
}

/// Makes a directory with its parents, for this user alone.
///
/// # Errors
/// It can't be made.
pub fn make_directory(path: &Path) -> Placed {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(|error| (path.to_owned(), error))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn pipeline() -> ImagePipeline {
        let spec = "
source: {rabbitmq: {queue: tiles, rabbitmqClusterReference: {name: rabbit}}}
destination: {s3: {bucket: tiles, credentialsSecret: {name: s3}}}";
        ImagePipeline::new("tiles", serde_yaml::from_str(spec).unwrap())
    }

    #[test]
    fn secrets_are_where_a_pod_has_them_and_change_with_their_files() {
        let (here, runtime) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let there = runtime.path().join("secrets");
        for secret in ["rabbit-default-user", "s3"] {
            fs::create_dir(here.path().join(secret)).unwrap();
        }
        fs::create_dir_all(there.join("of-before")).unwrap();
        place(&pipeline(), here.path(), &there, |_| None).unwrap();
        fs::write(here.path().join("rabbit-default-user/password"), "first").unwrap();
        assert_eq!(fs::read_to_string(there.join("broker/password")).unwrap(), "first");
        fs::write(here.path().join("rabbit-default-user/password"), "second").unwrap();
        assert_eq!(fs::read_to_string(there.join("broker/password")).unwrap(), "second");
        assert!(there.join("store").is_dir() && !there.join("of-before").exists());
    }

    #[test]
    fn secrets_that_are_where_links_are_to_be_are_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let here = directory.path().join("secrets");
        fs::create_dir_all(here.join("s3")).unwrap();
        fs::write(here.join("s3/key"), "value").unwrap();
        for there in [here.clone(), directory.path().to_owned(), here.join("s3")] {
            let (_, error) = place(&pipeline(), &here, &there, |_| None).unwrap_err();
            assert!(error.to_string().contains("--secrets"), "{error}");
            assert_eq!(fs::read_to_string(here.join("s3/key")).unwrap(), "value");
        }
    }

    #[test]
    fn the_environment_takes_the_place_of_the_brokers_secret_and_nobody_else_reads_it() {
        use std::os::unix::fs::PermissionsExt as _;
        let (here, runtime) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let there = runtime.path().join("secrets");
        let variable = |name: &str| (name != "BROKER_PORT").then(|| format!("of {name}"));
        place(&pipeline(), here.path(), &there, variable).unwrap();
        let password = there.join("broker/password");
        assert_eq!(fs::read_to_string(&password).unwrap(), "of BROKER_PASSWORD");
        assert_eq!(fs::metadata(&password).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(!there.join("broker/port").exists());
        assert!(fs::symlink_metadata(there.join("store")).unwrap().is_symlink());
    }
}
