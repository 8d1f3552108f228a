//! Places the Secrets of a manifest as a consumer pod would have them mounted: symbolic links to their directories, or
//! files with values from the environment. Secret files are linked, not copied, so that changes are seen.

use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::{fs, io};

use crate::api::ImagePipeline;
use crate::api::names::{self, SecretRole};

/// The environment variables that replace the broker's Secret, and their keys.
const BROKER_VARIABLES: [(&str, &str); 4] = [
    ("BROKER_HOST", "host"),
    ("BROKER_PORT", "port"),
    ("BROKER_USERNAME", "username"),
    ("BROKER_PASSWORD", "password"),
];

/// The error has the path that could not be created or removed.
pub type Placed = Result<(), (PathBuf, io::Error)>;

/// Creates below `there` an entry for each role of a Secret: a link to the Secret's directory in `here`, or files with
/// the values of `variable`. Replaces the entries of an earlier run.
pub fn place(pipeline: &ImagePipeline, here: &Path, there: &Path, variable: impl Fn(&str) -> Option<String>) -> Placed {
    // `there` is deleted below: refuse a path that would delete the Secrets themselves.
    let named = names::secrets(&pipeline.spec.source, &pipeline.spec.destination);
    if let (Ok(from), Ok(to)) = (fs::canonicalize(here), fs::canonicalize(there))
        && (from.starts_with(&to) || named.iter().any(|(_, secret)| to.starts_with(from.join(secret))))
    {
        return Err((
            to,
            io::Error::other(
                "this directory contains the Secrets (--secrets), or lies within one; choose another directory",
            ),
        ));
    }
    // Entries of an earlier run may be of Secrets that the manifest no longer names.
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

/// Writes the environment's values to files, readable by this user only: the consumer reads Secrets from files.
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

/// Creates a directory and its parents with mode 0700.
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
