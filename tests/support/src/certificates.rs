//! Certificates of an authority of the test's own, made by `openssl`. It must never make one that
//! outlives the tests by more than a day.

use std::path::PathBuf;
use std::process::Command;

use super::process::{directory, run, write};

/// An authority.
pub struct Authority {
    /// Its certificate, in PEM.
    pub certificate: String,
    directory: PathBuf,
}

/// A certificate of an authority's, with its key, in PEM.
pub struct Certificate {
    /// The certificate.
    pub chain: String,
    /// The key.
    pub key: String,
}

impl Authority {
    /// A new one of this name.
    pub fn new(name: &str) -> Self {
        let directory = directory("authority");
        let extensions = "basicConstraints = critical, CA:TRUE\nkeyUsage = critical, keyCertSign\n";
        let made = make(&directory, "ca", name, extensions, &[]);
        Self { certificate: made.chain, directory }
    }

    /// For a server of these names, as `subjectAltName` has them.
    pub fn server(&self, names: &str) -> Certificate {
        self.issue("broker", &format!("extendedKeyUsage = serverAuth\nsubjectAltName = {names}\n"))
    }

    /// For a client of this common name.
    pub fn client(&self, name: &str) -> Certificate {
        self.issue(name, "extendedKeyUsage = clientAuth\n")
    }

    fn issue(&self, name: &str, extensions: &str) -> Certificate {
        let extensions = format!("basicConstraints = CA:FALSE\n{extensions}");
        make(&self.directory, name, name, &extensions, &["-CA", "ca.crt", "-CAkey", "ca.key"])
    }
}

fn make(directory: &PathBuf, file: &str, name: &str, extensions: &str, by: &[&str]) -> Certificate {
    let (crt, key) = (format!("{file}.crt"), format!("{file}.key"));
    let settings = format!(
        "[req]\nprompt = no\ndistinguished_name = name\nx509_extensions = extensions\n\
         [name]\nCN = {name}\n[extensions]\n{extensions}"
    );
    write(&directory.join("settings"), settings);
    let mut command = Command::new("openssl");
    command.current_dir(directory).args(["req", "-x509", "-config", "settings", "-days", "1"]);
    command.args(["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-noenc", "-keyout", &key, "-out", &crt]);
    run(command.args(by));
    let read = |file: &str| std::fs::read_to_string(directory.join(file)).expect("what openssl has written");
    Certificate { chain: read(&crt), key: read(&key) }
}
